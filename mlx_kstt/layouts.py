"""Which foreign tensors make which of ours, for each published layout: tables, and no arithmetic beyond reshaping.

In: an `SttConfig`. Out: rules that name each tensor of ours, the foreign ones that it is made of with their shapes,
and how. Knows nothing of files. Source: facts sheet 4.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import mlx.core as mx

from .config import DecoderConfig, MimiConfig, SttConfig, TransformerConfig

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """One tensor of ours.

    Attributes:
        target: its name.
        sources: the foreign tensors it is made of, with their shapes.
        build: makes it of them, in this order.
    """

    target: str
    sources: tuple[tuple[str, Shape], ...]
    build: Callable[..., mx.array]


def _same(x: mx.array) -> mx.array:
    return x


def _flat(x: mx.array) -> mx.array:
    return x.reshape(-1)


def _stack_rows(*parts: mx.array) -> mx.array:
    return mx.concatenate(list(parts), axis=0)


def _without_last_row(x: mx.array) -> mx.array:
    return x[:-1]


def _channels_last(x: mx.array) -> mx.array:
    """Convolution weights (out, in, kernel) -> (out, kernel, in)."""
    return x.transpose(0, 2, 1)


def _pointwise(x: mx.array) -> mx.array:
    """A convolution of kernel 1 is a linear layer: (out, in, 1) -> (out, in)."""
    return x[:, :, 0]


def _scale_rows(x: mx.array, scale: mx.array) -> mx.array:
    """Fold a layer scale into the projection before it."""
    return x.astype(mx.float32) * scale.astype(mx.float32)[:, None]


def _entries(total: mx.array, usage: mx.array) -> mx.array:
    """Codebook entries of their stored sums (facts sheet 3.5)."""
    return total.astype(mx.float32) / mx.maximum(usage.astype(mx.float32), 1e-5)[:, None]


def _entry_biases(total: mx.array, usage: mx.array) -> mx.array:
    return -0.5 * mx.square(_entries(total, usage)).sum(axis=-1)


def _interleaved(x: mx.array, heads: int, head_dim: int) -> mx.array:
    """Rows of a query or key projection from rotary half-split order to interleaved pairs (facts sheet 4.3)."""
    return x.reshape(heads, 2, head_dim // 2, -1).swapaxes(1, 2).reshape(x.shape)


def _qkv_from_halves(config: TransformerConfig) -> Callable[..., mx.array]:
    def build(q: mx.array, k: mx.array, v: mx.array) -> mx.array:
        q, k = (_interleaved(x, config.heads, config.head_dim) for x in (q, k))
        return _stack_rows(q, k, v)

    return build


# Decoder.


@dataclass(frozen=True, slots=True)
class _DecoderNames:
    """Names of the decoder's tensors where qkv is one matrix, and the shape that its norms are stored in."""

    audio: str
    qkv: str
    norm: str
    norm_shape: Shape


_ORIGINAL = _DecoderNames("emb.{}.weight", "self_attn.in_proj_weight", "alpha", (1, 1))
_MLX = _DecoderNames("audio_embs.{}.weight", "self_attn.in_proj.weight", "weight", ())


def original(config: SttConfig) -> Iterator[Rule]:
    """The decoder of Kyutai's original and -candle layouts."""
    return _kyutai_decoder(config.decoder, _ORIGINAL)


def moshi_mlx(config: SttConfig) -> Iterator[Rule]:
    """The decoder of the -mlx layout."""
    return _kyutai_decoder(config.decoder, _MLX)


def _kyutai_decoder(config: DecoderConfig, names: _DecoderNames) -> Iterator[Rule]:
    inner = config.transformer
    dim, width = inner.dim, inner.heads * inner.head_dim
    text = ("text_emb.weight", (config.vocabulary + 1, dim))
    audio = ((names.audio.format(k), (config.codebook_size + 1, dim)) for k in range(config.codebooks))
    yield Rule("decoder.embedding.weight", (text, *audio), _stack_rows)
    for i in range(inner.layers):
        ours, theirs = f"decoder.transformer.layers.{i}.", f"transformer.layers.{i}."
        for norm in ("norm1", "norm2"):
            source = (f"{theirs}{norm}.{names.norm}", (*names.norm_shape, dim))
            yield Rule(f"{ours}{norm}.weight", (source,), _flat)
        yield Rule(f"{ours}attention.qkv.weight", ((theirs + names.qkv, (3 * width, dim)),), _same)
        yield Rule(f"{ours}attention.out.weight", ((f"{theirs}self_attn.out_proj.weight", (dim, width)),), _same)
        yield Rule(f"{ours}mlp.gate_up.weight", ((f"{theirs}gating.linear_in.weight", (2 * inner.ffn, dim)),), _same)
        yield Rule(f"{ours}mlp.down.weight", ((f"{theirs}gating.linear_out.weight", (dim, inner.ffn)),), _same)
    yield Rule("decoder.norm.weight", ((f"out_norm.{names.norm}", (*names.norm_shape, dim)),), _flat)
    yield Rule("decoder.head.weight", (("text_linear.weight", (config.vocabulary, dim)),), _same)
    yield from pause_heads(config)


