"""Sounds and sound files for the tests of audio input, and what `open_audio` makes of them.

In: lengths, rates, formats. Out: NumPy arrays and bytes. Everything is made on the fly.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
import soundfile

from mlx_kstt.audio import open_audio

RATE = 24_000


class Heard(NamedTuple):
    samples: np.ndarray
    duration: float | None
    seconds_read: float
    warning: str | None


def hear(source: Any, **options: Any) -> Heard:
    """All that `open_audio` says about the source."""
    with open_audio(source, **options) as opened:
        blocks = [np.zeros(0, np.float32), *opened.blocks()]
        return Heard(np.concatenate(blocks), opened.duration, opened.seconds_read, opened.warning)


def sine(rate: int, seconds: float, frequency: float = 440.0) -> np.ndarray:
    """Float64 samples of a sine with a phase of 0.3."""
    return 0.5 * np.sin(2 * np.pi * frequency * np.arange(round(rate * seconds)) / rate + 0.3)


def noise(samples: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(7).uniform(-0.9, 0.9, (samples, *shape)).astype(np.float32)


def tone(seconds: float = 3.0, rate: int = RATE) -> np.ndarray:
    """A sine with noise: no codec makes it small or silent."""
    sound = sine(rate, seconds)
    return (0.6 * sound + np.random.default_rng(3).normal(0, 0.02, len(sound))).astype(np.float32)


def encode(samples: np.ndarray, rate: int = RATE, *, format: str, subtype: str) -> bytes:
    """The bytes of a file; `format` and `subtype` as in soundfile."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=format, subtype=subtype)
    return file.getvalue()


def decode(data: bytes) -> np.ndarray:
    """What libsndfile decodes in a single read."""
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        return file.read(dtype="float32")


def cut(data: bytes, share: float = 0.6) -> bytes:
    """The file without its end."""
    return data[: round(len(data) * share)]
