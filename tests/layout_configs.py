"""The JSON files of a random model in Kyutai's layouts and in transformers'.

In: a `Spec`. Out: dictionaries, with the keys of the published checkpoints. Knows nothing of tensors.
"""

from __future__ import annotations

from typing import Any

from random_models import CODEC_ROPE_BASE, COMPRESS, KERNEL, LAST_KERNEL, RATIOS, RESIDUAL_KERNEL, Spec
from vocabularies import SPECIAL

HUB_BOS = 48_000
"""The start id in the published -trfs configs; it is wrong, and readers must not use it (facts sheet 4.4)."""
MIMI_FILE, TOKENIZER_FILE = "mimi-random@125.safetensors", "tokenizer_random.model"


def kyutai_config(spec: Spec) -> dict[str, Any]:
    """config.json of the original layouts (facts sheet 1.2), depformer keys included."""
    return {
        "card": spec.card,
        "n_q": spec.codebooks,
        "dep_q": 0,
        "delays": [0] * (spec.codebooks + 1),
        "dim": spec.dim,
        "text_card": spec.text_card,
        "existing_text_padding_id": 3,
        "num_heads": spec.heads,
        "num_layers": spec.layers,
        "hidden_scale": spec.hidden_scale,
        "causal": True,
        "layer_scale": None,
        "context": spec.context,
        "max_period": spec.rope_base,
        "gating": "silu",
        "norm": "rms_norm_f32",
        "positional_embedding": "rope",
        "depformer_dim": 1024,
        "depformer_num_heads": 16,
        "depformer_num_layers": 6,
        "depformer_dim_feedforward": None,
        "depformer_multi_linear": True,
        "depformer_pos_emb": "none",
        "depformer_weights_per_step": True,
        "conditioners": {},
        "cross_attention": False,
        "model_id": {"sig": "random", "epoch": 1},
        "lm_gen_config": {"temp": 0.0, "temp_text": 0.0, "top_k": 250, "top_k_text": 50},
        "stt_config": {"audio_delay_seconds": spec.delay, "audio_silence_prefix_seconds": spec.prefix},
        "model_type": "stt",
        "mimi_name": MIMI_FILE,
        "tokenizer_name": TOKENIZER_FILE,
    }


def transformers_config(spec: Spec) -> dict[str, Any]:
    """config.json of the -trfs layout with nothing left to defaults; the codec has no decoder half."""
    vocabulary = spec.text_card + 1
    return {
        "architectures": ["KyutaiSpeechToTextForConditionalGeneration"],
        "model_type": "kyutai_speech_to_text",
        "audio_bos_token_id": spec.card,
        "audio_pad_token_id": vocabulary + spec.codebooks * (spec.card + 1),
        "bos_token_id": spec.text_card,
        "eos_token_id": None,
        "pad_token_id": 3,
        "codebook_vocab_size": spec.card + 1,
        "codec_config": _codec_config(spec),
        "dtype": "float32",
        "ffn_dim": 2 * spec.ffn,
        "frame_size": 1920,
        "head_dim": spec.head_dim,
        "hidden_act": "silu",
        "hidden_size": spec.dim,
        "max_position_embeddings": 750,
        "num_attention_heads": spec.heads,
        "num_codebooks": spec.codebooks,
        "num_hidden_layers": spec.layers,
        "num_key_value_heads": spec.heads,
        "rms_norm_eps": 1e-8,
        "rope_parameters": {"rope_theta": spec.rope_base, "rope_type": "default"},
        "sliding_window": spec.context,
        "tie_word_embeddings": False,
        "vocab_size": vocabulary,
    }


def hub_config(spec: Spec) -> dict[str, Any]:
    """The same as older releases wrote it: `rope_theta`, a whole codec, and the start id that is wrong."""
    config = transformers_config(spec) | {"bos_token_id": HUB_BOS, "rope_theta": spec.rope_base}
    codec = config["codec_config"] | {"rope_theta": CODEC_ROPE_BASE}
    for part, key in ((config, "rope_parameters"), (codec, "rope_parameters"), (codec, "decoder_config")):
        del part[key]
    return config | {"codec_config": codec}


def processor_configs(spec: Spec, bos: int) -> dict[str, dict[str, Any]]:
    """The small files beside a -trfs config.json: file name -> content."""
    special: dict[str, Any] = dict(zip(("unk_token", "bos_token", "eos_token", "pad_token"), SPECIAL, strict=True))
    preprocessor = {
        "audio_delay_seconds": spec.delay,
        "audio_silence_prefix_seconds": spec.prefix,
        "feature_extractor_type": "KyutaiSpeechToTextFeatureExtractor",
        "feature_size": 1,
        "padding_side": "right",
        "padding_value": 0.0,
        "sampling_rate": 24_000,
    }
    return {
        "generation_config.json": {
            "audio_window_size": 1,
            "bos_token_id": bos,
            "codec_use_cache": True,
            "pad_token_id": 3,
        },
        "preprocessor_config.json": preprocessor,
        "special_tokens_map.json": special,
        "tokenizer_config.json": special | {"tokenizer_class": "PreTrainedTokenizerFast"},
    }


def _codec_config(spec: Spec) -> dict[str, Any]:
    codec = spec.codec
    return {
        "model_type": "mimi",
        "attention_bias": False,
        "audio_channels": 1,
        "codebook_dim": codec.codebook_dim,
        "codebook_size": spec.card,
        "compress": COMPRESS,
        "decoder_config": None,
        "head_dim": codec.head_dim,
        "hidden_act": "gelu",
        "hidden_size": codec.dim,
        "intermediate_size": codec.ffn,
        "kernel_size": KERNEL,
        "last_kernel_size": LAST_KERNEL,
        "max_position_embeddings": 8000,
        "norm_eps": 1e-5,
        "num_attention_heads": codec.heads,
        "num_filters": codec.filters,
        "num_hidden_layers": codec.layers,
        "num_key_value_heads": codec.heads,
        "num_quantizers": spec.codebooks,
        "num_residual_layers": 1,
        "num_semantic_quantizers": 1,
        "pad_mode": "constant",
        "residual_kernel_size": RESIDUAL_KERNEL,
        "rope_parameters": {"rope_theta": CODEC_ROPE_BASE, "rope_type": "default"},
        "sampling_rate": 24_000,
        "sliding_window": codec.context,
        "upsample_groups": codec.dim,
        "upsampling_ratios": list(reversed(RATIOS)),
        "use_causal_conv": True,
        "use_conv_shortcut": False,
        "vector_quantization_hidden_dimension": codec.codebook_dim,
    }
