"""One checkpoint, quantised in one way after the other.

In: a checkpoint with full weights, recordings, plans. Out: how close each plan stays to the full weights. The weights
stay in memory as they are stored, beside one quantised model at a time. Knows nothing of how plans are chosen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import mlx.core as mx
import mlx.nn as nn

from .checkpoints import Checkpoint
from .distances import Share
from .engine import Engine, Model
from .mlx_thread import on_mlx_thread
from .prove import FLOAT_BYTES, forced_divergence, forced_shares, free_memory, hear
from .quantization import Plan
from .samples import Sample, read_excerpts
from .sizes import step_bytes
from .tokenizer import open_tokenizer
from .transcriber import Transcriber
from .weights import read_tensors


@dataclass(frozen=True, slots=True)
class Trial:
    """What a plan costs.

    Attributes:
        name: of the recipe, or of what alone is quantised.
        plan: format of each quantised layer.
        agreement: positions at which the likeliest text id is the source's, teacher-forced.
        divergence: of the text distribution from the source's, mean, in nats per frame.
        step_bytes: of the weights that a decoder step reads.
    """

    name: str
    plan: Plan
    agreement: Share
    divergence: float
    step_bytes: int


class Trials:
    """Runs plans.

    Args:
        checkpoint: with full weights.
        samples: recordings to measure with.
        announce: called with a sentence on each trial.

    Raises:
        AudioError: a recording cannot be read.
        OptionError: there is no recording.
    """

    def __init__(self, checkpoint: Checkpoint, samples: Sequence[Sample], announce: Callable[[str], None]) -> None:
        self._config = checkpoint.config
        self._tokenizer = open_tokenizer(checkpoint.tokenizer, checkpoint.config.decoder.vocabulary)
        self._tensors = _stored_tensors(checkpoint)
        self._announce = announce
        source = self.load({})
        self._heard = [hear(source, excerpt) for excerpt in read_excerpts(samples, checkpoint.config)]
        del source
        free_memory()

    def run(self, name: str, plan: Plan) -> Trial:
        """Measure a plan, and tell about it."""
        stt = self.load(plan)
        logits = [stt.forward(heard.codes, heard.tokens[:-1]) for heard in self._heard]
        del stt
        free_memory()
        expected = [heard.logits for heard in self._heard]
        agreement, _ = forced_shares(expected, logits)
        divergence = float(forced_divergence(expected, logits).mean())
        self._announce(f"{name}: {agreement} of the text ids are the source's")
        return Trial(name, plan, agreement, divergence, self.step_bytes(plan))

    def step_bytes(self, plan: Plan) -> int:
        """Bytes of the weights that a decoder step reads with a plan."""
        return step_bytes(replace(self._config, quantization=plan), FLOAT_BYTES).weights

    @on_mlx_thread
    def load(self, plan: Plan) -> Transcriber:
        """The model, quantised by a plan as `load` would; weights that stay as they are are shared."""
        on_cpu = mx.default_device() == mx.Device(mx.cpu)
        model = Model(self._config)
        model.load_weights(self._tensors, strict=True)
        formats = {name: asdict(format) for name, format in plan.items()}
        nn.quantize(model, class_predicate=lambda name, _: formats.get(name, False))
        model.decoder.set_dtype(mx.float32 if on_cpu else mx.bfloat16)
        mx.eval(model.parameters())
        config = replace(self._config, quantization=plan)
        return Transcriber(Engine(model, config, compiled=not on_cpu), config, self._tokenizer)


@on_mlx_thread
def _stored_tensors(checkpoint: Checkpoint) -> list[tuple[str, mx.array]]:
    return list(read_tensors(checkpoint, {}, None))