def pause_heads(config: DecoderConfig) -> Iterator[Rule]:
    """The pause heads of the -candle layout, where there are any."""
    if config.pause_heads:
        shape = (config.pause_classes, config.transformer.dim)
        sources = tuple((f"extra_heads.{h}.weight", shape) for h in range(config.pause_heads))
        yield Rule("decoder.pause_heads.weight", sources, _stack_rows)


def transformers(config: SttConfig) -> Iterator[Rule]:
    """The decoder and the codec of the -trfs layout; its zero rows at the ends of embedding and head are dropped."""
    decoder = config.decoder
    inner = decoder.transformer
    dim, width = inner.dim, inner.heads * inner.head_dim
    rows = decoder.vocabulary + 1 + decoder.codebooks * (decoder.codebook_size + 1)
    table = ("model.embed_tokens.embed_tokens.weight", (rows + 1, dim))
    yield Rule("decoder.embedding.weight", (table,), _without_last_row)
    for i in range(inner.layers):
        ours, theirs = f"decoder.transformer.layers.{i}.", f"model.layers.{i}."
        yield Rule(f"{ours}norm1.weight", ((f"{theirs}input_layernorm.weight", (dim,)),), _same)
        yield Rule(f"{ours}norm2.weight", ((f"{theirs}post_attention_layernorm.weight", (dim,)),), _same)
        qkv = tuple((f"{theirs}self_attn.{x}_proj.linear.weight", (width, dim)) for x in "qkv")
        yield Rule(f"{ours}attention.qkv.weight", qkv, _qkv_from_halves(inner))
        yield Rule(f"{ours}attention.out.weight", ((f"{theirs}self_attn.o_proj.linear.weight", (dim, width)),), _same)
        yield Rule(f"{ours}mlp.gate_up.weight", ((f"{theirs}mlp.fc1.weight", (2 * inner.ffn, dim)),), _same)
        yield Rule(f"{ours}mlp.down.weight", ((f"{theirs}mlp.fc2.weight", (dim, inner.ffn)),), _same)
    yield Rule("decoder.norm.weight", (("model.norm.weight", (dim,)),), _same)
    yield Rule("decoder.head.weight", (("lm_head.weight", (decoder.vocabulary + 1, dim)),), _without_last_row)
    yield from pause_heads(decoder)
    yield from _codec(config.codec, _CODEC_TRANSFORMERS)


# Codec.


@dataclass(frozen=True, slots=True)
class _CodecNames:
    """Names of the codec's tensors; `{}` takes the number of a layer."""

    conv: str
    block: str
    layer: str
    norms: tuple[str, str]
    qkv: tuple[str, ...]
    out: str
    up: str
    down: str
    scales: tuple[str, str]
    downsample: str
    quantizers: tuple[str, str]
    codebook: str
    entry_sum: str


_CODEC_ORIGINAL = _CodecNames(
    conv="encoder.model.{}.conv.conv.",
    block="encoder.model.{}.block.{}.conv.conv.",
    layer="encoder_transformer.transformer.layers.{}.",
    norms=("norm1", "norm2"),
    qkv=("self_attn.in_proj_weight",),
    out="self_attn.out_proj.weight",
    up="linear1.weight",
    down="linear2.weight",
    scales=("layer_scale_1.scale", "layer_scale_2.scale"),
    downsample="downsample.conv.conv.conv.weight",
    quantizers=("quantizer.rvq_first.", "quantizer.rvq_rest."),
    codebook="vq.layers.{}._codebook.",
    entry_sum="embedding_sum",
)
_CODEC_TRANSFORMERS = _CodecNames(
    conv="codec_model.encoder.layers.{}.conv.",
    block="codec_model.encoder.layers.{}.block.{}.conv.",
    layer="codec_model.encoder_transformer.layers.{}.",
    norms=("input_layernorm", "post_attention_layernorm"),
    qkv=("self_attn.q_proj.weight", "self_attn.k_proj.weight", "self_attn.v_proj.weight"),
    out="self_attn.o_proj.weight",
    up="mlp.fc1.weight",
    down="mlp.fc2.weight",
    scales=("self_attn_layer_scale.scale", "mlp_layer_scale.scale"),
    downsample="codec_model.downsample.conv.weight",
    quantizers=(
        "codec_model.quantizer.semantic_residual_vector_quantizer.",
        "codec_model.quantizer.acoustic_residual_vector_quantizer.",
    ),
    codebook="layers.{}.codebook.",
    entry_sum="embed_sum",
)

_OTHER_HALF = re.compile(
    r"(decoder|decoder_transformer|upsample)\.|quantizer\..*(output_proj\.weight|codebook\._?(initialized|inited))$"
)
_SPARE_CODEBOOK = re.compile(r"quantizer\.(?:rvq_rest\.vq|acoustic_residual_vector_quantizer)\.layers\.(\d+)\.")
_CODEC_IN_TRANSFORMERS = "codec_model."


