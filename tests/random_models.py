"""Small random models of the Kyutai STT architecture, as tensors under the original names.

In: a `Spec` (sizes; its name seeds all values). Out: float32 tensors as in the original checkpoints. The values are
chosen so that a wrong model gives wrong answers: biases and norms are not trivial, attention is peaked, layer scales
are about 0.5, codebooks are used all over. Knows nothing of files, mlx_kstt, torch or transformers.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np
from hashed import normal, uniform

Tensors = dict[str, np.ndarray]

RATIOS = (4, 5, 6, 8)
KERNEL, LAST_KERNEL, RESIDUAL_KERNEL, COMPRESS = 7, 3, 3, 2
PAUSE_HEADS, PAUSE_CLASSES = 4, 6
CODEC_ROPE_BASE = 10_000.0


@dataclass(frozen=True)
class CodecSpec:
    """Sizes of the codec; `stored_codebooks` may exceed what the decoder hears (original layouts only).

    `scale` is the size of the first codebook's entries of each branch, that of the next ones falls by `decay`.
    """

    heads: int
    head_dim: int
    layers: int
    ffn: int
    context: int
    filters: int
    stored_codebooks: int
    codebook_dim: int
    scale: float
    decay: float

    @property
    def dim(self) -> int:
        """Channels of the codec's transformer."""
        return self.heads * self.head_dim


@dataclass(frozen=True)
class Spec:
    """A whole model; every value of every tensor follows from it."""

    name: str
    codec: CodecSpec
    heads: int
    head_dim: int
    layers: int
    hidden_scale: float
    context: int
    rope_base: float
    text_card: int
    codebooks: int
    card: int
    tokenizer: str
    delay: float
    prefix: float
    frames: int

    @property
    def dim(self) -> int:
        """Channels of the decoder."""
        return self.heads * self.head_dim

    @property
    def ffn(self) -> int:
        """Width of each half of the gated feed-forward part, by the original code's rule."""
        width = int(self.hidden_scale * self.dim)
        return 21 * self.dim // 8 if width == 4 * self.dim else 2 * width // 3


# Sizes are odd on purpose; both windows are shorter than the audio (2 codec positions per frame). Two models share
# their windows because MLX compiles C++ for each on the CPU, which takes seconds on a fresh machine.
SPECS = (
    Spec(
        "odd",
        CodecSpec(3, 32, 2, 201, context=23, filters=4, stored_codebooks=32, codebook_dim=24, scale=2.0, decay=0.96),
        heads=3,
        head_dim=32,
        layers=3,
        hidden_scale=257.5 / 96,
        context=37,
        rope_base=100_000.0,
        text_card=301,
        codebooks=32,
        card=64,
        tokenizer="unigram",
        delay=0.5,
        prefix=0.0,
        frames=125,
    ),
    Spec(
        "shallow",
        CodecSpec(1, 64, 1, 129, context=23, filters=3, stored_codebooks=7, codebook_dim=17, scale=2.0, decay=0.8),
        heads=2,
        head_dim=64,
        layers=1,
        hidden_scale=4.0,
        context=37,
        rope_base=10_000.0,
        text_card=531,
        codebooks=5,
        card=128,
        tokenizer="bpe",
        delay=2.5,
        prefix=1.0,
        frames=100,
    ),
    Spec(
        "wide",
        CodecSpec(2, 64, 3, 256, context=250, filters=5, stored_codebooks=9, codebook_dim=32, scale=2.0, decay=0.9),
        heads=5,
        head_dim=32,
        layers=2,
        hidden_scale=4.125,
        context=75,
        rope_base=100_000.0,
        text_card=389,
        codebooks=9,
        card=32,
        tokenizer="unigram",
        delay=0.5,
        prefix=0.0,
        frames=150,
    ),
)


