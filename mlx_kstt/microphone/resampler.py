"""Resampling that never loses count: an open end, gaps, and devices of any rate.

In: samples (n, lanes) at any rate, and seconds without sound. Out: 24 kHz, as many samples as the seconds that went in.
Knows nothing of devices and clocks.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..config import SAMPLE_RATE


class Resampler:
    """Samples at any rate to 24 kHz; the counts are exact over the whole session."""

    def __init__(self, lanes: int) -> None:
        self._lanes = lanes
        self._rate = 0
        self._stream: Any = None
        self._seconds = 0.0  # gone in
        self._samples = 0  # come out

    def push(self, sound: np.ndarray, rate: int) -> np.ndarray:
        """What comes out with these (samples, lanes)."""
        self._seconds += len(sound) / rate
        if rate != SAMPLE_RATE and self._stream is None:
            import soxr

            self._stream = soxr.ResampleStream(rate, SAMPLE_RATE, self._lanes, dtype="float32", quality="HQ")
        if rate != SAMPLE_RATE:
            sound = self._resampled(sound)
        self._samples += len(sound)
        return sound

    def rest(self) -> np.ndarray:
        """What the filter still holds back; the next sound starts afresh."""
        missing = max(0, round(self._seconds * SAMPLE_RATE) - self._samples)
        rest = np.zeros((missing, self._lanes), np.float32)
        if self._stream is not None:
            last = self._resampled(np.zeros((0, self._lanes), np.float32), last=True)[:missing]
            rest[: len(last)] = last
            self._stream = None
        self._samples += missing
        return rest

    def skip(self, seconds: float) -> int:
        """Samples that so many seconds without sound are."""
        self._seconds += seconds
        samples = max(0, round(self._seconds * SAMPLE_RATE) - self._samples)
        self._samples += samples
        return samples

    def _resampled(self, sound: np.ndarray, *, last: bool = False) -> np.ndarray:
        sound = np.ascontiguousarray(sound[:, 0] if self._lanes == 1 else sound)
        return self._stream.resample_chunk(sound, last=last).reshape(-1, self._lanes)
