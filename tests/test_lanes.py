"""Two speakers on two channels: rows of one batched step, each as if it were alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scripted_engine import frame_by_frame, scripted_stream, silence, sound
from test_stream import assert_same

import mlx_kstt
from mlx_kstt import EndOfTurn, Event, Word

NAMES = ("Ann", "Bob")


def heard(stream: mlx_kstt.Stream, pcm: np.ndarray, size: int = 24_000) -> list[Event]:
    events = [event for start in range(0, len(pcm), size) for event in stream.push(pcm[start : start + size])]
    return events + stream.flush()


def assert_same_but_for_the_label(lane: list[Event], alone: list[Event], name: str) -> None:
    """Equal events but for the label; probabilities may differ by the rounding of another batch."""
    assert {getattr(event, "lane", None) for event in lane} == {name}
    assert_same([replace(event, lane=None) for event in lane], alone)


@pytest.fixture(scope="module")
def two(recordings) -> np.ndarray:
    """(samples, 2): two recordings that begin at different times and end with silence."""
    one, other = recordings[5].sound(), np.concatenate([np.zeros(30_001, np.float32), recordings[8].sound()])
    length = max(len(one), len(other)) + 24_000
    return np.stack([np.pad(pcm, (0, length - len(pcm))) for pcm in (one, other)], axis=1)


def test_each_lane_is_as_if_it_were_alone(tiny, two) -> None:
    events = heard(tiny.open(lanes=NAMES), two)
    for i, name in enumerate(NAMES):
        alone = heard(tiny.open(), two[:, i].copy())
        assert sum(isinstance(event, Word) for event in alone) >= 5
        assert_same_but_for_the_label([event for event in events if event.lane == name], alone, name)


def test_all_levels_take_two_channels(tiny, two) -> None:
    expected = {name: tiny.transcribe(two[:, i].copy()).words for i, name in enumerate(NAMES)}
    transcript = tiny.transcribe(two, lanes=NAMES)
    assert transcript.duration == pytest.approx(len(two) / 24_000)
    streamed = list(tiny.stream(np.array_split(two, 7), lanes=NAMES))
    for name in NAMES:
        spans = [(word.text, word.start, word.end) for word in expected[name]]
        words = [word for word in transcript.words if word.lane == name]
        assert [(word.text, word.start, word.end) for word in words] == spans
        final = {event.start: event for event in streamed if isinstance(event, Word) and event.lane == name}
        assert [word.text for word in final.values()] == [word.text for word in expected[name]]


def test_events_come_in_the_order_of_the_sound() -> None:
    left = sound(3, 3, 3, 5, 3, silence(20))
    right = sound(silence(8), 3, 3, 3, 6, 3, silence(12))
    told = frame_by_frame_of_two(np.stack([left, right], axis=1))
    assert [(at, event.text, event.lane) for at, event in told if isinstance(event, EndOfTurn)] == [
        (9, "w5", "Ann"),
        (17, "w6", "Bob"),
    ]
    assert [at for at, _ in told] == sorted(at for at, _ in told)


def frame_by_frame_of_two(pcm: np.ndarray) -> list[tuple[int, Event]]:
    return frame_by_frame(scripted_stream(lanes=NAMES), pcm)


def test_one_named_lane_is_a_column_with_a_label() -> None:
    pcm = sound(3, 3, 3, 5, 3, silence(20))
    named = heard(scripted_stream(lanes=("Ann",)), pcm[:, None])
    assert_same_but_for_the_label(named, heard(scripted_stream(), pcm), "Ann")


def test_many_lanes_stay_apart() -> None:
    names = tuple(f"lane {i}" for i in range(32))
    pcm = np.stack([sound(3, 3, 3, silence(i), 4 + i, 3, silence(60 - i)) for i in range(32)], axis=1)
    events = heard(scripted_stream(lanes=names), pcm)
    words = {event.lane: (event.text, event.start) for event in events if isinstance(event, Word)}
    assert words == {f"lane {i}": (f"w{4 + i}", pytest.approx(0.08 * (3 + i))) for i in range(32)}


@pytest.mark.parametrize(
    ("pcm", "message"),
    [
        (np.zeros(1920, np.float32), r"\(samples, 2\)"),
        (np.zeros((1920, 1), np.float32), r"\(samples, 2\)"),
        (np.zeros((1920, 3), np.float32), r"\(samples, 2\)"),
        (np.zeros((2, 1920), np.float32), r"\(samples, 2\)"),
        (np.zeros((1920, 2), np.int16), "array of floats"),
        (np.array([[0.0, 0.0], [0.0, np.nan]], np.float32), "sample 1 of the sound is nan"),
    ],
)
def test_other_shapes_are_refused_and_leave_the_stream_as_it_was(pcm: np.ndarray, message: str) -> None:
    good = np.stack([sound(3, 3, 3, 5, 3), sound(3, 3, 6, 3, 3)], axis=1)
    stream = scripted_stream(lanes=NAMES)
    with pytest.raises(mlx_kstt.AudioError, match=message):
        stream.push(pcm)
    assert heard(stream, good) == heard(scripted_stream(lanes=NAMES), good)


def test_two_channels_without_lanes_are_refused() -> None:
    with pytest.raises(mlx_kstt.AudioError, match="one-dimensional"):
        scripted_stream().push(np.zeros((1920, 2), np.float32))


def test_wrong_wishes_are_refused(tiny, two) -> None:
    with pytest.raises(mlx_kstt.OptionError, match="different names"):
        tiny.open(lanes=("Ann", "Ann"))
    with pytest.raises(mlx_kstt.OptionError, match="different names"):
        tiny.open(lanes=[str(i) for i in range(33)])
    with pytest.raises(mlx_kstt.OptionError, match="lanes take each channel"):
        tiny.transcribe(two, lanes=NAMES, channel=1)
    with pytest.raises(mlx_kstt.AudioError, match="no channel 1"):
        tiny.transcribe(two[:, 0].copy(), lanes=NAMES)
    with pytest.raises(mlx_kstt.AudioError, match="1 channels; 2 are to be kept apart"):
        list(tiny.stream([two[:1920, 0].copy()], lanes=NAMES))


def test_one_speaker_with_a_name_may_be_heard_in_one_dimension(tiny, recordings) -> None:
    sound = recordings[1].sound()
    stream = tiny.open(lanes=["Ann"])
    events = stream.push(sound) + stream.push(sound[:0, None]) + stream.flush()
    words = [event for event in events if isinstance(event, mlx_kstt.Word)]
    assert " ".join(word.text for word in words) == recordings[1].reference_text
    assert {word.lane for word in words} == {"Ann"}
