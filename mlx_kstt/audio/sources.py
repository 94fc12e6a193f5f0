"""Where audio comes from, before it is mixed and resampled: one shape for files, arrays and pipes.

In: an array, or a pipe of raw samples. Out: a `Source`. Knows nothing of file formats and of the codec.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from ..errors import AudioError, OptionError
from .containers import HEAD_BYTES, container
from .resample import check_array, check_rate

_ENCODINGS = {"s16le": "<i2", "f32le": "<f4"}


class BrokenOff(Exception):
    """Raised by a source's blocks, after the last one that could be read, where more was announced or damaged."""


class NotDecoded(Exception):
    """A decoder cannot read this file at all; the message is its reason."""


@dataclass(frozen=True, slots=True)
class Source:
    """Audio as its decoder gives it.

    Attributes:
        name: what messages call it.
        sampling_rate: samples per second.
        channels: how many.
        frames: samples per channel that the source announces, None where it does not.
        blocks: (samples, channels) or, with one channel, (samples,); about one second each; may raise BrokenOff.
        close: frees everything; may be called at any time, and again.
    """

    name: str
    sampling_rate: int
    channels: int
    frames: int | None
    blocks: Iterator[np.ndarray]
    close: Callable[[], None]


def array_source(array: np.ndarray, sampling_rate: int) -> Source:
    """An array (samples,) or (samples, channels).

    Raises:
        OptionError: the rate is out of range.
        AudioError: the shape or the number type is not sound, or there are no samples.
    """
    check_rate(sampling_rate)
    check_array(array)
    if not len(array):
        raise AudioError("the array holds no sound (zero samples)")
    blocks = (array[start : start + sampling_rate] for start in range(0, len(array), sampling_rate))
    channels = 1 if array.ndim == 1 else array.shape[1]
    return Source("the array", sampling_rate, channels, len(array), blocks, lambda: None)


def pipe_source(pipe: BinaryIO, sampling_rate: int, encoding: str) -> Source:
    """Raw mono samples, which come out as soon as they are there. The pipe is left open.

    Raises:
        OptionError: the rate or the encoding is unknown.
    """
    check_rate(sampling_rate)
    if encoding not in _ENCODINGS:
        raise OptionError(f"the encoding {encoding!r} is unknown: use one of {', '.join(_ENCODINGS)}")
    blocks = _pipe_blocks(pipe, np.dtype(_ENCODINGS[encoding]), sampling_rate)
    return Source("the pipe", sampling_rate, 1, None, blocks, lambda: None)


def _pipe_blocks(pipe: BinaryIO, dtype: np.dtype, block: int) -> Iterator[np.ndarray]:
    read = getattr(pipe, "read1", pipe.read)  # read1 returns what has arrived, read waits until all of it has
    pending = _read_head(read)
    if (kind := container(pending)) is not None:
        raise AudioError(
            f"the pipe brings a whole {kind} file, not raw samples: give the file's path instead, or decode it first "
            "(ffmpeg -i FILE -ac 1 -ar 24000 -f s16le -)"
        )
    arrived = pending
    while arrived:
        whole = len(pending) - len(pending) % dtype.itemsize
        if whole:
            yield np.frombuffer(pending, dtype, whole // dtype.itemsize)
        arrived = read(block * dtype.itemsize)
        pending = pending[whole:] + arrived


def _read_head(read: Callable[[int], bytes]) -> bytes:
    """The first bytes, enough of them to tell a file from samples unless the pipe ends before."""
    head = b""
    while len(head) < HEAD_BYTES and (arrived := read(HEAD_BYTES - len(head))):
        head += arrived
    return head
