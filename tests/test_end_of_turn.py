"""The end of a turn: its last words come at once, out of a fork that leaves the stream as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from conftest import PACKAGE
from scripted_engine import (
    SILENT,
    ScriptedEngine,
    final_words,
    frame,
    frame_by_frame,
    scripted_stream,
    silence,
    sound,
    speech,
)
from test_layers import leaves
from test_tiny import errors

import mlx_kstt
from mlx_kstt import EndOfTurn, Event, Pause, Stream, Transcriber, Word
from mlx_kstt.options import StreamOptions

MOVED = 0.17
"""Seconds by which a word that a fork has told may differ: it did not hear what followed. Two frames."""


@pytest.fixture(scope="module")
def headless(tmp_path_factory: pytest.TempPathFactory) -> Transcriber:
    """The bundled model without its pause heads."""
    folder, tiny = tmp_path_factory.mktemp("headless"), PACKAGE / "bundled" / "tiny"
    tensors = safetensors.numpy.load_file(tiny / "model.safetensors")
    kept = {name: x for name, x in tensors.items() if "pause_heads" not in name}
    assert len(kept) < len(tensors)
    safetensors.numpy.save_file(kept, folder / "model.safetensors")
    config = json.loads((tiny / "config.json").read_text())
    config["decoder"]["pause_heads"] = 0
    (folder / "config.json").write_text(json.dumps(config))
    shutil.copy(Path(tiny / "tokenizer.model"), folder)
    return mlx_kstt.load(folder, dtype="float32")


@pytest.fixture(params=["heads", "energy"])
def model(request: pytest.FixtureRequest) -> Transcriber:
    """With pause heads, and without."""
    return request.getfixturevalue("tiny" if request.param == "heads" else "headless")


def opened(stt: Transcriber, *, ahead: bool, **options: Any) -> Stream:
    return stt._open(StreamOptions(ahead=ahead, **options))


def heard(stream: Stream, pcm: np.ndarray, size: int = 9_600) -> list[Event]:
    events = [event for start in range(0, len(pcm), size) for event in stream.push(pcm[start : start + size])]
    return events + stream.flush()


def turns(events: list[Event]) -> list[EndOfTurn]:
    return [event for event in events if isinstance(event, EndOfTurn)]


def spans(words: list[Word]) -> list[tuple[str, float]]:
    return [(word.text, word.start) for word in words]


def seconds(frames: float) -> np.ndarray:
    return np.zeros(round(frames * 24_000), np.float32)


@pytest.mark.parametrize("number", [1, 4])
def test_the_last_words_come_with_the_end_and_sooner_than_the_model_tells_them(tiny, recordings, number: int) -> None:
    pcm = np.concatenate([recordings[number].sound(), seconds(1.5)])
    options = {"pause_threshold": 0.1, "turn_hold": 0.08}
    told = frame_by_frame(opened(tiny, ahead=True, **options), pcm)
    plain = frame_by_frame(opened(tiny, ahead=False, **options), pcm)
    assert spans(final_words(event for _, event in told)) == spans(final_words(event for _, event in plain))
    last = final_words(event for _, event in plain)[-1]
    at = [n for n, event in told if isinstance(event, Word) and event.start == last.start]
    assert at[0] == max(n for n, event in told if isinstance(event, EndOfTurn)), "with the end of its turn"
    late = next(n for n, event in plain if event == last)
    end = max(n for n, event in plain if isinstance(event, EndOfTurn))
    assert 0 < at[0] <= late - 1 and at[0] <= end - 6, "the delay is 6.25 frames"


def test_the_stream_goes_on_as_if_there_had_been_no_fork(model, recordings) -> None:
    """Bit for bit, after two turns; and its later words are the same."""
    pcm = np.concatenate([recordings[5].sound(), seconds(1.5), recordings[6].sound(), seconds(1.5)])
    forked, plain = opened(model, ahead=True), opened(model, ahead=False)
    events = forked.push(pcm)
    plain.push(pcm)
    assert len(turns(events)) == 2
    for (name, one), (other, x) in zip(
        leaves(forked.snapshot().rows.engine), leaves(plain.snapshot().rows.engine), strict=True
    ):
        assert name == other
        assert np.array_equal(np.array(one), np.array(x)), name
    words = final_words(events + forked.flush())
    assert spans(words) == spans(list(model.transcribe(pcm).words))


@pytest.fixture(scope="module")
def interrupted(recordings) -> np.ndarray:
    """Recordings with 0.1 to 1.5 s of silence between them, after words and in the middle of them."""
    parts: list[np.ndarray] = []
    for i, gap in enumerate((0.1, 0.3, 0.5, 0.7, 0.9, 1.1, 1.3, 1.5)):
        pcm = recordings[i].sound()
        parts += [pcm[len(pcm) // 2 :] if i % 2 else pcm[: len(pcm) * 2 // 3], seconds(gap)]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def expected(tiny, interrupted) -> list[Word]:
    """What the model makes of it without forks; pause heads change nothing."""
    return list(tiny.transcribe(interrupted).words)


@pytest.mark.parametrize(
    "options",
    [{}, {"pause_threshold": 0.1, "turn_hold": 0.08}, {"pause_threshold": 0.05, "turn_hold": 0.0}],
    ids=["default", "early", "far too early"],
)
def test_speech_that_goes_on_within_the_delay_is_told_once_and_whole(tiny, interrupted, expected, options) -> None:
    check_that_speech_goes_on(opened(tiny, ahead=True, **options), interrupted, expected)


@pytest.mark.parametrize("options", [{}, {"turn_hold": 0.0}], ids=["default", "early"])
def test_without_heads_too(headless, interrupted, expected, options) -> None:
    check_that_speech_goes_on(opened(headless, ahead=True, **options), interrupted, expected)


def check_that_speech_goes_on(stream: Stream, pcm: np.ndarray, expected: list[Word]) -> None:
    events = heard(stream, pcm)
    words = final_words(events)
    assert len(turns(events)) >= 3
    assert [word.start for word in words] == pytest.approx([word.start for word in expected], abs=MOVED)
    changed = errors([word.text for word in expected], [word.text for word in words])
    assert changed <= 0.05 * len(words), "a fork has not heard what follows"
    assert sum(len(turn.text.split()) for turn in turns(events)) == len(words)


@pytest.mark.parametrize("cut", (9, 12))
def test_times_of_pauses_and_turns_lie_in_the_sound_however_it_is_cut(model, recordings, cut: int) -> None:
    pcm = recordings[cut].sound()[: 24_000 + 500 * cut]
    for event in heard(model.open(), pcm, 500_000):
        if isinstance(event, Pause | EndOfTurn):
            assert 0 <= event.time <= len(pcm) / 24_000 + 1e-3, event


def test_scripted_times_lie_in_the_sound_too() -> None:
    for heads in (4, 0):
        for samples in (0, 1, 1_000, 1_919):
            pcm = np.concatenate([sound(3, 3, 5, 3, 6), frame(3)[:samples]])
            events = [event for _, event in frame_by_frame(scripted_stream(heads=heads), pcm)]
            times = [event.time for event in events if isinstance(event, Pause | EndOfTurn)]
            assert len(times) == 2
            assert max(times) <= len(pcm) / 24_000 + 1e-3


def told_at(told: list[tuple[int, Event]]) -> list[tuple[int, str]]:
    return [(at, event.text) for at, event in told if isinstance(event, Word | EndOfTurn)]


def test_scripted_words_come_with_the_hold() -> None:
    """Silence from frame 6 on: a pause is felt there, and has lasted for 4 frames when 10 have been pushed."""
    pcm = sound(3, 3, 5, 3, 3, 6, silence(30))
    assert told_at(frame_by_frame(scripted_stream(), pcm)) == [(10, "w5"), (10, "w6"), (10, "w5 w6")]
    assert told_at(frame_by_frame(scripted_stream(heads=0), pcm)) == [(12, "w5"), (15, "w6"), (19, "w5 w6")]
    assert told_at(frame_by_frame(scripted_stream(delay=31), pcm)) == [(10, "w5"), (10, "w6"), (10, "w5 w6")]
    plain = frame_by_frame(scripted_stream(ahead=False), pcm)
    assert told_at(plain) == [(12, "w5"), (15, "w6"), (19, "w5 w6")]


def test_a_word_that_is_still_being_spoken_is_left_to_the_stream() -> None:
    """A pause felt while the sound goes on: what the fork makes of half a word is not told."""
    felt = [frame(PAD, pause=True) for PAD in (3, 3, 6, 203)]
    told = frame_by_frame(scripted_stream(), sound(3, 5, 3, *felt, 204, 3, 7, silence(30)))
    assert told_at(told)[:2] == [(7, "w5"), (7, "w5")]
    words = final_words(event for _, event in told)
    assert spans(words) == [("w5", 0.08), ("w6x203x204", 0.4), ("w7", 0.72)]
    assert [event.text for _, event in told if isinstance(event, EndOfTurn)] == ["w5", "w6x203x204 w7"]


def test_a_word_cut_by_a_false_end_is_corrected() -> None:
    """A stop within a word: told in two halves, as a word and its revision."""
    told = frame_by_frame(
        scripted_stream(turn_hold=0.16), sound(3, 5, 3, silence(2), 205, 3, 6, speech(10), silence(30))
    )
    assert [(event.text, event.start) for _, event in told if isinstance(event, Word)] == [
        ("w5", 0.08),
        ("w5x205", 0.08),
        ("w6", 0.56),
    ]


def test_a_word_cut_by_a_false_end_is_corrected_before_the_next_end_tells_more() -> None:
    """The second fork has heard the whole word, and tells words after it: then nothing could correct it any more."""
    pcm = sound(3, 5, 3, silence(2), 205, 3, 6, silence(30))
    words = final_words(event for _, event in frame_by_frame(scripted_stream(turn_hold=0.16, delay=12), pcm))
    assert spans(words) == [("w5x205", 0.08), ("w6", 0.56)]


def test_words_that_a_fork_hears_in_its_own_silence_were_not_said() -> None:
    """A model that makes up a word after 9 frames of silence; but the speaker goes on after one."""

    def write(codes: tuple[int, ...]) -> int:
        made_up = all(code == SILENT for code in codes[-9:]) and codes[-10] != SILENT
        return 50 if made_up else codes[-7] >> 1

    pcm = sound(speech(3), 5, silence(1), 3, 3, 6, 3, 7, speech(12))
    told = frame_by_frame(scripted_stream(ScriptedEngine(6, write=write), turn_hold=0.08), pcm)
    words = spans(final_words(event for at, event in told if at > 0))
    assert words == [("w5", 0.24), ("w6", 0.56), ("w7", 0.72)]
    assert [event.text for at, event in told if isinstance(event, EndOfTurn) and at > 0] == ["w5"]


def test_silence_and_noise_without_words_end_nothing() -> None:
    for pcm in (silence(200), sound(speech(40), silence(40)), sound(3, 3, silence(40), 3, silence(40))):
        assert [event for _, event in frame_by_frame(scripted_stream(), pcm)] == []
        assert [event for _, event in frame_by_frame(scripted_stream(heads=0), pcm)] == []


def test_digits_are_one_turn_and_the_hold_decides() -> None:
    digits = sound(*[part for id in range(4, 14) for part in (id, 3, 3, silence(3))], silence(30))
    text = " ".join(f"w{id}" for id in range(4, 14))
    for heads in (4, 0):
        events = [event for _, event in frame_by_frame(scripted_stream(heads=heads), digits)]
        assert [turn.text for turn in turns(events)] == [text]
    hasty = [event for _, event in frame_by_frame(scripted_stream(turn_hold=0.16), digits)]
    assert [turn.text for turn in turns(hasty)] == text.split()


def test_the_last_turn_ends_with_the_sound() -> None:
    told = frame_by_frame(scripted_stream(pause_threshold=0.95), sound(3, 5, 3, 6, 3))
    assert told[-1] == (-1, EndOfTurn(0.4, "w5 w6"))
    assert [event for _, event in told if isinstance(event, Pause)] == []
