"""Formats, recipes and plans; and quantised modules against what their stored bytes stand for."""

from __future__ import annotations

from dataclasses import asdict

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from reference_quantization import dequantize

import mlx_kstt
from mlx_kstt.config import DecoderConfig, SttConfig, TransformerConfig
from mlx_kstt.quantization import (
    EMBEDDING,
    HEAD,
    PAUSE_HEADS,
    PRESETS,
    QuantFormat,
    make_plan,
    named_recipe,
    plan_from_dict,
    plan_to_dict,
    uniform,
)

INNER = TransformerConfig(dim=128, layers=8, heads=2, head_dim=64, ffn=256, context=9, rope_base=1e4, norm_eps=1e-8)
DECODER = DecoderConfig(INNER, vocabulary=20, codebooks=5, codebook_size=16, pause_heads=4)
LAYERS = DECODER.layers()
FORMATS = [QuantFormat(bits, group, "affine") for bits in (2, 3, 4, 5, 6, 8) for group in (32, 64, 128)] + [
    QuantFormat(4, 32, "mxfp4"),
    QuantFormat(8, 32, "mxfp8"),
    QuantFormat(4, 16, "nvfp4"),
]


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("dtype", [mx.float32, mx.bfloat16])
def test_a_quantised_layer_computes_with_what_its_bytes_stand_for(format: QuantFormat, dtype: mx.Dtype) -> None:
    """Stored in either dtype, computed in float32: MLX's CPU backend sums bfloat16 products in bfloat16."""
    rng = np.random.default_rng(0)
    layer = nn.Linear(256, 48, bias=False)
    layer.weight = mx.array(rng.standard_normal((48, 256)), dtype)
    quantised = nn.QuantizedLinear.from_linear(layer, **asdict(format))
    names = [name for name in ("weight", "scales", "biases") if quantised.get(name) is not None]
    quantised.update({name: quantised[name].astype(mx.float32) for name in names if quantised[name].dtype == dtype})
    weight = dequantize(format.mode, format.bits, format.group_size, *(np.array(quantised[name]) for name in names))
    x = rng.standard_normal((1, 3, 256)).astype(np.float32)
    y, expected = np.array(quantised(mx.array(x))), x @ weight.T
    assert np.abs(y - expected).max() <= 1e-5 * np.abs(expected).max()
    assert 0 < np.abs(weight - np.array(layer.weight.astype(mx.float32))).max() < 2.0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((7, 64), "the bits is 7; with mode affine it must be one of 2, 3, 4, 5, 6, 8"),
        ((4, 48), "the group size is 48; with mode affine it must be one of 32, 64, 128"),
        ((8, 32, "mxfp4"), "the bits is 8; with mode mxfp4 it must be one of 4"),
        ((4, 64, "nvfp4"), "the group size is 64; with mode nvfp4 it must be one of 16"),
        ((4, 64, "int4"), "the quantisation mode is 'int4'; it must be one of affine, mxfp4, mxfp8, nvfp4"),
    ],
)
def test_formats_that_mlx_lacks_are_refused(arguments: tuple, message: str) -> None:
    with pytest.raises(mlx_kstt.OptionError, match=message):
        QuantFormat(*arguments)


def test_a_group_size_that_does_not_divide_a_layer_is_refused_by_its_name() -> None:
    odd = DecoderConfig(TransformerConfig(64, 1, 1, 64, 80, 9, 1e4, 1e-8), 20, 5, 16)
    with pytest.raises(mlx_kstt.OptionError, match=r"32 does not divide the 80 inputs of .*layers\.0\.mlp\.down"):
        odd.plan(uniform(QuantFormat(4, 32)))


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_the_heads_never_go_below_8_bits_and_embeddings_stay(format: QuantFormat) -> None:
    plan = make_plan(uniform(format), LAYERS)
    assert plan[HEAD].bits == plan[PAUSE_HEADS].bits == 8
    assert EMBEDDING not in plan
    assert plan["decoder.transformer.layers.3.mlp.down"] == format
    assert set(make_plan(uniform(format, embeddings=True), LAYERS)) == set(LAYERS)


def test_presets() -> None:
    plans = {name: DECODER.plan(name) for name in PRESETS}
    inner = "decoder.transformer.layers.{}.{}"
    assert plans["q4"][inner.format(0, "mlp.down")] == QuantFormat(4, 64)
    assert plans["q8"][inner.format(0, "mlp.down")] == plans["q8"][HEAD] == QuantFormat(8, 64)
    mixed = plans["mixed_4_8"]
    assert [mixed[inner.format(i, "mlp.down")].bits for i in range(8)] == [8, 4, 4, 4, 4, 4, 4, 8]
    assert {mixed[inner.format(i, "mlp.gate_up")].bits for i in range(8)} == {4}
    with pytest.raises(mlx_kstt.OptionError, match="the quantisation is 'q5'; it must be one of q4, q8, mixed_4_8"):
        named_recipe("q5", 8)


@pytest.mark.parametrize("recipe", [*PRESETS, uniform(QuantFormat(4, 32, "mxfp4"), embeddings=True), None])
def test_plans_go_to_config_json_and_back(recipe) -> None:
    plan = DECODER.plan(recipe)
    config = mlx_kstt.load("tiny").config
    assert plan_from_dict(plan_to_dict(plan, LAYERS) if plan else {}, LAYERS) == plan
    quantised = SttConfig.from_dict(
        {
            **config.to_dict(),
            "quantization": {"bits": 4, "group_size": 64, "decoder.head": {"bits": 8, "group_size": 64}},
        }
    )
    assert quantised.quantization[HEAD] == QuantFormat(8, 64)
    assert quantised.quantization[EMBEDDING] == QuantFormat(4, 64)


def test_a_quantization_of_unknown_layers_is_refused() -> None:
    with pytest.raises(mlx_kstt.CheckpointError, match="quantises layers that the model does not have: "):
        plan_from_dict({"bits": 4, "group_size": 64, "decoder.nose": False}, LAYERS)
    with pytest.raises(mlx_kstt.CheckpointError, match="quantization that cannot be read"):
        plan_from_dict({"bits": 4}, LAYERS)
    with pytest.raises(mlx_kstt.CheckpointError, match="does not divide the 96 inputs of"):
        plan_from_dict({"bits": 4, "group_size": 64}, {"decoder.head": 96})
