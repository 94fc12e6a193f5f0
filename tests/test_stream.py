"""The stream: any cut of the sound, snapshots, forks, flush and reset give the same words; options and wrong use."""

from __future__ import annotations

import inspect

import numpy as np
import pytest

import mlx_kstt
from mlx_kstt import EndOfTurn, Partial, Pause, Word


def everything(stream: mlx_kstt.Stream, sound: np.ndarray, size: int) -> list[mlx_kstt.Event]:
    events: list[mlx_kstt.Event] = []
    for start in range(0, len(sound), size):
        events += stream.push(sound[start : start + size])
    return events + stream.flush()


def texts(events: list[mlx_kstt.Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Word)]


def assert_same(a: list[mlx_kstt.Event], b: list[mlx_kstt.Event]) -> None:
    """Equal events; probabilities may differ by the rounding of another block length."""
    assert [type(event) for event in a] == [type(event) for event in b]
    for one, other in zip(a, b, strict=True):
        if isinstance(one, Word) and isinstance(other, Word):
            assert (one.text, one.start, one.end) == (other.text, other.start, other.end)
            assert one.confidence == pytest.approx(other.confidence, abs=1e-3)
        elif isinstance(one, Pause) and isinstance(other, Pause):
            assert one.time == other.time
            assert one.probabilities == pytest.approx(other.probabilities, abs=1e-3)
        else:
            assert one == other


@pytest.mark.parametrize("size", [1920, 777, 24_000, 500_000])
def test_any_cut_of_the_sound_gives_the_same_events(tiny, recordings, size: int) -> None:
    sound = recordings[0].sound()
    assert_same(everything(tiny.open(), sound, size), everything(tiny.open(), sound, 4096))


def test_words_come_while_the_sound_comes_and_flush_brings_the_rest(tiny, recordings) -> None:
    recording = recordings[4]
    sound = recording.sound()[: int(24_000 * tiny.transcribe(recording.path).words[-1].end)]
    stream, heard = tiny.open(), 0
    live: list[mlx_kstt.Event] = []
    for frame in np.split(sound, range(1920, len(sound), 1920)):
        events = stream.push(frame)
        heard += len(frame)
        assert all(event.end * 24_000 < heard for event in events if isinstance(event, Word)), "a word before its sound"
        live += events
    words = recording.reference_text.split()
    assert texts(live) == words[: len(texts(live))]
    assert texts(live + stream.flush()) == words
    assert len(words) - 2 <= len(texts(live)) < len(words), "only the last words are still in the model's delay"


def test_partials_lead_to_their_word(tiny, recordings) -> None:
    events = everything(tiny.open(), recordings[9].sound(), 1920)
    partials = {event.start: event.text for event in events if isinstance(event, Partial)}
    assert partials == {event.start: event.text for event in events if isinstance(event, Word)}


def test_the_end_of_the_turn_has_all_its_words(tiny, recordings) -> None:
    sound = np.concatenate([recordings[5].sound(), np.zeros(72_000, np.float32), recordings[6].sound()])
    events = everything(tiny.open(), sound, 1920)
    turns = [event for event in events if isinstance(event, EndOfTurn)]
    assert [turn.text for turn in turns[:1]] == [recordings[5].reference_text]
    assert any(isinstance(event, Pause) and event.time == turns[0].time for event in events)


def test_restore_goes_back_to_the_very_same_place(tiny, recordings) -> None:
    sound = recordings[1].sound()
    stream = tiny.open()
    stream.push(sound[:30_001])
    mark = stream.snapshot()
    first = everything(stream, sound[30_001:], 1920)
    stream.restore(mark)
    assert everything(stream, sound[30_001:], 1920) == first


def test_a_snapshot_holds_the_random_key(tiny, recordings) -> None:
    sound = recordings[2].sound()
    stream = tiny.open(temperature=1.5, seed=3)
    stream.push(sound[:20_000])
    mark = stream.snapshot()
    first = everything(stream, sound[20_000:], 1920)
    stream.restore(mark)
    assert everything(stream, sound[20_000:], 1920) == first
    assert texts(first) != texts(everything(tiny.open(), sound, 1920)), "so hot a draw cannot equal the likeliest text"


