"""Loading a model: a checkpoint's folder or name to something that transcribes.

In: a name, a folder, and how to run it. Out: a `Transcriber`. Knows nothing of sound.
"""

from __future__ import annotations

import sys
from pathlib import Path

import mlx.core as mx

from .checkpoints import find_checkpoint, read_checkpoint
from .config import MOST_SECONDS
from .engine import Engine
from .errors import CheckpointError, OptionError
from .mlx_thread import on_mlx_thread
from .quantization import Recipe
from .tokenizer import open_tokenizer
from .transcriber import Transcriber
from .weights import load_model

DEFAULT_MODEL = "kyutai/stt-1b-en_fr-candle"
"""Has pause heads, and runs in real time from an M1 on."""

_DTYPES = {"float32": mx.float32, "bfloat16": mx.bfloat16, "float16": mx.float16}


def load(
    model: str | Path = DEFAULT_MODEL,
    *,
    dtype: str | None = None,
    quantize: str | Recipe | None = None,
    revision: str | None = None,
    offline: bool = False,
    delay: float | None = None,
    prefix: float | None = None,
) -> Transcriber:
    """Load a Kyutai speech-to-text checkpoint of any published layout.

    Args:
        model: an existing folder, a hub repo such as "kyutai/stt-2.6b-en-trfs", or "tiny": the bundled demonstration
            model.
        dtype: of the decoder: "bfloat16", "float16" or "float32"; by default bfloat16 on a GPU and float32 on the CPU.
        quantize: a preset ("q4", "q8", "mixed_4_8") or a recipe: quantise the decoder while loading. What
            `mlx_kstt.convert` writes is the same, loads faster and needs less memory to load.
        revision: branch, tag or commit of the hub repo.
        offline: never use the network. A model in the cache is loaded without it in any case.
        delay: seconds by which the text runs behind the audio, where the checkpoint does not say.
        prefix: seconds of silence that the model expects before the audio, where the checkpoint does not say.

    Raises:
        CheckpointError: the checkpoint is missing, damaged, of an unknown layout, or unsafe to open.
        HubError: the hub cannot be reached or does not have it.
        OptionError: an option has a value that it cannot have.
    """
    precision = checked_dtype(dtype)
    for name, seconds in (("delay", delay), ("prefix", prefix)):
        if seconds is not None and not 0 <= seconds <= MOST_SECONDS:
            raise OptionError(f"{name} is {seconds}; it must be between 0 and {MOST_SECONDS:g} seconds")
    folder = find_checkpoint(model, revision=revision, offline=offline, announce=print_to_stderr)
    return _load_folder(folder, precision, quantize, delay, prefix)


@on_mlx_thread
def _load_folder(
    folder: Path, dtype: mx.Dtype | None, quantize: str | Recipe | None, delay: float | None, prefix: float | None
) -> Transcriber:
    checkpoint = read_checkpoint(folder, delay=delay, prefix=prefix)
    if quantize is not None and checkpoint.config.quantization:
        raise CheckpointError(f"{folder} is quantised already: leave quantize out, or load what it was made of")
    on_cpu = mx.default_device() == mx.Device(mx.cpu)
    dtype = dtype or (mx.float32 if on_cpu else mx.bfloat16)
    model, config = load_model(checkpoint, dtype, checkpoint.config.decoder.plan(quantize))
    tokenizer = open_tokenizer(checkpoint.tokenizer, config.decoder.vocabulary)
    return Transcriber(Engine(model, config, compiled=not on_cpu), config, tokenizer)


def checked_dtype(name: str | None) -> mx.Dtype | None:
    """The dtype of this name.

    Raises:
        OptionError: it is none that a decoder can run in.
    """
    if name is not None and name not in _DTYPES:
        raise OptionError(f"dtype is {name!r}; it must be one of {', '.join(_DTYPES)}")
    return _DTYPES[name] if name else None


def print_to_stderr(message: str) -> None:
    """Where news goes unless the caller says otherwise."""
    print(message, file=sys.stderr)
