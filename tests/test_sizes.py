"""Sizes by arithmetic against published numbers, and against the tensors of models that are really made."""

from __future__ import annotations

from dataclasses import replace
from typing import cast

import pytest
from mlx.utils import tree_flatten
from test_published_files import LARGE, SMALL

from mlx_kstt.config import DecoderConfig, MimiConfig, SttConfig, TransformerConfig
from mlx_kstt.engine import Model
from mlx_kstt.foreign_configs import from_kyutai
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.quantization import EMBEDDING, QuantFormat, uniform
from mlx_kstt.sizes import StepBytes, human_size, model_parts, step_bytes

# isort: split
import mlx.core as mx

ODD = SttConfig(
    MimiConfig(codebooks=3, codebook_size=16),
    DecoderConfig(
        TransformerConfig(
            dim=256, layers=3, heads=2, head_dim=64, ffn=384, context=7, rope_base=10_000.0, norm_eps=1e-8
        ),
        vocabulary=41,
        codebooks=3,
        codebook_size=16,
        pause_heads=2,
    ),
    delay=0.5,
    prefix=0.0,
    pause_head=1,
)
"""Small, and no two sizes of it are equal but those that must be."""
STARTS = {
    "codec": ("codec.",),
    "embedding": ("decoder.embedding.",),
    "layers": ("decoder.transformer.",),
    "heads": ("decoder.norm.", "decoder.head.", "decoder.pause_heads."),
}
"""Beginnings of the names of each part's tensors."""
AFFINE = [QuantFormat(2, 32), QuantFormat(3, 64), QuantFormat(4, 64), QuantFormat(5, 128), QuantFormat(6, 32)]
OTHERS = [QuantFormat(8, 64), QuantFormat(4, 32, "mxfp4"), QuantFormat(8, 32, "mxfp8"), QuantFormat(4, 16, "nvfp4")]


@on_mlx_thread
def tensor_bytes(config: SttConfig, dtype: mx.Dtype) -> dict[str, int]:
    """Bytes of each tensor of the model, the decoder's floats in `dtype`."""
    model = Model(config)
    model.decoder.set_dtype(dtype)
    return {name: x.nbytes for name, x in cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))}


@on_mlx_thread
def ring_bytes(config: SttConfig, dtype: mx.Dtype) -> int:
    """Bytes of what the decoder remembers of a stream that it hears frame by frame."""
    model = Model(config)
    model.decoder.set_dtype(dtype)
    return sum(x.nbytes for ring in model.decoder.init_state(1, 1).rings for x in ring)


def in_one_format(config: SttConfig, format: QuantFormat | None) -> SttConfig:
    """All that a step reads whole in one format, the final heads too."""
    layers = [name for name in config.decoder.layers() if name != EMBEDDING and format]
    return replace(config, quantization=dict.fromkeys(layers, format))


def total(tensors: dict[str, int], *starts: str) -> int:
    return sum(size for name, size in tensors.items() if name.startswith(starts))


@pytest.mark.parametrize(
    ("format", "small", "large"),
    [
        (None, 1677, 4949),
        (QuantFormat(8, 64), 891, 2629),
        (QuantFormat(4, 32), 524, 1547),
        (QuantFormat(4, 64), 472, 1392),
        (QuantFormat(8, 32, "mxfp8"), 865, 2552),
        (QuantFormat(4, 32, "mxfp4"), 445, 1315),
    ],
    ids=str,
)
def test_a_step_of_the_released_models(format: QuantFormat | None, small: int, large: int) -> None:
    """Performance facts 2.1, in MB and bfloat16, where norms and gathered rows (less than 1 MB) do not count."""
    for raw, megabytes, rings in ((SMALL, small, 98.304), (LARGE, large, 147.456)):
        step = step_bytes(in_one_format(from_kyutai(raw, delay=0.5, prefix=0.0), format), 2)
        assert megabytes - 0.5 <= step.weights / 1e6 < megabytes + 1
        assert step.rings / 1e6 == rings


@pytest.mark.parametrize(("dtype", "float_bytes"), [(mx.bfloat16, 2), (mx.float32, 4)], ids=["bfloat16", "float32"])
@pytest.mark.parametrize("format", [None, *AFFINE, *OTHERS], ids=str)
def test_arithmetic_agrees_with_the_tensors(format: QuantFormat | None, dtype: mx.Dtype, float_bytes: int) -> None:
    recipe = uniform(format, embeddings=True) if format else None
    config = replace(ODD, quantization=ODD.decoder.plan(recipe))
    tensors = tensor_bytes(config, dtype)
    parts = {name: part.bytes for name, part in model_parts(config, float_bytes).items()}
    assert parts == {name: total(tensors, *starts) for name, starts in STARTS.items()}
    rows = 42 + 3 * 17
    gathered = parts["embedding"] * 4 // rows  # one row for the text and one for each of the 3 codebooks
    step = step_bytes(config, float_bytes)
    assert step == StepBytes(parts["layers"] + parts["heads"] + gathered, ring_bytes(config, dtype))


def test_mixed_formats_and_no_pause_heads() -> None:
    decoder = replace(ODD.decoder, pause_heads=0)
    config = replace(ODD, decoder=decoder, quantization=decoder.plan("mixed_4_8"))
    tensors, parts = tensor_bytes(config, mx.bfloat16), model_parts(config, 2)
    assert {name: part.bytes for name, part in parts.items()} == {
        name: total(tensors, *starts) for name, starts in STARTS.items()
    }


def test_quantisation_changes_bytes_and_not_parameters() -> None:
    full, quantised = (model_parts(replace(ODD, quantization=ODD.decoder.plan(name)), 4) for name in (None, "q4"))
    parameters = {name: part.parameters for name, part in full.items()}
    assert parameters == {name: part.parameters for name, part in quantised.items()}
    assert parameters == {name: total(tensor_bytes(ODD, mx.float32), *starts) // 4 for name, starts in STARTS.items()}


def test_parameters_of_the_released_model() -> None:
    """The encoder half of the published codec (facts sheet 1.4), with its layer scales folded and its sums divided."""
    parts = model_parts(from_kyutai(SMALL, delay=0.5, prefix=0.0), 2)
    transformer = 25_190_400 - 8 * 2 * 512
    quantisers = 2 * 512 * 256 + 32 * 2048 * (256 + 1)
    assert parts["codec"].parameters == 12_628_256 + transformer + 1_048_576 + quantisers
    assert parts["codec"].bytes == 4 * parts["codec"].parameters
    decoder = sum(part.parameters for name, part in parts.items() if name != "codec")
    assert 0 < 1_978_423_520 - 2 * decoder < 131 * 150  # the published file has a header for 131 tensors besides


@pytest.mark.parametrize(("bandwidth", "milliseconds"), [(68, 8.35), (273, 2.09), (546, 1.04), (819, 0.70)])
def test_the_time_limit(bandwidth: float, milliseconds: float) -> None:
    """Performance facts 2.2, the 1B in 4 bits and groups of 64."""
    config = in_one_format(from_kyutai(SMALL, delay=0.5, prefix=0.0), QuantFormat(4, 64))
    assert step_bytes(config, 2).seconds(bandwidth) == pytest.approx(milliseconds / 1000, rel=0.006)
    assert StepBytes(weights=6_000, rings=4_000).seconds(1e-3) == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("size", "text"),
    [(999, "999 bytes"), (1_000, "1.0 kB"), (12_200_000, "12.2 MB"), (2_363_166_400, "2.4 GB")],
)
def test_sizes_are_said_as_the_hub_says_them(size: int, text: str) -> None:
    assert human_size(size) == text
