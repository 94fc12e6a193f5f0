"""Samples of any kind to the codec's: mono float32 at 24 kHz.

In: blocks (samples,) or (samples, channels) of a common number type, at any rate. Out: float32 blocks (samples,) at
24 kHz. Knows nothing of files and pipes.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from numbers import Integral

import numpy as np

from ..config import SAMPLE_RATE
from ..errors import AudioError, OptionError

RATES = range(1_000, 768_001)
"""Samples per second that can be resampled."""
_CHANNELS = 1_024  # libsndfile's limit; an array with more is one that was not transposed
_FULL_SCALE = {"uint8": 2**7, "int16": 2**15, "int32": 2**31}
_FLOATS = ("float16", "float32", "float64")


def resample_blocks(blocks: Iterable[np.ndarray], sampling_rate: int) -> Iterator[np.ndarray]:
    """Live blocks at the codec's rate; what goes in with a block comes out with it, less the filter's delay.

    Args:
        blocks: (samples,) or (samples, channels), which are mixed by their mean; float (full scale is 1), int16, int32
            or uint8. Blocks may have any length, also 0.
        sampling_rate: samples per second of the blocks, 1000 to 768000. At 24000 the samples pass untouched.

    Yields:
        float32 (samples,) blocks at 24 kHz, none of them empty. However the samples were cut into blocks, the joined
        output is the same.

    Raises:
        OptionError: the rate is out of range.
        AudioError: a sample is NaN or infinite, or the blocks have a shape or a number type that is not sound.
    """
    check_rate(sampling_rate)
    return resample_mono(mono_blocks(blocks, sampling_rate, name="the audio"), sampling_rate)


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


def mono_blocks(
    blocks: Iterable[np.ndarray], sampling_rate: int, *, name: str, channel: int | None = None
) -> Iterator[np.ndarray]:
    """Blocks as float32 (samples,), one `channel` or the mean of all; `name` is what errors call the audio.

    Raises:
        AudioError: as in `resample_blocks`.
    """
    start = 0
    for block in blocks:
        check_array(block)
        mono = _mono(block, channel)
        _check_finite(mono, start, sampling_rate, name)
        start += len(mono)
        if len(mono):
            yield mono


def resample_mono(blocks: Iterable[np.ndarray], sampling_rate: int) -> Generator[np.ndarray]:
    """Float32 (samples,) blocks at 24 kHz, with linear phase and no delay: sample n is at n / 24000 s."""
    if sampling_rate == SAMPLE_RATE:
        yield from blocks
        return
    import soxr

    stream = soxr.ResampleStream(sampling_rate, SAMPLE_RATE, 1, dtype="float32", quality="HQ")
    for block in blocks:
        resampled = stream.resample_chunk(block)
        if len(resampled):
            yield resampled
    rest = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(rest):
        yield rest


def _mono(block: np.ndarray, channel: int | None) -> np.ndarray:
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


def _check_finite(mono: np.ndarray, start: int, sampling_rate: int, name: str) -> None:
    bad = ~np.isfinite(mono)
    if bad.any():
        time = (start + int(bad.argmax())) / sampling_rate
        raise AudioError(
            f"{name} has a sample that is NaN or infinite at {time:.3f} s, which is no sound: make it again from its "
            "source, or replace such samples by 0"
        )