def is_unused(name: str, config: MimiConfig) -> bool:
    """Whether a codec's tensor belongs to its decoder half, to its training, or to a codebook that is not heard."""
    name = name.removeprefix(_CODEC_IN_TRANSFORMERS)
    spare = _SPARE_CODEBOOK.match(name)
    return bool(_OTHER_HALF.match(name)) or (spare is not None and int(spare[1]) >= config.codebooks - 1)


def codec_names(names: Iterable[str]) -> set[str]:
    """Those of the tensors of the -trfs layout that are the codec's."""
    return {name for name in names if name.startswith(_CODEC_IN_TRANSFORMERS)}


def codec(config: SttConfig) -> Iterator[Rule]:
    """The codec file of Kyutai's layouts."""
    return _codec(config.codec, _CODEC_ORIGINAL)


def _codec(config: MimiConfig, names: _CodecNames) -> Iterator[Rule]:
    yield from _codec_encoder(config, names)
    for i in range(config.transformer.layers):
        yield from _codec_layer(config.transformer, names, i)
    dim = config.transformer.dim
    yield Rule("codec.downsample.weight", ((names.downsample, (dim, dim, 4)),), _channels_last)
    yield from _quantizer(config, names, "codec.semantic.", names.quantizers[0], 1)
    yield from _quantizer(config, names, "codec.acoustic.", names.quantizers[1], config.codebooks - 1)


def _codec_encoder(config: MimiConfig, names: _CodecNames) -> Iterator[Rule]:
    channels = config.filters
    yield from _conv("codec.encoder.first.", names.conv.format(0), (channels, 1, config.kernel))
    for j, ratio in enumerate(config.ratios):
        ours, index = f"codec.encoder.stages.{j}.", 3 * j + 1
        inner = channels // config.compress
        narrow, wide = names.block.format(index, 1), names.block.format(index, 3)
        yield from _conv(f"{ours}residual.narrow.", narrow, (inner, channels, config.residual_kernel))
        yield from _conv(f"{ours}residual.wide.", wide, (channels, inner, 1), _pointwise)
        down = names.conv.format(index + 2)
        yield from _conv(f"{ours}downsample.", down, (2 * channels, channels, 2 * ratio))
        channels *= 2
    last = names.conv.format(3 * len(config.ratios) + 2)
    yield from _conv("codec.encoder.last.", last, (config.transformer.dim, channels, config.last_kernel))


def _conv(ours: str, theirs: str, shape: Shape, build: Callable[..., mx.array] = _channels_last) -> Iterator[Rule]:
    yield Rule(f"{ours}weight", ((f"{theirs}weight", shape),), build)
    yield Rule(f"{ours}bias", ((f"{theirs}bias", shape[:1]),), _same)


def _codec_layer(config: TransformerConfig, names: _CodecNames, i: int) -> Iterator[Rule]:
    ours, theirs = f"codec.transformer.layers.{i}.", names.layer.format(i)
    dim, width = config.dim, config.heads * config.head_dim
    for norm, source in zip(("norm1", "norm2"), names.norms, strict=True):
        for part in ("weight", "bias"):
            yield Rule(f"{ours}{norm}.{part}", ((f"{theirs}{source}.{part}", (dim,)),), _same)
    rows = 3 * width // len(names.qkv)
    qkv = tuple((theirs + name, (rows, dim)) for name in names.qkv)
    yield Rule(f"{ours}attention.qkv.weight", qkv, _same if len(qkv) == 1 else _qkv_from_halves(config))
    attention_scale, mlp_scale = ((theirs + name, (dim,)) for name in names.scales)
    yield Rule(f"{ours}attention.out.weight", ((theirs + names.out, (dim, width)), attention_scale), _scale_rows)
    yield Rule(f"{ours}mlp.up.weight", ((theirs + names.up, (config.ffn, dim)),), _same)
    yield Rule(f"{ours}mlp.down.weight", ((theirs + names.down, (dim, config.ffn)), mlp_scale), _scale_rows)


def _quantizer(config: MimiConfig, names: _CodecNames, ours: str, theirs: str, codebooks: int) -> Iterator[Rule]:
    size, dim = config.codebook_size, config.codebook_dim
    projection = (f"{theirs}input_proj.weight", (dim, config.transformer.dim, 1))
    yield Rule(f"{ours}projection.weight", (projection,), _pointwise)
    for k in range(codebooks):
        table = theirs + names.codebook.format(k)
        sources = ((table + names.entry_sum, (size, dim)), (f"{table}cluster_usage", (size,)))
        yield Rule(f"{ours}codebooks.{k}.weight", sources, _entries)
        yield Rule(f"{ours}codebooks.{k}.bias", sources, _entry_biases)


def own(shapes: Mapping[str, Shape]) -> Iterator[Rule]:
    """Our own layout: each tensor is itself, `shapes` tells them all."""
    for name, shape in shapes.items():
        yield Rule(name, ((name, shape),), _same)