def decoder_tensors(spec: Spec) -> Tensors:
    """The decoder under the original names."""
    name, dim = f"{spec.name} decoder", spec.dim
    spread = (1 + spec.codebooks) ** -0.5
    tensors = {"text_emb.weight": normal(f"{name} text", (spec.text_card + 1, dim), 2 * spread)}
    for k in range(spec.codebooks):
        tensors[f"emb.{k}.weight"] = normal(f"{name} emb {k}", (spec.card + 1, dim), spread)
    for i in range(spec.layers):
        tensors |= _decoder_layer(f"{name} layer {i}", f"transformer.layers.{i}.", dim, spec.ffn)
    tensors["out_norm.alpha"] = normal(f"{name} out", (1, 1, dim), 0.2, 1.0)
    tensors["text_linear.weight"] = _linear(f"{name} linear", spec.text_card, dim, 2.0)
    return tensors


def pause_head_tensors(spec: Spec) -> Tensors:
    """The pause heads that only -candle checkpoints carry."""
    shapes = [(f"extra_heads.{h}.weight", PAUSE_CLASSES) for h in range(PAUSE_HEADS)]
    return {key: _linear(f"{spec.name} {key}", classes, spec.dim, 2.0) for key, classes in shapes}


def codec_tensors(spec: Spec) -> Tensors:
    """The codec under the original names; of its decoder half only a few tensors, which nobody may read."""
    name, codec = f"{spec.name} codec", spec.codec
    tensors = _seanet(f"{name} seanet", codec.filters, codec.dim)
    for i in range(codec.layers):
        tensors |= _codec_layer(f"{name} layer {i}", f"encoder_transformer.transformer.layers.{i}.", codec)
    tensors["downsample.conv.conv.conv.weight"] = _downsample(f"{name} downsample", codec.dim)
    tensors |= _branch(f"{name} first", "quantizer.rvq_first.", spec, 1)
    tensors |= _branch(f"{name} rest", "quantizer.rvq_rest.", spec, codec.stored_codebooks - 1)
    return tensors | _decoder_half(name, codec.dim, codec.filters << len(RATIOS))


def _linear(name: str, outputs: int, inputs: int, gain: float = 1.0) -> np.ndarray:
    return normal(name, (outputs, inputs), gain * inputs**-0.5)


def _conv(name: str, prefix: str, shape: tuple[int, int, int], gain: float = 1.0) -> Tensors:
    weight = normal(f"{name} weight", shape, gain * prod(shape[1:]) ** -0.5)
    return {f"{prefix}conv.conv.weight": weight, f"{prefix}conv.conv.bias": normal(f"{name} bias", shape[:1], 0.1)}


def _decoder_layer(name: str, prefix: str, dim: int, ffn: int) -> Tensors:
    """Queries and keys are large, so that attention is peaked and a wrong window shows."""
    qkv = [_linear(f"{name} {part}", dim, dim, gain) for part, gain in (("q", 1.6), ("k", 1.6), ("v", 1.0))]
    return {
        f"{prefix}norm1.alpha": normal(f"{name} norm1", (1, 1, dim), 0.2, 1.0),
        f"{prefix}norm2.alpha": normal(f"{name} norm2", (1, 1, dim), 0.2, 1.0),
        f"{prefix}self_attn.in_proj_weight": np.concatenate(qkv),
        f"{prefix}self_attn.out_proj.weight": _linear(f"{name} out", dim, dim, 1.5),
        f"{prefix}gating.linear_in.weight": _linear(f"{name} in", 2 * ffn, dim, 1.5),
        f"{prefix}gating.linear_out.weight": _linear(f"{name} down", dim, ffn),
    }


def _seanet(name: str, filters: int, dim: int) -> Tensors:
    """The convolution stack; the first one lifts quiet audio to values of order one."""
    tensors = _conv(f"{name} 0", "encoder.model.0.", (filters, 1, KERNEL), 6.0)
    channels = filters
    for stage, ratio in enumerate(RATIOS):
        block, inner = f"encoder.model.{3 * stage + 1}.block.", channels // COMPRESS
        tensors |= _conv(f"{name} {stage} a", f"{block}1.", (inner, channels, RESIDUAL_KERNEL), 1.3)
        tensors |= _conv(f"{name} {stage} b", f"{block}3.", (channels, inner, 1), 0.7)
        down = f"encoder.model.{3 * stage + 3}."
        tensors |= _conv(f"{name} {stage} down", down, (2 * channels, channels, 2 * ratio), 1.3)
        channels *= 2
    return tensors | _conv(f"{name} last", f"encoder.model.{3 * len(RATIOS) + 2}.", (dim, channels, LAST_KERNEL), 1.3)


