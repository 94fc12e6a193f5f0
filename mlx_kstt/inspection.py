"""What a checkpoint is, told by its config and the headers of its files: no tensor is read.

In: a folder. Out: an `Inspection`. Knows nothing of how it is shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from safetensors import safe_open

from .checkpoints import Checkpoint, read_checkpoint
from .config import DecoderConfig
from .quantization import EMBEDDING, HEAD, PAUSE_HEADS, Plan, QuantFormat
from .sizes import Part, StepBytes, model_parts, step_bytes
from .tokenizer import open_tokenizer

DTYPE = "bfloat16"
"""What the decoder's floats are counted in: it is what they are by default on a GPU, whatever is stored."""
_FLOAT_BYTES = 2

_SUBLAYERS = {"attention": ("qkv", "out"), "mlp": ("gate_up", "down")}
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}


@dataclass(frozen=True, slots=True)
class Inspection:
    """What a checkpoint is.

    Attributes:
        checkpoint: its layout, config and files.
        disk: bytes of the files with weights, unread parts of the codec included.
        dtypes: the floats that are stored, by "decoder" and "codec".
        parts: parameters and bytes once loaded, see `sizes.model_parts`.
        step: what a decoder step reads.
        tokenizer: kind of its file.
        pieces: of the tokenizer's vocabulary.
    """

    checkpoint: Checkpoint
    disk: int
    dtypes: Mapping[str, tuple[str, ...]]
    parts: Mapping[str, Part]
    step: StepBytes
    tokenizer: str
    pieces: int


def inspect_checkpoint(folder: Path, *, delay: float | None, prefix: float | None) -> Inspection:
    """Inspect a folder.

    Args:
        folder: of the checkpoint.
        delay, prefix: seconds, where the checkpoint does not say.

    Raises:
        CheckpointError: something is missing, damaged, unknown or unsafe; the message names it.
    """
    checkpoint = read_checkpoint(folder, delay=delay, prefix=prefix)
    return Inspection(
        checkpoint,
        disk=sum(path.stat().st_size for path in checkpoint.weights),
        dtypes=_stored_floats(checkpoint),
        parts=model_parts(checkpoint.config, _FLOAT_BYTES),
        step=step_bytes(checkpoint.config, _FLOAT_BYTES),
        tokenizer="tokenizer.json" if checkpoint.tokenizer.suffix == ".json" else "SentencePiece",
        pieces=open_tokenizer(checkpoint.tokenizer, checkpoint.config.decoder.vocabulary).size,
    )


def format_groups(config: DecoderConfig, plan: Plan) -> list[tuple[str, QuantFormat | None]]:
    """The formats of a decoder, neighbouring layers with equal ones together: ("layers 0-15 attention", ...)."""
    groups = [("embedding", plan.get(EMBEDDING))]
    for sublayer, names in _SUBLAYERS.items():
        groups += _runs(config.transformer.layers, sublayer, names, plan)
    groups.append(("head", plan.get(HEAD)))
    return groups + ([("pause heads", plan.get(PAUSE_HEADS))] if config.pause_heads else [])


def _runs(layers: int, sublayer: str, names: tuple[str, ...], plan: Plan) -> Iterator[tuple[str, QuantFormat | None]]:
    def formats(layer: int) -> list[QuantFormat | None]:
        return [plan.get(f"decoder.transformer.layers.{layer}.{sublayer}.{name}") for name in names]

    for chosen, run in groupby(range(layers), formats):
        first, *others = run
        span = f"layers {first}-{others[-1]}" if others else f"layer {first}"
        if len(set(chosen)) == 1:
            yield f"{span} {sublayer}", chosen[0]
        else:
            yield from ((f"{span} {sublayer}.{name}", format) for name, format in zip(names, chosen, strict=True))


def _stored_floats(checkpoint: Checkpoint) -> dict[str, tuple[str, ...]]:
    """Integers, which quantised weights are packed in, are left out."""
    codes: dict[str, str] = {}
    for path in checkpoint.weights:
        with safe_open(path, framework="numpy") as file:
            codes |= {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    stored: dict[str, set[str]] = {"decoder": set(), "codec": set()}
    for rule in checkpoint.rules:
        stored[rule.target.partition(".")[0]] |= {codes[name] for name, _ in rule.sources}
    return {part: tuple(sorted(_FLOATS[code] for code in found & _FLOATS.keys())) for part, found in stored.items()}
