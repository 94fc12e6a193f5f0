"""One random model, written in every layout that Kyutai STT checkpoints come in.

In: a `Spec`. Out: folders in the original, -candle, -mlx and -trfs (one file; shards) layouts, by the facts of the
published checkpoints. Knows nothing of mlx_kstt, torch or transformers, so that it can judge their readers.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from layout_configs import (
    MIMI_FILE,
    TOKENIZER_FILE,
    hub_config,
    kyutai_config,
    processor_configs,
    transformers_config,
)
from random_models import (
    PAUSE_CLASSES,
    PAUSE_HEADS,
    SPECS,
    Spec,
    Tensors,
    codec_tensors,
    decoder_tensors,
    pause_head_tensors,
)
from safetensors.numpy import save_file
from vocabularies import write_sentencepiece, write_tokenizer_json

__all__ = ["LAYOUTS", "SPECS", "Spec", "write_layout", "write_layouts"]

SHARDS = 3
LAYOUTS = ("original", "candle", "mlx", "trfs", "trfs-sharded")

_TO_MLX = (("in_proj_weight", "in_proj.weight"), (r"^emb\.", "audio_embs."), (r"\.alpha$", ".weight"))
_DECODER_TO_TRANSFORMERS = (
    (r"^transformer\.", "model."),
    (r"norm1\.alpha$", "input_layernorm.weight"),
    (r"norm2\.alpha$", "post_attention_layernorm.weight"),
    (r"^out_norm\.alpha$", "model.norm.weight"),
    (r"self_attn\.out_proj\.", "self_attn.o_proj.linear."),
    (r"gating\.linear_in\.", "mlp.fc1."),
    (r"gating\.linear_out\.", "mlp.fc2."),
)
_CODEC_TO_TRANSFORMERS = (
    (r"coder\.model\.", "coder.layers."),
    (r"coder_transformer\.transformer\.", "coder_transformer."),
    (r"(conv|convtr)\.\1\.(\1\.)?", r"conv."),
    (r"self_attn\.out_proj\.", "self_attn.o_proj."),
    (r"\.linear([12])\.", r".mlp.fc\1."),
    (r"\.norm1\.", ".input_layernorm."),
    (r"\.norm2\.", ".post_attention_layernorm."),
    (r"\.layer_scale_1\.", ".self_attn_layer_scale."),
    (r"\.layer_scale_2\.", ".mlp_layer_scale."),
    (r"\.rvq_first\.", ".semantic_residual_vector_quantizer."),
    (r"\.rvq_rest\.", ".acoustic_residual_vector_quantizer."),
    (r"\.vq\.layers\.", ".layers."),
    (r"\._codebook\._?", ".codebook."),
    (r"embedding_sum$", "embed_sum"),
    (r"^", "codec_model."),
)
_DECODER_HALF = r"^codec_model\.(decoder|decoder_transformer|upsample)\."


def write_layouts(folder: Path, spec: Spec) -> dict[str, Path]:
    """Write the model of `spec` in all layouts below `folder`: name of the layout -> its folder."""
    return {layout: write_layout(folder / layout, spec, layout) for layout in LAYOUTS}


def write_layout(folder: Path, spec: Spec, layout: str) -> Path:
    """Write the model of `spec` in one of LAYOUTS as `folder`, and give `folder` back."""
    folder.mkdir(parents=True)
    decoder, codec = decoder_tensors(spec), codec_tensors(spec)
    if layout == "trfs":
        whole = transformers_tensors(spec, decoder, codec)
        encoder = {key: value for key, value in whole.items() if not re.search(_DECODER_HALF, key)}
        _write_transformers(folder, spec, transformers_config(spec), [encoder])
    elif layout == "trfs-sharded":
        _write_transformers(folder, spec, hub_config(spec), _shards(transformers_tensors(spec, decoder, codec)))
    elif layout == "candle":
        heads = {"extra_heads_num_heads": PAUSE_HEADS, "extra_heads_dim": PAUSE_CLASSES}
        _write_kyutai(folder, spec, kyutai_config(spec) | heads, decoder | pause_head_tensors(spec), codec)
    else:
        named = _to_mlx(decoder) if layout == "mlx" else decoder
        _write_kyutai(folder, spec, kyutai_config(spec), named, codec)
    return folder


def transformers_tensors(spec: Spec, decoder: Tensors, codec: Tensors) -> Tensors:
    """All tensors under the names of the -trfs layout (facts sheet 4.3)."""
    audio = [decoder[f"emb.{k}.weight"] for k in range(spec.codebooks)]
    zero = np.zeros((1, spec.dim), np.float32)
    table = np.concatenate([decoder["text_emb.weight"], *audio, zero])
    head = np.concatenate([decoder["text_linear.weight"], zero])
    named = {"model.embed_tokens.embed_tokens.weight": table, "lm_head.weight": head}
    rest = {key: value for key, value in decoder.items() if key.startswith(("transformer.", "out_norm."))}
    for key, value in _split_qkv(rest, spec.head_dim, ".linear").items():
        named[_rename(key, _DECODER_TO_TRANSFORMERS)] = value.reshape(-1) if key.endswith("alpha") else value
    unheard = re.compile(r"rvq_rest\.vq\.layers\.(\d+)\.")
    for key, value in _split_qkv(codec, spec.codec.head_dim, "").items():
        layer = unheard.search(key)
        if layer is None or int(layer[1]) < spec.codebooks - 1:
            named[_rename(key, _CODEC_TO_TRANSFORMERS)] = value
    return named


def half_split(rows: np.ndarray, head_dim: int) -> np.ndarray:
    """Rows of a query or key projection from interleaved to half-split rotary order (facts sheet 4.3)."""
    return rows.reshape(-1, head_dim // 2, 2, rows.shape[1]).swapaxes(1, 2).reshape(rows.shape)


def _rename(key: str, rules: tuple[tuple[str, str], ...]) -> str:
    for pattern, replacement in rules:
        key = re.sub(pattern, replacement, key)
    return key


def _to_mlx(decoder: Tensors) -> Tensors:
    """moshi_mlx's names; norms are plain vectors there (facts sheet 4.1)."""
    return {
        _rename(key, _TO_MLX): value.reshape(-1) if key.endswith("alpha") else value for key, value in decoder.items()
    }


