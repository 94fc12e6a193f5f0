"""The tensor names and shapes that we expect are those of the published files: they give their sizes to the byte.

A safetensors file is 8 bytes, a JSON header padded to a multiple of 8, and the data; the header holds every name, shape
and offset, so that one wrong letter would show. The sizes are from the facts sheet, section 1.1.
"""

from __future__ import annotations

import json
from math import prod
from typing import Any

import pytest

from mlx_kstt import layouts
from mlx_kstt.foreign_configs import from_kyutai

COMMON = {
    "card": 2048,
    "n_q": 32,
    "dep_q": 0,
    "dim": 2048,
    "hidden_scale": 4.125,
    "causal": True,
    "layer_scale": None,
    "max_period": 100000.0,
    "gating": "silu",
    "norm": "rms_norm_f32",
    "positional_embedding": "rope",
    "conditioners": {},
    "cross_attention": False,
    "existing_text_padding_id": 3,
}
SMALL = COMMON | {"text_card": 8000, "num_heads": 16, "num_layers": 16, "context": 750}
LARGE = COMMON | {"text_card": 4000, "num_heads": 32, "num_layers": 48, "context": 375}


def file_size(shapes: dict[str, tuple[int, ...]], dtype: str, width: int) -> int:
    """Bytes of a safetensors file without metadata."""
    header: dict[str, Any] = {}
    offset = 0
    for name in sorted(shapes):
        end = offset + width * prod(shapes[name])
        header[name] = {"dtype": dtype, "shape": list(shapes[name]), "data_offsets": [offset, end]}
        offset = end
    length = len(json.dumps(header, separators=(",", ":")))
    return 8 + length + -length % 8 + offset


@pytest.mark.parametrize(
    ("raw", "pause_heads", "tensors", "size"),
    [(SMALL, 4, 135, 1_978_522_200), (SMALL, 0, 131, 1_978_423_520), (LARGE, 0, 323, 5_234_275_128)],
    ids=["1b-candle", "1b", "2.6b"],
)
def test_decoder_files(raw: dict[str, Any], pause_heads: int, tensors: int, size: int) -> None:
    from dataclasses import replace

    config = from_kyutai(raw, delay=0.5, prefix=0.0)
    config = replace(config, decoder=replace(config.decoder, pause_heads=pause_heads))
    shapes = dict(source for rule in layouts.original(config) for source in rule.sources)
    assert len(shapes) == tensors
    assert file_size(shapes, "BF16", 2) == size


def test_the_codec_reads_the_values_that_are_in_the_published_file() -> None:
    """Of its 96,151,393 values in 318 tensors, those of the encoder half (facts sheet 1.4)."""
    config = from_kyutai(SMALL, delay=0.5, prefix=0.0)
    shapes = dict(source for rule in layouts.codec(config) for source in rule.sources)
    parts = {"encoder.": 0, "encoder_transformer.": 0, "downsample.": 0, "quantizer.": 0}
    for name, shape in shapes.items():
        parts[name[: name.index(".") + 1]] += prod(shape)
    unread = 2 * 512 * 256 + 32  # the output projections and the flags of the quantisers
    assert parts == {
        "encoder.": 12_628_256,
        "encoder_transformer.": 25_190_400,
        "downsample.": 1_048_576,
        "quantizer.": 17_367_072 - unread,
    }
