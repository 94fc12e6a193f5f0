"""The random models and the tiny one say what transformers says, whatever layout they are stored in.

The references in tests/golden were written by make_goldens.py; the random checkpoints are made anew from their specs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from agreement import assert_same_codes, assert_same_logits
from golden_files import TINY_RECORDINGS, fingerprint, golden, read_recording, sound, teacher_text
from layouts import LAYOUTS, SPECS, Spec, write_layout
from loading import encode_frame_by_frame, hear_pauses, load_layout

import mlx_kstt
from mlx_kstt import Transcriber


class Answers(NamedTuple):
    codes: np.ndarray  # (frames, codebooks)
    logits: np.ndarray  # (frames + 1, vocabulary), of the reference's codes and the teacher's text
    tokens: np.ndarray  # (frames + 1,), of the sound
    tokens_of_codes: np.ndarray  # (frames + 1,), of the reference's codes
    pieces: list[int]  # ids of SENTENCE
    sentence: str  # decoded again


SENTENCE = "kilu strapen, doba é 日本 noti."
by_spec = pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)
by_layout = pytest.mark.parametrize("layout", LAYOUTS)
by_recording = pytest.mark.parametrize("recording", TINY_RECORDINGS)


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Spec, str], Answers]:
    """Everything that the tests want to know of a model in a layout, asked once."""

    @cache
    def ask(spec: Spec, layout: str) -> Answers:
        stt = load_layout(write_layout(tmp_path_factory.mktemp(spec.name) / layout, spec, layout), spec)
        pcm, codes = sound(spec), golden(spec.name)["codes"]
        pieces = stt.tokenizer.encode(SENTENCE)
        return Answers(
            stt.encode(pcm),
            stt.forward(codes, teacher_text(spec)),
            stt.generate(pcm),
            stt.generate(codes=codes),
            pieces,
            stt.tokenizer.decode(pieces),
        )

    return ask


@pytest.fixture(scope="module")
def tiny() -> Transcriber:
    return mlx_kstt.load("tiny", dtype="float32")


@by_spec
def test_the_checkpoint_is_the_one_that_the_reference_read(spec: Spec) -> None:
    assert fingerprint(spec) == golden(spec.name)["fingerprint"]


@by_spec
@by_layout
def test_codes(spec: Spec, layout: str, ask: Callable[[Spec, str], Answers]) -> None:
    codes = ask(spec, layout).codes
    assert codes.dtype == np.int32
    assert_same_codes(codes, golden(spec.name)["codes"])


@by_spec
@by_layout
def test_logits(spec: Spec, layout: str, ask: Callable[[Spec, str], Answers]) -> None:
    assert_same_logits(ask(spec, layout).logits, golden(spec.name)["logits"])


@by_spec
@by_layout
def test_tokens(spec: Spec, layout: str, ask: Callable[[Spec, str], Answers]) -> None:
    answers, tokens = ask(spec, layout), golden(spec.name)["tokens"]
    np.testing.assert_array_equal(answers.tokens_of_codes, tokens)
    np.testing.assert_array_equal(answers.tokens, tokens)


@by_spec
@by_layout
def test_a_layout_changes_nothing(spec: Spec, layout: str, ask: Callable[[Spec, str], Answers]) -> None:
    for ours, first in zip(ask(spec, layout), ask(spec, LAYOUTS[0]), strict=True):
        np.testing.assert_array_equal(ours, first)


@by_spec
def test_pauses(spec: Spec, tmp_path: Path) -> None:
    stt = load_layout(write_layout(tmp_path / "candle", spec, "candle"), spec)
    np.testing.assert_allclose(hear_pauses(stt, sound(spec)), golden(spec.name)["pauses"], rtol=0, atol=1e-5)


@by_spec
def test_frame_by_frame_codes_are_the_whole_files(spec: Spec, tmp_path: Path) -> None:
    stt, pcm = load_layout(write_layout(tmp_path / "trfs", spec, "trfs"), spec), sound(spec)
    np.testing.assert_array_equal(encode_frame_by_frame(stt, pcm), stt.encode(pcm))


@by_spec
def test_sentences_come_back_from_the_tokenizer(spec: Spec, ask: Callable[[Spec, str], Answers]) -> None:
    assert ask(spec, LAYOUTS[0]).sentence == SENTENCE


@by_recording
def test_tiny_codes(recording: str, tiny: Transcriber) -> None:
    assert_same_codes(tiny.encode(read_recording(recording)), golden("tiny")[f"{recording} codes"])


@by_recording
def test_tiny_logits(recording: str, tiny: Transcriber) -> None:
    stored, every = golden("tiny"), TINY_RECORDINGS[recording]
    logits = tiny.forward(stored[f"{recording} codes"], stored[f"{recording} tokens"][:-1])
    assert_same_logits(logits[::every], stored[f"{recording} logits"])


@by_recording
def test_tiny_tokens(recording: str, tiny: Transcriber) -> None:
    np.testing.assert_array_equal(tiny.generate(read_recording(recording)), golden("tiny")[f"{recording} tokens"])
