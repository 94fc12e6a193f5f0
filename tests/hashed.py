"""Reproducible random numbers and audio for the tests.

In: a name and a shape. Out: NumPy arrays that depend on nothing but these, whatever the version of NumPy: they come
from an integer hash (SplitMix64), not from a random generator. Knows nothing of models.
"""

from __future__ import annotations

import hashlib
from math import prod

import numpy as np

SAMPLE_RATE = 24_000

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)
# Standard deviation of the sum of four uniform 16-bit integers.
_SUM_STD = (4 * (65536.0**2 - 1) / 12) ** 0.5


def bits(name: str, count: int) -> np.ndarray:
    """`count` random 64-bit words (uint64), a function of `name` alone."""
    start = np.frombuffer(hashlib.sha256(name.encode()).digest()[:8], "<u8")[0]
    with np.errstate(over="ignore"):
        z = start + np.arange(1, count + 1, dtype=np.uint64) * _GAMMA
        z = (z ^ (z >> np.uint64(30))) * _MIX_1
        z = (z ^ (z >> np.uint64(27))) * _MIX_2
    return z ^ (z >> np.uint64(31))


def normal(name: str, shape: tuple[int, ...], scale: float = 1.0, mean: float = 0.0) -> np.ndarray:
    """Nearly normal float32 values (a sum of four uniform ones, so never beyond 3.5 deviations)."""
    parts = bits(name, prod(shape)).view("<u2").reshape(-1, 4).astype(np.int64)
    values = (parts.sum(axis=1) - 2 * 65535) / _SUM_STD
    return (mean + scale * values).astype(np.float32).reshape(shape)


def uniform(name: str, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Uniform float32 values."""
    values = (bits(name, prod(shape)) >> np.uint64(11)).astype(np.float64) / 2.0**53
    return (low + (high - low) * values).astype(np.float32).reshape(shape)


def audio(name: str, frames: int, frame_samples: int = 1920) -> np.ndarray:
    """Mono float32 audio: 160 ms segments of glides, noise bursts, clicks of both, and silence.

    The values are 16-bit, so that a last-digit difference of a sine does not change them.
    """
    samples = 2 * frame_samples
    segments = [_segment(f"{name} {index}", samples) for index in range(-(-frames // 2))]
    pcm = np.concatenate(segments)[: frames * frame_samples]
    return (np.rint(pcm * 32767).astype(np.int16) / np.float32(32768)).astype(np.float32)


def _segment(name: str, samples: int) -> np.ndarray:
    """One piece of sound (float64, below 1): two gliding tones and noise under an envelope, or silence."""
    first, second, glide, tone, noise, kind = uniform(name, (6,)).astype(np.float64)
    if kind < 0.1:
        return np.zeros(samples)
    t = np.arange(samples) / SAMPLE_RATE
    low, high = 80 * 4**first, 400 * 12**second
    tones = np.sin(2 * np.pi * t * low * (1 + glide * t)) + np.sin(2 * np.pi * t * high * (1 - glide * t))
    hiss = uniform(f"{name} noise", (samples,), -1, 1).astype(np.float64)
    envelope = np.minimum(1, np.minimum(t, t[::-1]) * 50)
    return envelope * (0.3 * tone * tones + 0.25 * noise**2 * hiss)
