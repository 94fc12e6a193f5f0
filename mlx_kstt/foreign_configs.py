"""Foreign config.json files, read by name into an `SttConfig`.

In: the JSON of Kyutai's original layouts or of transformers' layout. Out: `SttConfig`. Knows nothing of tensors.
A value that this package does not implement is refused by name, never ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
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
    "norm_emb": False,
    "bias_proj": False,
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
    _only(raw, {"text_card_out": raw.get("text_card")}, "config.json")
    delays = raw.get("delays") or []
    if not isinstance(delays, list) or any(delays):
        raise CheckpointError(
            f"config.json has delays {raw['delays']}; only streams that are not delayed are supported"
        )
    dim, heads = _count(raw, "dim"), _count(raw, "num_heads")
    transformer = TransformerConfig(
        dim=dim,
        layers=_count(raw, "num_layers"),
        heads=heads,
        head_dim=dim // heads,
        ffn=_gated_width(dim, _number(raw, "hidden_scale")),
        context=_count(raw, "context"),
        rope_base=_number(raw, "max_period"),
        norm_eps=1e-8,
    )
    decoder = DecoderConfig(transformer, _count(raw, "text_card"), _count(raw, "n_q"), _count(raw, "card"))
    stt = _object(raw, "stt_config")
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
        transformer=_transformer(
            raw, ffn=_count(raw, "ffn_dim") // 2, eps=_number(raw, "rms_norm_eps"), base=_ROPE_BASE
        ),
        vocabulary=_count(raw, "vocab_size") - 1,
        codebooks=_count(raw, "num_codebooks"),
        codebook_size=_count(raw, "codebook_vocab_size") - 1,
    )
    return SttConfig(
        codec=_codec(_object(raw, "codec_config"), decoder.codebooks),
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
    if _count(raw, "num_quantizers") < codebooks:
        raise CheckpointError(f"the codec has {raw['num_quantizers']} codebooks; the decoder hears {codebooks}")
    ratios = raw.get("upsampling_ratios", released.ratios[::-1])
    if not isinstance(ratios, (list, tuple)) or not all(isinstance(ratio, int) and ratio > 0 for ratio in ratios):
        raise CheckpointError(f"codec_config has upsampling_ratios {ratios!r}; they must be whole numbers")
    return MimiConfig(
        transformer=_transformer(
            raw, ffn=raw["intermediate_size"], eps=raw["norm_eps"], base=released.transformer.rope_base
        ),
        codebooks=codebooks,
        codebook_size=raw["codebook_size"],
        codebook_dim=raw["codebook_dim"],
        filters=raw["num_filters"],
        ratios=tuple(reversed(ratios)),
        kernel=raw["kernel_size"],
        last_kernel=raw["last_kernel_size"],
        residual_kernel=raw["residual_kernel_size"],
        compress=raw["compress"],
    )


def _transformer(raw: Mapping[str, Any], *, ffn: int, eps: float, base: float) -> TransformerConfig:
    """What the decoder and the codec of transformers' configs name alike."""
    dim, heads = _count(raw, "hidden_size"), _count(raw, "num_attention_heads")
    _only(raw, {"num_key_value_heads": heads, "rope_scaling": None}, "config.json")
    rope = _object(raw, "rope_parameters")
    _only(rope, {"rope_type": "default"}, "rope_parameters")
    return TransformerConfig(
        dim=dim,
        layers=_count(raw, "num_hidden_layers"),
        heads=heads,
        head_dim=raw.get("head_dim") or dim // heads,
        ffn=ffn,
        context=_count(raw, "sliding_window"),
        rope_base=_number({"rope_theta": rope.get("rope_theta") or raw.get("rope_theta") or base}, "rope_theta"),
        norm_eps=eps,
    )


def _gated_width(dim: int, scale: float) -> int:
    """Width of the gated feed-forward part by the original code's rule (facts sheet 1.3)."""
    width = int(scale * dim)
    return 21 * dim // 8 if width == 4 * dim else 2 * width // 3


def _seconds(raw: Mapping[str, Any], key: str, option: str, given: float | None) -> float:
    """What the caller gives, else what the checkpoint says."""
    if given is not None:
        return given
    if raw.get(key) is None:
        raise CheckpointError(f"the checkpoint does not state its {key}: give {option}= in seconds")
    return _number(raw, key)


def _only(raw: Mapping[str, Any], allowed: Mapping[str, Any], where: str) -> None:
    """Refuse what is not implemented; an absent key has the allowed value."""
    for key, value in allowed.items():
        if raw.get(key) is not None and raw[key] != value:
            raise CheckpointError(f"{where} has {key} {raw[key]!r}; only {value!r} is supported")


def _count(raw: Mapping[str, Any], key: str) -> int:
    value = _need(raw, key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise CheckpointError(f"config.json has {key} {value!r}; it must be a whole number of at least 1")
    return value


def _number(raw: Mapping[str, Any], key: str) -> float:
    value = _need(raw, key)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not isfinite(value):
        raise CheckpointError(f"config.json has {key} {value!r}; it must be a number")
    return float(value)


def _object(raw: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    value = raw.get(key)
    if value is not None and not isinstance(value, Mapping):
        raise CheckpointError(f"config.json has {key} {value!r}; it must be an object")
    return value or {}


def _need(raw: Mapping[str, Any], key: str) -> Any:
    if raw.get(key) is None:
        raise CheckpointError(f"config.json lacks {key}")
    return raw[key]
