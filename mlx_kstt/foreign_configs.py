"""Foreign config.json files, read by name into an `SttConfig`.

In: the JSON of Kyutai's original layouts or of transformers' layout. Out: `SttConfig`. Knows nothing of tensors.
A value that this package does not implement is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .config import PAD, SAMPLE_RATE, WORD_START, DecoderConfig, MimiConfig, SttConfig, TransformerConfig
from .errors import CheckpointError

# transformers writes the wrong RoPE base into a config built by hand; Kyutai's models have this one (facts sheet 2.3).
_ROPE_BASE = 100_000.0

_KYUTAI_ONLY = {
    "dep_q": 0,
    "causal": True,
    "layer_scale": None,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "conditioners": {},
    "cross_attention": False,
    "existing_text_padding_id": PAD,
    "existing_text_end_padding_id": WORD_START,
    "kv_repeat": 1,
}
_TRANSFORMERS_ONLY = {"hidden_act": "silu", "pad_token_id": PAD, "tie_word_embeddings": False}
_CODEC_ONLY = {
    "sampling_rate": SAMPLE_RATE,
    "audio_channels": 1,
    "num_residual_layers": 1,
    "num_semantic_quantizers": 1,
    "use_causal_conv": True,
    "use_conv_shortcut": False,
    "pad_mode": "constant",
    "hidden_act": "gelu",
    "attention_bias": False,
}


def from_kyutai(raw: Mapping[str, Any], *, delay: float | None, prefix: float | None) -> SttConfig:
    """The config of the original, -candle and -mlx layouts (facts sheet 1.2).

    They carry no codec sizes: the released codec applies, with as many codebooks as the decoder hears.
    The pause heads are not taken from here: the tensors tell.

    Raises:
        CheckpointError: a key is missing, or has a value that is not implemented.
    """
    _only(raw, _KYUTAI_ONLY, "config.json")
    dim, heads = _need(raw, "dim"), _need(raw, "num_heads")
    transformer = TransformerConfig(
        dim=dim,
        layers=_need(raw, "num_layers"),
        heads=heads,
        head_dim=dim // heads,
        ffn=_gated_width(dim, _need(raw, "hidden_scale")),
        context=_need(raw, "context"),
        rope_base=float(_need(raw, "max_period")),
        norm_eps=1e-8,
    )
    decoder = DecoderConfig(transformer, _need(raw, "text_card"), _need(raw, "n_q"), _need(raw, "card"))
    stt = raw.get("stt_config") or {}
    return SttConfig(
        codec=MimiConfig(codebooks=decoder.codebooks),
        decoder=decoder,
        delay=_seconds(stt, "audio_delay_seconds", "delay", delay),
        prefix=_seconds(stt, "audio_silence_prefix_seconds", "prefix", prefix),
    )


def from_transformers(
    raw: Mapping[str, Any], preprocessor: Mapping[str, Any], *, delay: float | None, prefix: float | None
) -> SttConfig:
    """The config of the -trfs layout (facts sheet 4.4), with its preprocessor_config.json.

    The start id is the last row of the text embedding, whatever `bos_token_id` says (facts sheet 4.4).

    Raises:
        CheckpointError: a key is missing, or has a value that is not implemented.
    """
    _only(raw, _TRANSFORMERS_ONLY, "config.json")
    decoder = DecoderConfig(
        transformer=_transformer(raw, ffn=_need(raw, "ffn_dim") // 2, eps=_need(raw, "rms_norm_eps"), base=_ROPE_BASE),
        vocabulary=_need(raw, "vocab_size") - 1,
        codebooks=_need(raw, "num_codebooks"),
        codebook_size=_need(raw, "codebook_vocab_size") - 1,
    )
    return SttConfig(
        codec=_codec(raw.get("codec_config") or {}, decoder.codebooks),
        decoder=decoder,
        delay=_seconds(preprocessor, "audio_delay_seconds", "delay", delay),
        prefix=_seconds(preprocessor, "audio_silence_prefix_seconds", "prefix", prefix),
    )


def _codec(raw: Mapping[str, Any], codebooks: int) -> MimiConfig:
    """Sizes of the codec inside a -trfs config; what it leaves out is as in the released codec."""
    _only(raw, _CODEC_ONLY, "codec_config")
    released = MimiConfig()
    defaults = {
        "hidden_size": released.transformer.dim,
        "num_hidden_layers": released.transformer.layers,
        "num_attention_heads": released.transformer.heads,
        "sliding_window": released.transformer.context,
        "intermediate_size": released.transformer.ffn,
        "norm_eps": released.transformer.norm_eps,
        "num_quantizers": released.codebooks,
        "codebook_size": released.codebook_size,
        "codebook_dim": released.codebook_dim,
        "num_filters": released.filters,
        "kernel_size": released.kernel,
        "last_kernel_size": released.last_kernel,
        "residual_kernel_size": released.residual_kernel,
        "compress": released.compress,
    }
    raw = defaults | {key: value for key, value in raw.items() if value is not None}
    if raw["num_quantizers"] < codebooks:
        raise CheckpointError(f"the codec has {raw['num_quantizers']} codebooks; the decoder hears {codebooks}")
    return MimiConfig(
        transformer=_transformer(
            raw, ffn=raw["intermediate_size"], eps=raw["norm_eps"], base=released.transformer.rope_base
        ),
        codebooks=codebooks,
        codebook_size=raw["codebook_size"],
        codebook_dim=raw["codebook_dim"],
        filters=raw["num_filters"],
        ratios=tuple(reversed(raw.get("upsampling_ratios", released.ratios[::-1]))),
        kernel=raw["kernel_size"],
        last_kernel=raw["last_kernel_size"],
        residual_kernel=raw["residual_kernel_size"],
        compress=raw["compress"],
    )


def _transformer(raw: Mapping[str, Any], *, ffn: int, eps: float, base: float) -> TransformerConfig:
    """What the decoder and the codec of transformers' configs name alike."""
    dim, heads = _need(raw, "hidden_size"), _need(raw, "num_attention_heads")
    _only(raw, {"num_key_value_heads": heads}, "config.json")
    rope = raw.get("rope_parameters") or {}
    return TransformerConfig(
        dim=dim,
        layers=_need(raw, "num_hidden_layers"),
        heads=heads,
        head_dim=raw.get("head_dim") or dim // heads,
        ffn=ffn,
        context=_need(raw, "sliding_window"),
        rope_base=float(rope.get("rope_theta") or raw.get("rope_theta") or base),
        norm_eps=eps,
    )


def _gated_width(dim: int, scale: float) -> int:
    """Width of the gated feed-forward part by the original code's rule (facts sheet 1.3)."""
    width = int(scale * dim)
    return 21 * dim // 8 if width == 4 * dim else 2 * width // 3


def _seconds(raw: Mapping[str, Any], key: str, option: str, given: float | None) -> float:
    """What the caller gives, else what the checkpoint says."""
    value = raw.get(key) if given is None else given
    if value is None:
        raise CheckpointError(f"the checkpoint does not state its {key}: give {option}= in seconds")
    return float(value)


def _only(raw: Mapping[str, Any], allowed: Mapping[str, Any], where: str) -> None:
    """Refuse what is not implemented; an absent key has the allowed value."""
    for key, value in allowed.items():
        if key in raw and raw[key] != value and raw[key] is not None:
            raise CheckpointError(f"{where} has {key} {raw[key]!r}; only {value!r} is supported")


def _need(raw: Mapping[str, Any], key: str) -> Any:
    if raw.get(key) is None:
        raise CheckpointError(f"config.json lacks {key}")
    return raw[key]