def test_a_fork_and_its_origin_do_not_disturb_each_other(tiny, recordings) -> None:
    one, other = recordings[3].sound(), recordings[8].sound()
    stream = tiny.open()
    stream.push(one[:40_000])
    branch = stream.fork()
    on_branch = branch.push(other) + branch.flush()
    assert_same(everything(stream, one[40_000:], 1920), everything_after(tiny, one, 40_000, one[40_000:]))
    assert_same(on_branch, everything_after(tiny, one, 40_000, other))


def everything_after(tiny, before: np.ndarray, samples: int, sound: np.ndarray) -> list[mlx_kstt.Event]:
    stream = tiny.open()
    stream.push(before[:samples])
    return everything(stream, sound, 1920)


def test_flush_ends_and_reset_begins_afresh(tiny, recordings) -> None:
    sound = recordings[7].sound()
    stream = tiny.open()
    first = everything(stream, sound, 1920)
    for use in (lambda: stream.push(sound), stream.flush):
        with pytest.raises(
            mlx_kstt.StreamClosedError, match=r"has been flushed, or has broken off: reset\(\) opens it"
        ):
            use()
    stream.reset()
    assert everything(stream, sound, 1920) == first


def test_temperature_draws_by_its_seed(tiny, recordings) -> None:
    sound = recordings[0].sound()
    runs = [everything(tiny.open(temperature=1.2, seed=seed), sound, 24_000) for seed in (1, 1, 2)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


@pytest.mark.parametrize(
    ("sound", "message"),
    [
        (np.zeros(10, np.int16), "one-dimensional array of floats in -1..1; this is int16"),
        (np.zeros((10, 2), np.float32), r"of shape \(10, 2\)"),
        (np.array([0.0, np.nan]), "sample 1 of the sound is nan"),
        (np.array([np.inf, 0.0], np.float32), "sample 0 of the sound is inf"),
    ],
)
def test_what_is_not_sound_is_refused_and_leaves_the_stream_as_it_was(tiny, recordings, sound, message) -> None:
    stream = tiny.open()
    with pytest.raises(mlx_kstt.AudioError, match=message):
        stream.push(sound)
    good = recordings[1].sound()
    assert everything(stream, good, 1920) == everything(tiny.open(), good, 1920)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -1.0}, "temperature is -1.0; it must be 0"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"pause_head": 4}, "pause_head is 4; this checkpoint has heads 0 to 3"),
        ({"pause_threshold": 1.5}, "pause_threshold is 1.5; it must be between 0 and 1"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_impossible_options_are_refused(tiny, options, message) -> None:
    with pytest.raises(mlx_kstt.OptionError, match=message):
        tiny.open(**options)


def test_a_high_threshold_hears_no_pause(tiny, recordings) -> None:
    events = everything(tiny.open(pause_threshold=0.999), recordings[5].sound(), 1920)
    assert not any(isinstance(event, Pause) for event in events)
    assert [type(event) for event in events if isinstance(event, EndOfTurn)] == [EndOfTurn], "the sound's end ends it"
    assert isinstance(events[-1], EndOfTurn)


def test_all_levels_take_the_same_options(tiny) -> None:
    options = inspect.signature(tiny.open).parameters
    for level in (tiny.transcribe, tiny.stream, tiny.astream):
        own = inspect.signature(level).parameters
        assert {name: own[name].default for name in options} == {name: p.default for name, p in options.items()}


def test_blocks_of_another_rate_are_resampled(tiny, recordings) -> None:
    import soxr

    sound = soxr.resample(recordings[3].sound(), 24_000, 48_000)
    events = list(tiny.stream(np.split(sound, range(1000, len(sound), 1000)), sampling_rate=48_000))
    assert " ".join(texts(events)) == recordings[3].reference_text
