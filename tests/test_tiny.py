"""The bundled model on held-out speech: the reference's ids and words, and the error rate against what was said."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS

import mlx_kstt
from mlx_kstt import EndOfTurn
from mlx_kstt.mlx_thread import on_mlx_thread

# isort: split
import mlx.core as mx

TAIL = np.zeros(36_000, np.float32)
"""The reference was given the delay of 0.5 s and 1 s of silence after each recording."""


def errors(said: list[str], heard: list[str]) -> int:
    """Word edits (Levenshtein) from what was said to what was heard."""
    row = list(range(len(heard) + 1))
    for i, word in enumerate(said, 1):
        row, before = [i], row
        for j, other in enumerate(heard, 1):
            row.append(min(before[j] + 1, row[-1] + 1, before[j - 1] + (word != other)))
    return row[-1]


def test_ids_are_the_references(tiny, recordings) -> None:
    for recording in recordings:
        ids = tiny.generate(np.concatenate([recording.sound(), TAIL]))
        n = len(recording.reference_ids)
        assert ids[:n].tolist() == list(recording.reference_ids), recording.path.name


def test_transcripts_are_the_references_word_for_word(tiny, recordings, capsys) -> None:
    wrong = total = 0
    for recording in recordings:
        transcript = tiny.transcribe(recording.path)
        assert transcript.text == recording.reference_text, recording.path.name
        wrong += errors(recording.text.split(), transcript.text.split())
        total += len(recording.text.split())
    with capsys.disabled():
        print(f"\ntiny: {wrong} of {total} words wrong on 20 held-out recordings ({100 * wrong / total:.1f} % WER)")
    assert wrong == 5, "the reference implementation errs in 5 of 169 words"


@pytest.mark.parametrize(("name", "wrong"), [("long_en-us", 0), ("long_en+m5", 2)])
def test_long_recordings_show_the_right_window(tiny, name: str, wrong: int, capsys) -> None:
    """57 s with a window of 10 s: with full causal attention the error rate is 25 to 35 %."""
    said = (LONG_RECORDINGS / f"{name}.txt").read_text("utf-8").split()
    transcript = tiny.transcribe(LONG_RECORDINGS / f"{name}.flac")
    found = errors(said, transcript.text.split())
    with capsys.disabled():
        print(f"\ntiny: {found} of {len(said)} words wrong in {name} ({100 * found / len(said):.1f} % WER)")
    assert found == wrong


@pytest.mark.parametrize("block", [1, 2, 7])
def test_codes_of_small_blocks_are_exactly_the_whole_files(tiny, block: int) -> None:
    sound = soundfile.read(LONG_RECORDINGS / "long_en-us.flac", dtype="float32")[0]

    @on_mlx_thread
    def in_blocks() -> np.ndarray:
        codec, codes = tiny._engine._codec, []
        state = codec.init_state(1, block)
        for start in range(0, len(sound) - 1920 * block + 1, 1920 * block):
            step, state = codec.step(mx.array(sound[start : start + 1920 * block])[None, :, None], state)
            mx.eval(step, state)
            codes.append(np.array(step[0]))
        return np.concatenate(codes)

    found = in_blocks()
    assert len(found) >= 693
    assert np.array_equal(found, tiny.encode(sound)[: len(found)])


def test_word_times_lie_in_the_recording_and_the_turn_ends_with_it(tiny, recordings) -> None:
    for recording in recordings:
        transcript = tiny.transcribe(recording.path)
        starts = [word.start for word in transcript.words]
        assert starts == sorted(set(starts))
        assert 0 <= starts[0] < transcript.words[-1].end <= transcript.duration
        turns = [event for event in transcript.events if isinstance(event, EndOfTurn)]
        assert turns[-1].text.endswith(transcript.words[-1].text)
        assert turns[-1].time >= transcript.words[-1].start


@pytest.mark.parametrize("seconds", [0.8, 1.6])
def test_silence_before_the_speech_moves_every_word_by_just_that(tiny, recordings, seconds: float) -> None:
    silence = np.zeros(int(seconds * 24_000), np.float32)
    compared = 0
    for recording in recordings[:9]:
        plain = tiny.transcribe(recording.sound()).words
        moved = tiny.transcribe(np.concatenate([silence, recording.sound()])).words
        if [word.text for word in plain] == [word.text for word in moved]:
            shifts = [after.start - before.start for before, after in zip(plain, moved, strict=True)]
            assert shifts == pytest.approx([seconds] * len(shifts), abs=0.081), recording.path.name
            compared += 1
    assert compared >= 4


def test_silence_is_empty(tiny) -> None:
    transcript = tiny.transcribe(np.zeros(5 * 24_000, np.float32))
    assert (transcript.text, transcript.words, transcript.duration) == ("", (), 5.0)


@pytest.mark.weights
def test_a_real_checkpoint_transcribes_real_speech() -> None:
    """MLX_KSTT_WEIGHTS names a checkpoint, MLX_KSTT_SPEECH an English recording with its text beside it (.txt)."""
    stt = mlx_kstt.load(os.environ["MLX_KSTT_WEIGHTS"])
    recording = Path(os.environ["MLX_KSTT_SPEECH"])
    said = recording.with_suffix(".txt").read_text("utf-8").lower().split()
    heard = stt.transcribe(recording).text.lower().split()
    assert errors(said, heard) <= 0.15 * len(said)
