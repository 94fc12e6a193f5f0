"""Random checkpoints in the shape of the released ones: real sizes and names, no knowledge.

    python benchmarks/random_checkpoint.py {1b,2.6b} {original,candle,mlx,trfs} FOLDER

They load and run like the real ones, which makes them good for memory and time, and for nothing else.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import tokenizers

from mlx_kstt import layouts
from mlx_kstt.foreign_configs import from_kyutai, from_transformers

# isort: split
import mlx.core as mx

_KYUTAI = {
    "card": 2048,
    "n_q": 32,
    "dim": 2048,
    "hidden_scale": 4.125,
    "max_period": 100000.0,
    "mimi_name": "mimi.safetensors",
    "tokenizer_name": "tokenizer.json",
}
_SIZES: dict[str, dict[str, Any]] = {
    "1b": {
        "text_card": 8000,
        "num_heads": 16,
        "num_layers": 16,
        "context": 750,
        "stt_config": {"audio_delay_seconds": 0.5, "audio_silence_prefix_seconds": 0.0},
    },
    "2.6b": {
        "text_card": 4000,
        "num_heads": 32,
        "num_layers": 48,
        "context": 375,
        "stt_config": {"audio_delay_seconds": 2.5, "audio_silence_prefix_seconds": 1.0},
    },
}


def write(size: str, layout: str, folder: Path) -> Path:
    """Write a random checkpoint: bfloat16 decoder, float32 codec."""
    folder.mkdir(parents=True)
    raw = _KYUTAI | _SIZES[size]
    _save_tokenizer(folder / raw["tokenizer_name"], raw["text_card"])
    if layout == "trfs":
        seconds = raw["stt_config"]
        (folder / "preprocessor_config.json").write_text(json.dumps(seconds), "utf-8")
        raw = _transformers_config(raw)
        config = from_transformers(raw, seconds, delay=None, prefix=None)
        _save(folder / "model.safetensors", layouts.transformers(config))
    else:
        config = from_kyutai(raw, delay=None, prefix=None)
        if layout == "candle":
            config = replace(config, decoder=replace(config.decoder, pause_heads=4))
        decoder = layouts.moshi_mlx(config) if layout == "mlx" else layouts.original(config)
        _save(folder / "model.safetensors", decoder)
        _save(folder / "mimi.safetensors", layouts.codec(config))
    (folder / "config.json").write_text(json.dumps(raw), "utf-8")
    return folder


def _transformers_config(raw: dict[str, Any]) -> dict[str, Any]:
    return {
        "model_type": "kyutai_speech_to_text",
        "hidden_size": raw["dim"],
        "num_hidden_layers": raw["num_layers"],
        "num_attention_heads": raw["num_heads"],
        "ffn_dim": 11264,
        "vocab_size": raw["text_card"] + 1,
        "codebook_vocab_size": raw["card"] + 1,
        "num_codebooks": raw["n_q"],
        "sliding_window": raw["context"],
        "rms_norm_eps": 1e-8,
        "rope_theta": raw["max_period"],
    }


def _save_tokenizer(path: Path, pieces: int) -> None:
    """As many words without a meaning."""
    vocabulary = [(f"\u2581w{i}" if i > 3 else f"<{i}>", -float(i)) for i in range(pieces)]
    tokenizers.Tokenizer(tokenizers.models.Unigram(vocabulary, unk_id=0)).save(str(path))


def _save(path: Path, rules: Any) -> None:
    tensors: dict[str, mx.array] = {}
    for rule in rules:
        for name, shape in rule.sources:
            dtype = mx.float32 if rule.target.startswith("codec.") else mx.bfloat16
            tensors[name] = _values(name, shape).astype(dtype)
            mx.eval(tensors[name])
    mx.save_safetensors(str(path), tensors)


def _values(name: str, shape: tuple[int, ...]) -> mx.array:
    """Of a size that keeps activations in range."""
    if name.endswith("cluster_usage") or ("norm" in name and name.endswith(("alpha", "weight"))):
        return mx.ones(shape)
    fan_in = shape[1] if len(shape) > 1 else 1
    return mx.random.normal(shape) * (0.02 if len(shape) == 1 else fan_in**-0.5)


if __name__ == "__main__":
    print(write(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
    mx.clear_streams()