def _codec_layer(name: str, prefix: str, codec: CodecSpec) -> Tensors:
    dim = codec.dim
    tensors = {
        f"{prefix}self_attn.in_proj_weight": np.concatenate(
            [_linear(f"{name} {part}", dim, dim, gain) for part, gain in (("q", 1.6), ("k", 1.6), ("v", 1.5))]
        ),
        f"{prefix}self_attn.out_proj.weight": _linear(f"{name} out", dim, dim, 1.5),
        f"{prefix}linear1.weight": _linear(f"{name} up", codec.ffn, dim, 1.5),
        f"{prefix}linear2.weight": _linear(f"{name} down", dim, codec.ffn, 4.0),
    }
    for part in ("norm1", "norm2"):
        tensors[f"{prefix}{part}.weight"] = normal(f"{name} {part}", (dim,), 0.2, 1.0)
        tensors[f"{prefix}{part}.bias"] = normal(f"{name} {part} bias", (dim,), 0.2)
    for part in ("layer_scale_1", "layer_scale_2"):
        tensors[f"{prefix}{part}.scale"] = normal(f"{name} {part}", (dim,), 0.15, 0.5)
    return tensors


def _downsample(name: str, dim: int) -> np.ndarray:
    """Taps that nearly cancel: what all frames share goes away, so that codes tell the frames apart."""
    taps = normal(name, (dim, dim, 2), dim**-0.5)
    return np.concatenate([taps, -taps], axis=2) + normal(f"{name} rest", (dim, dim, 4), 0.1 * dim**-0.5)


def _branch(name: str, prefix: str, spec: Spec, codebooks: int) -> Tensors:
    """One residual quantiser: its projections and its codebooks as sums and usage counts."""
    codec = spec.codec
    tensors = {
        f"{prefix}input_proj.weight": _linear(f"{name} in", codec.codebook_dim, codec.dim)[:, :, None],
        f"{prefix}output_proj.weight": _linear(f"{name} out", codec.dim, codec.codebook_dim)[:, :, None],
    }
    for j in range(codebooks):
        key, size = f"{prefix}vq.layers.{j}._codebook.", codec.scale * codec.decay**j
        table = normal(f"{name} table {j}", (spec.card, codec.codebook_dim), size)
        usage = uniform(f"{name} usage {j}", (spec.card,), 0.3, 30.0)
        # A hardly used entry: its count is below the floor of 1e-5 that readers divide by.
        usage[j % spec.card] = 1e-6
        tensors[f"{key}embedding_sum"] = table * np.maximum(usage, np.float32(1e-5))[:, None]
        tensors[f"{key}cluster_usage"] = usage
        tensors[f"{key}_initialized"] = np.ones(1, np.float32)
    return tensors


def _decoder_half(name: str, dim: int, channels: int) -> Tensors:
    return {
        "decoder.model.0.conv.conv.weight": normal(f"{name} decoder", (channels, dim, KERNEL)),
        "decoder.model.0.conv.conv.bias": normal(f"{name} decoder bias", (channels,)),
        "decoder.model.2.convtr.convtr.weight": normal(f"{name} decoder up", (channels, channels // 2, 16)),
        "decoder_transformer.transformer.layers.0.self_attn.in_proj_weight": _linear(f"{name} tr", 3 * dim, dim),
        "decoder_transformer.transformer.layers.0.layer_scale_1.scale": normal(f"{name} scale", (dim,)),
        "upsample.convtr.convtr.convtr.weight": normal(f"{name} upsample", (dim, 1, 4)),
    }
