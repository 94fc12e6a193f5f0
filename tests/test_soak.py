"""Days of a live session on a simulated machine: no sleeping, a scripted device, and all the machinery of `mic`.

The hours come with `pytest -m soak`; the plain run has a shorter day.
"""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import mlx.core as mx
import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS
from fake_input import FakeDevice, World, WorldBell, at_once
from scripted_engine import final_words, scripted_stream, silence, sound, speech

import mlx_kstt
from mlx_kstt.config import FRAME_SAMPLES, PAD, SAMPLE_RATE
from mlx_kstt.events import Event, Gap, Pause, Refresh, Word
from mlx_kstt.live.journal import Journal
from mlx_kstt.live.past_sessions import read_journal
from mlx_kstt.live.recording import Recording
from mlx_kstt.live.session import Session
from mlx_kstt.microphone import Microphone

BLOCK = 0.64
"""Seconds that the device hands over at once; the frames of its script stay whole."""
REFRESH = 600.0
AWAY = sum(2 + i % 7 for i in range(100))
"""Seconds for which the device is not there, in 100 times."""


def day_of_talk() -> np.ndarray:
    """Two minutes that repeat: talk, pauses of all lengths, and music, of which no word is made."""
    rng = np.random.default_rng(3)
    parts: list[int | np.ndarray | None] = []
    while sum(len(part) if isinstance(part, np.ndarray) else FRAME_SAMPLES for part in parts) < 100 * SAMPLE_RATE:
        for _ in range(int(rng.integers(1, 15))):
            parts += [int(rng.integers(4, 200)), *[PAD] * int(rng.integers(1, 6))]
        parts.append(silence(int(rng.integers(3, 60))))
    whole = np.concatenate([sound(*parts), speech(100), silence(30)])
    return whole[: len(whole) // round(BLOCK * SAMPLE_RATE) * round(BLOCK * SAMPLE_RATE)]


class Watch:
    """Looks at every event, and keeps none."""

    def __init__(self) -> None:
        self.words = self.refreshes = 0
        self.gaps: list[Gap] = []
        self.last: Word | None = None
        self.heard = 0.0
        self.pauses: list[float] = []
        self.refreshed: list[float] = []

    def __call__(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Word):
                revised = self.last is not None and self.last.start == event.start
                assert self.last is None or event.start >= self.last.start, f"{event} after {self.last}"
                self.words += not revised
                self.last = event
            elif isinstance(event, Gap):
                assert not self.gaps or event.start >= self.gaps[-1].end - 1e-3
                self.gaps.append(event)
            elif isinstance(event, Pause):
                self.pauses = [event.time]
            elif isinstance(event, Refresh) and "refreshed" in event.reason:
                assert self.pauses and event.time - self.pauses[-1] > 0.5, "a refresh outside of a pause"
                self.refreshed.append(event.time)


def scripted_day(hours: float, folder: Path) -> tuple[Watch, float, list[int]]:
    """A session of so many hours with everything that goes wrong with devices."""
    talk, world = day_of_talk(), World()
    script = {"at": 0}

    def next_block(times: np.ndarray) -> np.ndarray:
        script["at"] = (script["at"] + len(times)) % len(talk)
        return (
            np.roll(talk, -script["at"])[: len(times)]
            if script["at"] + len(times) > len(talk)
            else talk[script["at"] :][: len(times)]
        )

    device = FakeDevice(world, rate=SAMPLE_RATE, sound=next_block, block=BLOCK)
    device.late = lambda number: 0.3 if number % 97 == 0 else 0.0  # stalls, caught up with in bursts
    seconds = hours * 3600
    for i in range(100):
        away = seconds * (i + 0.5) / 100
        world.at(away, device.go)
        world.at(away + 2 + i % 7, device.come)
    for i in range(20):
        world.at(seconds * (i + 0.7) / 20, lambda: setattr(device, "loses", BLOCK))
    world.at(seconds / 3, lambda: world.sleep(3600.0))
    mic = Microphone([device], now=world.now, bell=WorldBell(world), spawn=at_once)
    world.at(seconds, mic.stop)
    watch, memory = Watch(), []
    stream = scripted_stream(refresh=REFRESH, rescue=10.0)
    recording = Recording(folder / "day.wav", 1)
    journal = Journal.create(folder / "day.jsonl", model="scripted", lanes=(), save_audio=None)

    def weigh(status: object) -> None:
        if world.awake >= weigh_at[0]:
            weigh_at[0] += seconds / 8
            gc.collect()
            memory.append(sys.getallocatedblocks())

    weigh_at = [world.awake + seconds / 8]
    with mic:
        session = Session(mic, stream, recording=recording, journal=journal, listeners=[watch], on_status=weigh)
        assert session.run()
    return watch, stream.seconds, memory


@pytest.mark.parametrize("hours", [pytest.param(24, marks=pytest.mark.soak), 1])
def test_a_day_of_talk_with_a_device_that_comes_and_goes(hours: int, tmp_path: Path) -> None:
    watch, seconds, memory = scripted_day(hours, tmp_path)
    assert seconds == pytest.approx(hours * 3600 + 3600, abs=2 * BLOCK), "the clock counts what is lost, and sleep"
    assert watch.words > 500 * hours
    assert len(watch.gaps) >= 100
    assert sum(gap.end - gap.start > 3500 for gap in watch.gaps) == 1
    lost = sum(gap.end - gap.start for gap in watch.gaps) - 3600 - AWAY - 20 * BLOCK
    assert -1 <= lost <= 100 * 2.75, "it takes up to 2 s and a block until a device is found again"
    assert len(watch.refreshed) >= hours * 4
    assert all(later - before >= REFRESH - 60 for before, later in pairwise(watch.refreshed))
    assert max(memory) - memory[0] < 5_000, f"blocks of memory: {memory}"
    assert soundfile.info(tmp_path / "day.wav").duration == pytest.approx(seconds, abs=0.1)
    journalled = final_words([event for event in read_journal(tmp_path / "day.jsonl") if isinstance(event, Word)])
    assert len(journalled) == watch.words


@pytest.mark.parametrize("minutes", [pytest.param(60, marks=pytest.mark.soak), 3])
def test_an_hour_with_the_bundled_model(minutes: int, tiny: mlx_kstt.Transcriber) -> None:
    speech = soundfile.read(LONG_RECORDINGS / "long_en-us.flac", dtype="float32")[0]
    said = (LONG_RECORDINGS / "long_en-us.txt").read_text("utf-8").split()
    round_ = np.concatenate([speech, np.zeros(-len(speech) % FRAME_SAMPLES + 20 * FRAME_SAMPLES, np.float32)])
    rounds = round(minutes * 60 * SAMPLE_RATE / len(round_))
    used, words = [], []

    def source() -> Iterator[np.ndarray]:
        for _ in range(rounds):
            yield from np.split(round_, range(48_000, len(round_), 48_000))
            mx.clear_cache()
            used.append(mx.get_active_memory())

    def listen(events: Sequence[Event]) -> None:
        words.extend(event.text for event in events if isinstance(event, Word))

    stream, watch = tiny.open(refresh=90.0, rescue=10.0), Watch()
    assert Session(source(), stream, listeners=[watch, listen]).run()
    assert stream.seconds == pytest.approx(rounds * len(round_) / SAMPLE_RATE)
    assert abs(len(words) - rounds * len(said)) <= 0.05 * rounds * len(said)
    assert len(watch.refreshed) >= minutes * 60 // 200
    assert max(used) - used[0] < 200_000
