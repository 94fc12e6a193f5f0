"""What a session with a scripted microphone brought, against the clock and the sound that was recorded."""

from __future__ import annotations

import numpy as np
import pytest
from fake_input import Session, told_time

RATE = 24_000
BLOCK = 0.02


def sine(frequency: float, level: float = 0.5):
    return lambda times: level * np.sin(2 * np.pi * frequency * times)


def measured(sound: np.ndarray) -> tuple[float, float]:
    """Frequency and level of a sine."""
    middle = sound[RATE : 2 * RATE]
    spectrum = np.abs(np.fft.rfft(middle * np.hanning(len(middle))))
    return float(spectrum.argmax()), float(np.sqrt(2 * np.mean(middle**2)))


def errors(session: Session, lane: int | None = None) -> np.ndarray:
    """Seconds by which the timeline is off, for each sample that is sound; not at the edges, where a filter rings."""
    sound = session.sound if lane is None else session.sound[:, lane]
    times = np.concatenate([begin + np.arange(len(block)) / RATE for begin, block in session.on_timeline()])
    off = told_time(sound) - (session.start + times) % 200
    counts = np.cumsum(np.pad(sound > 0.049, (201, 200)))
    is_sound = counts[401:] - counts[:-401] == 401
    return ((off + 100) % 200 - 100)[is_sound]


def assert_true_to_the_clock(session: Session, most: float = BLOCK + 1e-3) -> None:
    off = errors(session)
    assert len(off) > RATE
    assert np.quantile(np.abs(off), 0.999) <= most
    assert session.seconds == pytest.approx(session.world.clock - session.start, abs=most)


def assert_losses(session: Session, seconds: list[float], filled: list[float], most: float = BLOCK + 1e-3) -> None:
    assert [lost.seconds for lost in session.losses] == pytest.approx(seconds, abs=most)
    assert [lost.filled for lost in session.losses] == pytest.approx(filled, abs=most)


def cuts(session: Session) -> list[float]:
    """Seconds of recorded time that are left out within the sound."""
    times = told_time(session.sound[session.sound > 0.049])
    steps = np.diff(times) % 200
    return [round(float(step), 3) for step in steps if 2e-3 < step < 199.9]
