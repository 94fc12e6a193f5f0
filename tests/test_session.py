"""The loop of a live session: what is kept, what is told and in which order, and that a failing disk ends nothing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
from fake_session import CountingStream, FakeMicrophone, seconds_of
from limits import files_of_at_most

import mlx_kstt
from mlx_kstt.audio.lost import Lost
from mlx_kstt.errors import AudioError, KsttError
from mlx_kstt.events import EndOfTurn, Event, Gap, Partial, Pause, Word
from mlx_kstt.live.journal import Journal
from mlx_kstt.live.past_sessions import read_journal, read_past
from mlx_kstt.live.recording import Recording
from mlx_kstt.live.session import Session
from mlx_kstt.live.status import Pauses, Status, levels_of
from mlx_kstt.loudness import SILENCE


class Told:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, events: Sequence[Event]) -> None:
        self.events += events

    @property
    def texts(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Word)]


def test_what_is_heard_is_told_in_order_and_to_its_end() -> None:
    told, stream = Told(), CountingStream()
    assert Session([seconds_of(0.1), seconds_of(0.2)], stream, listeners=[told]).run()
    assert told.events == [
        Word("100", 0.0, 1.0, 0.5),
        Word("200", 1.0, 2.0, 0.5),
        EndOfTurn(2.0, "100 200"),
    ]


def test_what_is_decoded_is_what_is_saved(tmp_path: Path) -> None:
    sound = np.random.default_rng(4).uniform(-1.5, 1.5, 24_000).astype(np.float32)
    stream = CountingStream()
    recording = Recording(tmp_path / "a.wav")
    assert Session([sound[:7000], sound[7000:]], stream, recording=recording).run()
    saved = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert np.array_equal(saved, np.concatenate(stream.sounds))
    assert np.abs(saved - sound.clip(-1, 1)).max() <= 1 / 2**15


def test_lost_time_is_silence_in_the_recording_and_a_gap_in_the_events(tmp_path: Path) -> None:
    told = Told()
    items = [seconds_of(0.1, 3), Lost(2.5, "gone", filled=1.0), seconds_of(0.3)]
    assert Session(items, CountingStream(), recording=Recording(tmp_path / "a.wav"), listeners=[told]).run()
    assert [event for event in told.events if isinstance(event, Gap)] == [Gap(2.0, 4.5, "gone")]
    saved = soundfile.read(tmp_path / "a.wav", dtype="float32")[0]
    assert len(saved) == 5.5 * 24_000
    assert [round(float(saved[int(at * 24_000)]), 3) for at in (2.9, 3.1, 4.4, 4.6)] == [0.1, 0.0, 0.0, 0.3]
    assert told.events[-2] == Word("300", 4.5, 5.5, 0.5)


def test_the_journal_has_every_word_before_anybody_is_told(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"

    def check(events: Sequence[Event]) -> None:
        noted = read_journal(path)
        assert noted[-len(events) :] == list(events)

    journal = Journal.create(path, model="tiny")
    assert Session([seconds_of(0.1), seconds_of(0.2)], CountingStream(), journal=journal, listeners=[check]).run()
    assert (read_past(path).words, read_past(path).seconds) == (2, 2.0)
    assert '"type": "end", "time": 2.0' in path.read_text().splitlines()[-1]


def test_silence_is_noted_so_that_the_clock_is_known(tmp_path: Path) -> None:
    class Silent(CountingStream):
        def push(self, pcm: np.ndarray) -> list[Event]:
            super().push(pcm)
            return []

    path = tmp_path / "talk.jsonl"
    journal = Journal.create(path, model="tiny")
    Session([seconds_of(0.0)] * 25, Silent(), journal=journal).run()
    assert [line for line in path.read_text().splitlines() if '"time"}' in line or '"type": "time"' in line] == [
        '{"type": "time", "time": 10.0}',
        '{"type": "time", "time": 20.0}',
    ]


def test_a_full_disk_is_told_once_and_ends_nothing(tmp_path: Path) -> None:
    told, failures = Told(), []
    recording = Recording(tmp_path / "a.wav")
    journal = Journal.create(tmp_path / "talk.jsonl", model="tiny")
    with files_of_at_most(100_000):
        session = Session(
            [seconds_of(0.1)] * 5,
            CountingStream(),
            recording=recording,
            journal=journal,
            listeners=[told],
            on_failure=failures.append,
        )
        assert not session.run()
    assert told.texts == ["100"] * 5
    assert [failure.split(" cannot")[0] for failure in failures] == [str(tmp_path / "a.wav")]
    assert len(soundfile.read(tmp_path / "a.wav")[0]) >= 2 * 24_000
    assert len(read_journal(tmp_path / "talk.jsonl")) == 6


class Forgetful:
    """A recording that cannot write for a while."""

    def __init__(self) -> None:
        self.samples: list[float] = []
        self.is_full = False
        self.is_closed = False

    def write(self, sound: np.ndarray) -> None:
        if self.is_full:
            raise KsttError("no space")
        self.samples += sound[::24_000].round(3).tolist()

    def skip(self, samples: int) -> None:
        if self.is_full:
            raise KsttError("no space")
        self.samples += [0.0] * (samples // 24_000)

    def close(self) -> None:
        self.is_closed = True


def test_a_recording_goes_on_at_the_right_time_when_there_is_space_again() -> None:
    disk, failures = Forgetful(), []

    def become(is_full: bool) -> None:
        disk.is_full = is_full

    items = FakeMicrophone(
        [
            seconds_of(0.1),
            lambda: become(True),
            seconds_of(0.2, 2),
            Lost(3.0, "gone"),
            lambda: become(False),
            seconds_of(0.4),
        ]
    )
    assert not Session(items, CountingStream(), recording=disk, on_failure=failures.append).run()
    assert disk.samples == pytest.approx([0.1, 0, 0, 0, 0, 0, 0.4])
    assert (failures, disk.is_closed) == (
        [
            "no space; listening and the other files go on, and from 0:00:01 on the recording is silent until there is "
            "space again"
        ],
        True,
    )


def test_a_recording_that_fails_when_it_is_closed_says_only_why() -> None:
    class Failing(Forgetful):
        def close(self) -> None:
            raise KsttError("the disk is broken")

    failures: list[str] = []
    assert not Session([seconds_of(0.1)], CountingStream(), recording=Failing(), on_failure=failures.append).run()
    assert failures == ["the disk is broken"]


def test_a_journal_that_fails_says_from_when_on() -> None:
    class Failing:
        def write(self, events: Sequence[Event]) -> None:
            raise KsttError("no space")

        def note_time(self, seconds: float) -> None: ...

        def close(self, seconds: float | None) -> None:
            raise KsttError("no space either")

    failures: list[str] = []
    session = Session(
        [seconds_of(0.1, 4000)] * 2, CountingStream(), start=90_000, journal=Failing(), on_failure=failures.append
    )
    assert not session.run()
    assert failures == [
        "no space; listening and the other files go on, and from 1 day, 3:13:20 on the journal has nothing"
    ]


def test_a_source_that_fails_is_heard_out() -> None:
    def source() -> Iterator[np.ndarray]:
        yield seconds_of(0.1)
        raise AudioError("the device is broken")

    told, failures = Told(), []
    assert not Session(source(), CountingStream(), listeners=[told], on_failure=failures.append).run()
    assert (told.texts, failures) == (["100"], ["the device is broken"])


def test_whatever_interrupts_the_files_are_closed(tmp_path: Path) -> None:
    def interrupt(events: Sequence[Event]) -> None:
        raise KeyboardInterrupt

    disk, journal = Forgetful(), Journal.create(tmp_path / "talk.jsonl", model="tiny")
    session = Session([seconds_of(0.1)] * 2, CountingStream(), recording=disk, journal=journal, listeners=[interrupt])
    with pytest.raises(KeyboardInterrupt):
        session.run()
    assert disk.is_closed
    kinds = [line.split('"')[3] for line in (tmp_path / "talk.jsonl").read_text().splitlines()]
    assert kinds == ["session", "word"], "without an end: it did not end properly"


def test_falling_behind_is_said_once_and_so_is_catching_up() -> None:
    items = FakeMicrophone([])

    def wait(seconds: float) -> None:
        items.queued = seconds

    queue = [1.9, 2.1, 3.5, 1.0, 2.2, 0.4, 0.0, 2.04, 5.0]
    items = FakeMicrophone([step for seconds in queue for step in (lambda s=seconds: wait(s), seconds_of(0.1, 0.1))])
    said: list[str] = []
    lags: list[float] = []
    Session(items, CountingStream(), on_news=said.append, on_status=lambda status: lags.append(status.queued)).run()
    assert said == [
        "decoding is 2.1 s behind real time: catching up",
        "decoding has caught up with real time",
        "decoding is 2.0 s behind real time: catching up",
    ]
    assert lags == queue


def test_the_status_tells_level_time_overruns_and_pause() -> None:
    seen: list[Status] = []
    items = FakeMicrophone([seconds_of(1.0), seconds_of(0.1), Lost(1.0, "gone"), seconds_of(0.0)])
    items.overruns = 3
    Session(items, CountingStream(), on_status=seen.append).run()
    assert [status.time for status in seen] == [1.0, 2.0, 3.0, 4.0]
    assert [status.levels[0] for status in seen] == pytest.approx([0.0, -20.0, -20.0, SILENCE], abs=0.01)
    assert [status.is_pausing for status in seen] == [True, False, True, True]
    assert [status.has_spoken for status in seen] == [False, True, True, True]
    assert {status.overruns for status in seen} == {3}


class Timeless:
    """A stream that is never asked for its time, which would cost a snapshot."""

    def push(self, pcm: np.ndarray) -> list[Event]:
        return []

    def skip(self, lost: Lost) -> list[Event]:
        return []

    def flush(self) -> list[Event]:
        return []


def test_the_session_knows_its_time_by_itself(tmp_path: Path) -> None:
    seen: list[float] = []
    items = [
        seconds_of(0.1, 0.5),
        Lost(3.0, "gone", filled=0.25),
        seconds_of(0.1, 0.1),
        Lost(0.5, "late", filled=0.5, lane=1),
        np.zeros((1, 2), np.float32),
    ]
    path = tmp_path / "talk.jsonl"
    journal = Journal.create(path, model="tiny")
    session = Session(
        items, Timeless(), start=100.0, journal=journal, on_status=lambda status: seen.append(status.time)
    )
    assert session.seconds == 100.0
    assert session.run()
    assert seen == pytest.approx([100.5, 103.25, 103.35, 103.35, 103.35 + 1 / 24_000], abs=1e-9)
    assert session.seconds == seen[-1]
    assert '"type": "end", "time": 103.35' in path.read_text().splitlines()[-1]


def test_the_time_is_that_of_a_real_stream(tiny: mlx_kstt.Transcriber) -> None:
    """Which tells it in whole milliseconds."""
    stream = tiny.open(start=7.25)
    times: list[tuple[float, float]] = []
    items = [seconds_of(0.1, 0.33), Lost(12.3456, "gone", filled=0.2), seconds_of(0.1, 0.07), Lost(0.4, "gone")]
    session = Session(items, stream, start=7.25, on_status=lambda status: times.append((status.time, stream.seconds)))
    assert session.run()
    assert [time for time, _ in times] == pytest.approx([time for _, time in times], abs=6e-4)
    assert session.seconds == pytest.approx(stream.seconds, abs=6e-4)


def test_levels_are_those_of_each_lane() -> None:
    tone = np.sin(np.arange(24_000) * 0.1).astype(np.float32)
    assert levels_of(np.stack([tone, tone / 10], 1)) == pytest.approx((-3.01, -23.01), abs=0.01)
    assert levels_of(np.stack([tone, 0 * tone], 1)) == pytest.approx((-3.01, SILENCE), abs=0.01)
    assert levels_of(np.zeros(0, np.float32)) == ()


def test_words_from_before_a_pause_do_not_end_it() -> None:
    pauses = Pauses()
    seen: list[bool] = [pauses.is_pausing]
    for event in (
        Partial("he", 1.0, "Ann"),
        Pause(2.0, (), "Ann"),
        Word("hello", 1.0, 1.9, 1.0, "Ann"),
        Word("yes", 2.5, 2.7, 1.0, "Bob"),
        EndOfTurn(3.0, "yes", "Bob"),
        Partial("a", 2.1, "Ann"),
    ):
        pauses.take(event)
        seen.append(pauses.is_pausing)
    assert seen == [True, False, True, True, False, True, False]


def test_half_an_hour_needs_no_more_memory_than_a_minute() -> None:
    block = seconds_of(0.1, 0.08)

    class Scripted(CountingStream):
        def push(self, pcm: np.ndarray) -> list[Event]:
            begin = self.seconds
            self.seconds += 0.08
            return [Word("word", begin, self.seconds, 1.0)]

    peaks: list[int] = []

    def source() -> Iterator[np.ndarray]:
        for frame in range(25_000):
            if frame in (5_000, 24_999):
                peaks.append(tracemalloc.get_traced_memory()[0])
            yield block

    tracemalloc.start()
    try:
        Session(source(), Scripted()).run()
    finally:
        tracemalloc.stop()
    assert peaks[1] - peaks[0] < 2_000