def _split_qkv(tensors: Tensors, head_dim: int, suffix: str) -> Tensors:
    """Fused projections become q, k, v; q and k in half-split order."""
    split: Tensors = {}
    for key, value in tensors.items():
        if not key.endswith("in_proj_weight"):
            split[key] = value
            continue
        stem = key.removesuffix("in_proj_weight")
        q, k, v = np.split(value, 3)
        parts = {"q": half_split(q, head_dim), "k": half_split(k, head_dim), "v": v}
        split |= {f"{stem}{part}_proj{suffix}.weight": rows for part, rows in parts.items()}
    return split


def _shards(tensors: Tensors) -> list[Tensors]:
    keys = sorted(tensors)
    return [{key: tensors[key] for key in keys[i::SHARDS]} for i in range(SHARDS)]


def _write_kyutai(folder: Path, spec: Spec, config: dict[str, Any], decoder: Tensors, codec: Tensors) -> None:
    _save_json(folder / "config.json", config)
    _save_tensors(folder / "model.safetensors", decoder)
    _save_tensors(folder / MIMI_FILE, codec)
    write_sentencepiece(folder / TOKENIZER_FILE, spec.text_card, spec.tokenizer)


def _write_transformers(folder: Path, spec: Spec, config: dict[str, Any], shards: list[Tensors]) -> None:
    _save_json(folder / "config.json", config)
    for name, content in processor_configs(spec, config["bos_token_id"]).items():
        _save_json(folder / name, content)
    write_tokenizer_json(folder / "tokenizer.json", spec.text_card, spec.tokenizer)
    if len(shards) == 1:
        _save_tensors(folder / "model.safetensors", shards[0])
        return
    names = [f"model-{i + 1:05}-of-{len(shards):05}.safetensors" for i in range(len(shards))]
    for name, shard in zip(names, shards, strict=True):
        _save_tensors(folder / name, shard)
    where = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
    size = sum(value.nbytes for shard in shards for value in shard.values())
    _save_json(folder / "model.safetensors.index.json", {"metadata": {"total_size": size}, "weight_map": where})


def _save_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2) + "\n")


def _save_tensors(path: Path, tensors: Tensors) -> None:
    save_file({key: np.ascontiguousarray(value) for key, value in tensors.items()}, path)
