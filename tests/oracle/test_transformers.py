"""mlx_kstt against the installed transformers: random models, the tiny one on recordings, a codec of released size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from agreement import assert_same_codes, assert_same_logits
from golden_files import TESTS, read_recording, sound, teacher_text
from layouts import SPECS, Spec, write_layout
from loading import load_layout
from random_models import CodecSpec

import mlx_kstt

if TYPE_CHECKING:
    from transformers_reference import Reference

pytestmark = pytest.mark.oracle

TINY = TESTS.parents[1] / "shared" / "tiny" / "trfs"
RECORDINGS = sorted(path.stem for path in (TESTS.parent / "mlx_kstt" / "bundled" / "recordings").glob("*.flac"))
LONG_RECORDINGS = sorted(path.stem for path in (TESTS / "heldout").glob("*.flac"))

RELEASED_CODEC = Spec(
    "released codec",
    CodecSpec(8, 64, 8, 2048, context=250, filters=64, stored_codebooks=32, codebook_dim=256, scale=1.0, decay=0.97),
    heads=1,
    head_dim=64,
    layers=1,
    hidden_scale=4.125,
    context=40,
    rope_base=100_000.0,
    text_card=301,
    codebooks=32,
    card=2048,
    tokenizer="unigram",
    delay=0.5,
    prefix=0.0,
    frames=140,
)


def open_reference(folder: Path) -> Reference:
    for name in ("torch", "transformers"):
        pytest.importorskip(name, reason="the reference needs the `oracle` extra")
    from transformers_reference import Reference

    return Reference(folder)


@pytest.fixture(scope="module")
def tiny_reference() -> Reference:
    if not TINY.is_dir():
        pytest.skip(f"the tiny model in transformers' layout is not at {TINY}")
    return open_reference(TINY)


@pytest.fixture(scope="module")
def tiny() -> mlx_kstt.Transcriber:
    return mlx_kstt.load("tiny", dtype="float32")


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
def test_random_models(spec: Spec, tmp_path: Path) -> None:
    """Other values than those of the golden files."""
    spec = replace(spec, name=f"{spec.name} live")
    folder = write_layout(tmp_path / "trfs", spec, "trfs")
    stt, reference = load_layout(folder, spec), open_reference(folder)
    pcm, text = sound(spec), teacher_text(spec)
    codes = reference.codes(pcm)
    assert_same_codes(stt.encode(pcm), codes)
    assert_same_logits(stt.forward(codes, text), reference.logits(codes, text))
    np.testing.assert_array_equal(stt.generate(pcm), reference.tokens(pcm))


@pytest.mark.parametrize("recording", RECORDINGS + LONG_RECORDINGS)
def test_tiny(recording: str, tiny: mlx_kstt.Transcriber, tiny_reference: Reference) -> None:
    pcm = read_recording(recording)
    codes, tokens = tiny_reference.codes(pcm), tiny_reference.tokens(pcm)
    assert_same_codes(tiny.encode(pcm), codes)
    assert_same_logits(tiny.forward(codes, tokens[:-1]), tiny_reference.logits(codes, tokens[:-1]))
    np.testing.assert_array_equal(tiny.generate(pcm), tokens)


def test_released_codec(tmp_path: Path) -> None:
    """Kyutai's layouts do not say how large their codec is: the released sizes apply, also its window of 10 s."""
    spec = RELEASED_CODEC
    codes = open_reference(write_layout(tmp_path / "trfs", spec, "trfs")).codes(sound(spec))
    stt = mlx_kstt.load(write_layout(tmp_path / "original", spec, "original"), dtype="float32")
    assert min(len(set(column.tolist())) for column in codes.T) > spec.frames / 3
    assert_same_codes(stt.encode(sound(spec)), codes)
