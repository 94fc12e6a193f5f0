"""Time in which sound was lost: the gap is told first, what was held back comes, and the clock goes on exactly."""

from __future__ import annotations

import numpy as np
import pytest
from scripted_engine import ScriptedEngine, final_words, scripted_stream, silence, sound, speech

import mlx_kstt
from mlx_kstt import EndOfTurn, Event, Gap, Pause, Stream, Word
from mlx_kstt.audio import Lost

BEFORE, AFTER = sound(speech(2), 5, 3, 6), sound(3, 7, 3, 3, 8, 3)


def words(events: list[Event], lane: str | None = None) -> list[tuple[str, float]]:
    return [(word.text, word.start) for word in final_words(events, lane)]


def gap_seconds(frames: int) -> float:
    return frames * 0.08


def interrupt(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    """Whoever waits goes away when it has been looked for so many times."""
    looks = iter(range(after))
    monkeypatch.setattr("mlx_kstt.stream.is_abandoned", lambda: next(looks, None) is None)


@pytest.mark.parametrize("frames", [1, 5, 15, 18, 19, 25, 125, 8 * 45_000])
@pytest.mark.parametrize("heads", [4, 0])
def test_the_gap_comes_first_then_what_was_held_back_and_all_after_it_is_later(frames: int, heads: int) -> None:
    stream = scripted_stream(heads=heads)
    before = stream.push(BEFORE)
    seconds = gap_seconds(frames)
    skipped = stream.skip(Lost(seconds, "asleep"))
    assert skipped[0] == Gap(0.4, round(0.4 + seconds, 3), "asleep")
    assert stream.seconds == pytest.approx(0.4 + seconds, abs=1e-3)
    if frames >= 18:
        assert words(before + skipped) == [("w5", 0.16), ("w6", 0.32)]
        assert EndOfTurn(0.48, "w5 w6") in skipped
    events = before + skipped + stream.push(AFTER) + stream.flush()
    shift = 0.4 + seconds
    assert words(events) == [
        ("w5", 0.16),
        ("w6", 0.32),
        ("w7", pytest.approx(shift + 0.08)),
        ("w8", pytest.approx(shift + 0.32)),
    ]
    assert stream.seconds == pytest.approx(shift + 0.48, abs=1e-3)


def test_hours_cost_no_more_than_seconds() -> None:
    def effort(seconds: float) -> tuple[int, int, int]:
        engine = ScriptedEngine(6)
        stream = scripted_stream(engine)
        stream.push(BEFORE)
        stream.skip(Lost(seconds, "asleep"))
        return engine.heard, engine.followed, stream.snapshot().incoming.samples

    assert effort(10.0) == effort(8 * 3600.0) == effort(1e6)


def test_a_gap_is_exact_to_the_sample_and_gaps_do_not_add_up_to_an_error() -> None:
    stream = scripted_stream()
    stream.push(BEFORE[:1000])
    for _ in range(100):
        stream.skip(Lost(2.0 + 1 / 24_000, "stalled"))
    assert stream.seconds == pytest.approx(1000 / 24_000 + 100 * (2.0 + 1 / 24_000), abs=1e-3)


@pytest.mark.parametrize("filled", [0.4, 0.8, 1.2])
def test_what_was_filled_with_silence_is_not_waited_for_again(filled: float) -> None:
    stream = scripted_stream()
    events = stream.push(sound(BEFORE, silence(round(filled / 0.08))))
    skipped = stream.skip(Lost(1.2, "stalled", filled=filled))
    assert skipped[0] == Gap(0.4, 1.6, "stalled")
    assert stream.seconds == pytest.approx(1.6)
    events += skipped + stream.push(AFTER) + stream.flush()
    assert words(events) == [("w5", 0.16), ("w6", 0.32), ("w7", 1.68), ("w8", 1.92)]


def test_several_in_a_row_are_told_one_after_another() -> None:
    stream = scripted_stream()
    events = [*stream.push(BEFORE), *stream.skip(Lost(0.8, "a")), *stream.skip(Lost(80.0, "b"))]
    events += [*stream.skip(Lost(0.16, "c", filled=0.16)), *stream.skip(Lost(4.0, "d"))]
    gaps = [event for event in events if isinstance(event, Gap)]
    assert gaps == [Gap(0.4, 1.2, "a"), Gap(1.2, 81.2, "b"), Gap(81.04, 81.2, "c"), Gap(81.2, 85.2, "d")]
    assert words(events + stream.push(AFTER) + stream.flush())[2:] == [("w7", 85.28), ("w8", 85.52)]


@pytest.mark.parametrize("prefix", [0.0, 0.8])
@pytest.mark.parametrize("start", [0.0, 1000.0])
@pytest.mark.parametrize("seconds", [0.8, 80.0])
def test_at_the_very_beginning(prefix: float, start: float, seconds: float) -> None:
    stream = scripted_stream(prefix=prefix, start=start)
    assert stream.skip(Lost(seconds, "late")) == [Gap(start, start + seconds, "late")]
    events = stream.push(AFTER) + stream.flush()
    begin = start + seconds
    assert words(events) == [("w7", pytest.approx(begin + 0.08)), ("w8", pytest.approx(begin + 0.32))]


def test_at_the_end() -> None:
    stream = scripted_stream()
    events = [*stream.push(BEFORE), *stream.skip(Lost(80.0, "gone")), *stream.flush()]
    assert words(events) == [("w5", 0.16), ("w6", 0.32)]
    assert stream.seconds == pytest.approx(80.4)
    assert [event for event in events if isinstance(event, EndOfTurn)] == [EndOfTurn(0.48, "w5 w6")]


@pytest.mark.parametrize("heads", [4, 0])
def test_a_turn_whose_hold_outlasts_the_silence_before_the_jump_ended_before_it(heads: int) -> None:
    stream = scripted_stream(heads=heads, turn_hold=3.0)
    events = [*stream.push(BEFORE), *stream.skip(Lost(28_800.0, "asleep")), *stream.push(silence(40))]
    events += stream.flush()
    assert [event.time for event in events if isinstance(event, Pause | EndOfTurn)] == [0.48, 0.48]


def test_a_lane_is_named_by_its_column() -> None:
    stream = scripted_stream(lanes=("Ann", "Bob"))
    both = np.stack([BEFORE, BEFORE], axis=1)
    events = [*stream.push(both), *stream.skip(Lost(1.6, "unplugged", filled=0.08, lane=1))]
    assert Gap(0.32, 1.92, "unplugged", "Bob") in events
    assert stream.skip(Lost(1.6, "asleep"))[0] == Gap(1.92, 3.52, "asleep")
    events += stream.push(np.stack([AFTER, silence(6)], axis=1)) + stream.flush()
    assert words(events, "Ann")[-1] == ("w8", 3.84)
    assert words(events, "Bob") == [("w5", 0.16), ("w6", 0.32)]


@pytest.mark.parametrize(
    "lost", [Lost(float("nan"), "x"), Lost(float("inf"), "x"), Lost(-1.0, "x"), Lost(1.0, "x", lane=2)]
)
def test_time_that_cannot_be_is_refused_and_leaves_the_stream_as_it_was(lost: Lost) -> None:
    stream = scripted_stream(lanes=("Ann", "Bob"))
    both = np.stack([BEFORE, BEFORE], axis=1)
    before = stream.push(both)
    with pytest.raises(mlx_kstt.KsttError):
        stream.skip(lost)
    assert words(before + stream.flush(), "Bob") == [("w5", 0.16), ("w6", 0.32)]


def test_after_flush_there_is_nothing_to_skip() -> None:
    stream = scripted_stream()
    stream.push(BEFORE)
    stream.flush()
    with pytest.raises(mlx_kstt.StreamClosedError, match=r"reset\(\) opens it again"):
        stream.skip(Lost(1.0, "asleep"))
    stream.reset()
    assert stream.skip(Lost(1.0, "asleep")) == [Gap(0.0, 1.0, "asleep")]


@pytest.mark.parametrize("after", range(6))
def test_interrupted_it_is_heard_and_told_with_the_next_call(monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    plain = scripted_stream()
    expected = [*plain.push(BEFORE), *plain.skip(Lost(80.0, "asleep")), *plain.push(AFTER), *plain.flush()]
    stream = scripted_stream()
    events = stream.push(BEFORE)
    with monkeypatch.context() as patch:
        interrupt(patch, after)
        events += stream.skip(Lost(80.0, "asleep"))
    assert stream.seconds == pytest.approx(80.4), "also of what is still unheard"
    events += stream.push(AFTER) + stream.flush()
    assert events == expected


def test_snapshot_and_fork_hold_what_was_lost_and_is_unheard(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = scripted_stream()
    plain.push(BEFORE)
    expected = [*plain.skip(Lost(80.0, "asleep")), *plain.push(AFTER), *plain.flush()]
    stream = scripted_stream()
    stream.push(BEFORE)
    with monkeypatch.context() as patch:
        interrupt(patch, 0)
        assert stream.skip(Lost(80.0, "asleep")) == []
        mark, branch = stream.snapshot(), stream.fork()
    assert [*branch.push(AFTER), *branch.flush()] == expected
    assert [*stream.push(AFTER), *stream.flush()] == expected
    stream.restore(mark)
    assert [*stream.push(AFTER), *stream.flush()] == expected


@pytest.mark.parametrize("seconds", [0.3, 1.0, 1.55, 4.0])
def test_speech_goes_on_as_after_real_silence(tiny, recordings, seconds: float) -> None:
    """The real model, a gap of any length, and sound that does not end with a frame."""
    first, second = recordings[5].sound()[:50_001], recordings[6].sound()[:50_000]
    stream = tiny.open()
    events = stream.push(first) + stream.skip(Lost(seconds, "asleep")) + stream.push(second) + stream.flush()
    gap = np.zeros(round(seconds * 24_000), np.float32)
    expected = tiny.transcribe(np.concatenate([first, gap, second]))
    assert stream.seconds == pytest.approx(expected.duration, abs=1e-3)
    if seconds < 1.6:  # heard as the same silence
        assert words(events) == [(word.text, word.start) for word in expected.words]
    else:  # the model's memory of less silence may move a word by a frame
        assert [text for text, _ in words(events)] == [word.text for word in expected.words]
        starts = [word.start for word in expected.words]
        assert [start for _, start in words(events)] == pytest.approx(starts, abs=0.081)


def test_words_are_never_moved_by_more_than_the_gap(tiny, recordings) -> None:
    """A jump of 8 hours shifts what a gap of 4 s gives by exactly the rest."""
    first, second = recordings[5].sound()[:50_001], recordings[6].sound()[:50_000]

    def heard(stream: Stream, seconds: float) -> list[Word]:
        events = stream.push(first) + stream.skip(Lost(seconds, "asleep")) + stream.push(second) + stream.flush()
        return final_words(events)

    short, long = heard(tiny.open(), 4.0), heard(tiny.open(), 4.0 + 360_000 * 0.08)
    moved = [0.0 if word.start < 2 else 28_800.0 for word in short]
    assert set(moved) == {0.0, 28_800.0}
    assert [word.start for word in long] == pytest.approx(
        [word.start + by for word, by in zip(short, moved, strict=True)]
    )
    assert [word.text for word in long] == [word.text for word in short]
