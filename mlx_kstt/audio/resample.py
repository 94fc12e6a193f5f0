"""Samples of any kind to the codec's: float32 at 24 kHz.

In: blocks (samples,) or (samples, channels) of a common number type, at any rate. Out: float32 blocks (samples,)
at 24 kHz, or (samples, lanes). Knows nothing of files and pipes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from numbers import Integral
from typing import Any

import numpy as np

from ..config import SAMPLE_RATE
from ..errors import AudioError, OptionError
from .lost import Lost

RATES = range(1_000, 768_001)
"""Samples per second that can be resampled."""
_CHANNELS = 1_024  # libsndfile's limit; an array with more is one that was not transposed
_FULL_SCALE = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}
_FLOATS = ("float16", "float32", "float64")


def resample_blocks(
    blocks: Iterable[np.ndarray | Lost], sampling_rate: int, *, lanes: int = 0
) -> Iterator[np.ndarray | Lost]:
    """Live blocks at the codec's rate; what goes in with a block comes out with it, less the filter's delay.

    Args:
        blocks: as `Intake.take` takes them.
        sampling_rate: samples per second of the blocks, 1000 to 768000. At 24000 the samples pass untouched.
        lanes: columns to keep apart; 0 mixes all to one.

    Yields:
        float32 (samples,) blocks at 24 kHz, or (samples, lanes), none of them empty, and `Lost` items as they come.
        However the samples were cut into blocks, the joined output is the same.

    Raises:
        OptionError: the rate is out of range.
        AudioError: a sample is NaN or infinite, or the blocks have a shape or a number type that is not sound.
    """
    return taken(blocks, Intake(sampling_rate, name="the audio", channel=tuple(range(lanes)) or None))


def check_rate(sampling_rate: int) -> None:
    """Refuse what cannot be a sampling rate.

    Raises:
        OptionError: it is not a whole number from 1000 to 768000.
    """
    if not isinstance(sampling_rate, Integral) or sampling_rate not in RATES:
        raise OptionError(
            f"a sampling rate of {sampling_rate} is not possible: give a whole number of samples per second, "
            f"{RATES[0]} to {RATES[-1]}"
        )


def check_array(array: np.ndarray) -> None:
    """Refuse an array that is not sound, whatever its values.

    Raises:
        AudioError: its shape is neither (samples,) nor (samples, channels), or its numbers have no known full scale.
    """
    if array.ndim not in (1, 2) or (array.ndim == 2 and not 1 <= array.shape[1] <= _CHANNELS):
        raise AudioError(
            f"an array of shape {array.shape} is not audio: its shape must be (samples,) or (samples, channels) with "
            f"1 to {_CHANNELS} channels; transpose it if the channels come first"
        )
    if array.dtype.name not in (*_FLOATS, *_FULL_SCALE):
        raise AudioError(
            f"samples of type {array.dtype.name} have no known full scale: convert them to float32 from -1 to 1, or to "
            f"one of {', '.join(_FULL_SCALE)}"
        )


class Intake:
    """Blocks to float32 at 24 kHz with linear phase and no delay: sample n is at n / 24000 s.

    Args:
        sampling_rate: samples per second of the blocks.
        name: what errors call the audio.
        channel: the one to use; several stay apart; None mixes all by their mean.

    Raises:
        OptionError: the rate is out of range.
    """

    def __init__(self, sampling_rate: int, *, name: str, channel: int | tuple[int, ...] | None = None) -> None:
        check_rate(sampling_rate)
        self._rate, self._name, self._channel = sampling_rate, name, channel
        self._taken = 0
        self._resampler: Any = None

    def take(self, item: np.ndarray | Lost) -> list[np.ndarray | Lost]:
        """What comes out with an item, none of it empty.

        Args:
            item: a block (samples,) or (samples, channels), of any length, of float (full scale is 1), int16, int32 or
                uint8; or time that was lost, which passes as it is.

        Raises:
            AudioError: a sample is NaN or infinite, or the block has a shape or a number type that is not sound.
        """
        if isinstance(item, Lost):
            return [*self.finish(), item]
        check_array(item)
        sound = _chosen(item, self._channel, self._name)
        _check_finite(sound, self._taken, self._rate, self._name)
        self._taken += len(sound)
        return self._resample(sound, last=False) if len(sound) else []

    def finish(self) -> list[np.ndarray | Lost]:
        """What the filter still holds; a block that follows begins afresh."""
        if self._resampler is None:
            return []
        columns = () if self._channel is None or isinstance(self._channel, int) else (len(self._channel),)
        rest = self._resample(np.zeros((0, *columns), np.float32), last=True)
        self._resampler = None
        return rest

    def _resample(self, sound: np.ndarray, *, last: bool) -> list[np.ndarray | Lost]:
        if self._rate == SAMPLE_RATE:
            return [sound]
        if self._resampler is None:
            import soxr

            columns = 1 if sound.ndim == 1 else sound.shape[1]
            self._resampler = soxr.ResampleStream(self._rate, SAMPLE_RATE, columns, dtype="float32", quality="HQ")
        resampled = self._resampler.resample_chunk(sound, last=last)
        return [resampled] if len(resampled) else []


def taken(blocks: Iterable[np.ndarray | Lost], intake: Intake) -> Generator[np.ndarray | Lost]:
    """All that comes out of an intake."""
    for block in blocks:
        yield from intake.take(block)
    yield from intake.finish()


def _chosen(block: np.ndarray, channel: int | tuple[int, ...] | None, name: str) -> np.ndarray:
    if isinstance(channel, tuple):
        columns = 1 if block.ndim == 1 else block.shape[1]
        if columns <= max(channel):
            raise AudioError(f"{name} has {columns} channels; {max(channel) + 1} are to be kept apart")
        return _to_float((block if block.ndim == 2 else block[:, None])[:, channel])
    if block.ndim == 1:
        return _to_float(block)
    if channel is not None:
        return _to_float(block[:, channel])
    with np.errstate(over="ignore", invalid="ignore"):  # infinite samples are refused later, with their time
        return _to_float(block).mean(axis=1, dtype=np.float32)


def _to_float(block: np.ndarray) -> np.ndarray:
    """Contiguous float32; integers are scaled so that full scale is 1."""
    with np.errstate(over="ignore"):
        samples = np.ascontiguousarray(block, dtype=np.float32)
    if block.dtype.name in _FLOATS:
        return samples
    middle = 2**7 if block.dtype.name == "uint8" else 0
    return (samples - np.float32(middle)) / np.float32(_FULL_SCALE[block.dtype.name])


def _check_finite(sound: np.ndarray, start: int, sampling_rate: int, name: str) -> None:
    bad = ~np.isfinite(sound if sound.ndim == 1 else sound.sum(axis=1))
    if bad.any():
        time = (start + int(bad.argmax())) / sampling_rate
        raise AudioError(
            f"{name} has a sample that is NaN or infinite at {time:.3f} s, which is no sound: make it again from its "
            "source, or replace such samples by 0"
        )
