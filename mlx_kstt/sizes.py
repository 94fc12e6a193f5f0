"""How many bytes a model has, and how many of them a decoder step reads.

In: an `SttConfig`, and the bytes of the decoder's floats (2 in bfloat16 and float16). Out: counts. Knows nothing of
files: it is all arithmetic, and says the same of a model that nobody has made yet.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from typing import cast

import mlx.core as mx
from mlx.utils import tree_flatten

from .config import DecoderConfig, MimiConfig, SttConfig
from .mimi import Mimi
from .mlx_thread import on_mlx_thread
from .quantization import EMBEDDING, HEAD, PAUSE_HEADS, Plan, QuantFormat

_CODEC_FLOAT_BYTES = 4  # float32, whatever the decoder is in (facts sheet 2.6)
_UNITS = (("GB", 1e9), ("MB", 1e6), ("kB", 1e3))


@dataclass(frozen=True, slots=True)
class StepBytes:
    """What one decoder step reads from memory, in bytes.

    Attributes:
        weights: every matrix and norm of the decoder once, and the gathered rows of the embedding.
        rings: keys and values at full context.
    """

    weights: int
    rings: int

    @property
    def total(self) -> int:
        """Both."""
        return self.weights + self.rings

    def seconds(self, bandwidth: float) -> float:
        """The time below which no step can come, from a memory that gives `bandwidth` GB/s."""
        return self.total / (bandwidth * 1e9)


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a model: its parameters, and the bytes that they take."""

    parameters: int
    bytes: int


def human_size(size: int) -> str:
    """Bytes as the hub says them: "2.4 GB"."""
    for unit, scale in _UNITS:
        if size >= scale:
            return f"{size / scale:.1f} {unit}"
    return f"{size} bytes"


def step_bytes(config: SttConfig, float_bytes: int) -> StepBytes:
    """Bytes that one decoder step of one stream reads, caches full.

    Args:
        config: of the model, with its quantisation.
        float_bytes: of the decoder's floats.
    """
    decoder, plan = config.decoder, config.quantization
    gathered = {EMBEDDING: (decoder.codebooks + 1, decoder.transformer.dim)}
    matrices = _matrices(decoder) | gathered
    norms = _layer_norms(decoder) + decoder.transformer.dim
    weights = sum(_matrix_bytes(shape, plan.get(name), float_bytes) for name, shape in matrices.items())
    return StepBytes(weights + float_bytes * norms, float_bytes * _ring_values(decoder))


def model_parts(config: SttConfig, float_bytes: int) -> dict[str, Part]:
    """Parameters and bytes of "codec", "embedding", "layers" and "heads"; the last norm counts with the heads.

    Args:
        config: of the model, with its quantisation.
        float_bytes: of the decoder's floats; the codec is in float32.
    """
    decoder, plan = config.decoder, config.quantization
    matrices = _matrices(decoder)
    heads = {name: matrices.pop(name) for name in (HEAD, PAUSE_HEADS) if name in matrices}
    embedding = {EMBEDDING: matrices.pop(EMBEDDING)}
    codec = _codec_parameters(config.codec)
    return {
        "codec": Part(codec, _CODEC_FLOAT_BYTES * codec),
        "embedding": _part(embedding, 0, plan, float_bytes),
        "layers": _part(matrices, _layer_norms(decoder), plan, float_bytes),
        "heads": _part(heads, decoder.transformer.dim, plan, float_bytes),
    }


def _part(matrices: Mapping[str, tuple[int, int]], norms: int, plan: Plan, float_bytes: int) -> Part:
    size = sum(_matrix_bytes(shape, plan.get(name), float_bytes) for name, shape in matrices.items())
    return Part(sum(map(prod, matrices.values())) + norms, size + norms * float_bytes)


def _matrices(config: DecoderConfig) -> dict[str, tuple[int, int]]:
    """Outputs and inputs of each layer that can be quantised."""
    inner = config.transformer
    outputs = {
        "embedding": config.vocabulary + 1 + config.codebooks * (config.codebook_size + 1),
        "qkv": 3 * inner.heads * inner.head_dim,
        "out": inner.dim,
        "gate_up": 2 * inner.ffn,
        "down": inner.dim,
        "head": config.vocabulary,
        "pause_heads": config.pause_heads * config.pause_classes,
    }
    return {name: (outputs[name.rpartition(".")[2]], inputs) for name, inputs in config.layers().items()}


def _matrix_bytes(shape: tuple[int, int], format: QuantFormat | None, float_bytes: int) -> int:
    """Affine groups have a scale and a bias, which are floats; the others have a scale of one byte."""
    values = prod(shape)
    if format is None:
        return values * float_bytes
    of_group = 2 * float_bytes if format.mode == "affine" else 1
    return values * format.bits // 8 + values // format.group_size * of_group


def _layer_norms(config: DecoderConfig) -> int:
    return 2 * config.transformer.layers * config.transformer.dim


def _ring_values(config: DecoderConfig) -> int:
    inner = config.transformer
    return 2 * inner.layers * inner.context * inner.heads * inner.head_dim


@on_mlx_thread
def _codec_parameters(config: MimiConfig) -> int:
    """Counted on a codec that is never evaluated."""
    tensors = cast("list[tuple[str, mx.array]]", tree_flatten(Mimi(config).parameters()))
    return sum(tensor.size for _, tensor in tensors)
