"""The session's sound as a wav file that is whole at any moment, also after a kill or with a full disk.

In: float32 sound at 24 kHz. Out: 16-bit PCM in a file, and that sound as it is read back.
Knows nothing of where the sound comes from, and nothing of words.

The header never announces what is not there: samples are written first, then the sizes. Room for 64-bit sizes is kept
in a JUNK chunk, which becomes the ds64 chunk of RF64 where the file outgrows wav's 4 GiB (EBU Tech 3306, 3.5; ITU-R
BS.2088).
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np

from ..config import SAMPLE_RATE
from ..errors import AudioError, OptionError
from .growing_files import cannot_write, opened

_FULL_SCALE = 2**15
_SYNC_SAMPLES = 10 * SAMPLE_RATE
"""How much sound a power cut may cost."""
# RIFF (kind, size, form), JUNK or ds64 (kind, length; riff, data and sample counts, table length),
# fmt (kind, length; PCM, channels, rate, bytes per second, bytes per sample of all channels, bits), data (kind, size)
_HEADER = struct.Struct("<4sI4s 4sI3QI 4sIHHIIHH 4sI")
_FORMAT = slice(48, 76)
"""The bytes from the fmt chunk to the size of the data."""
_CHANNELS = struct.Struct("<H")
_IN_DS64 = 2**32 - 1
"""What a 32-bit size says where the 64-bit one holds."""


def to_16_bits(sound: np.ndarray) -> np.ndarray:
    """The sound as a 16-bit file gives it back: float32, rounded to multiples of 1/32768 and clipped. Same shape."""
    return _whole_numbers(sound).astype(np.float32) / np.float32(_FULL_SCALE)


def _whole_numbers(sound: np.ndarray) -> np.ndarray:
    scaled = np.rint(np.asarray(sound, np.float32) * np.float32(_FULL_SCALE))
    return scaled.clip(-_FULL_SCALE, _FULL_SCALE - 1).astype("<i2")


def _header(channels: int, samples: int) -> bytes:
    """All that goes before the samples; `samples` counts one channel."""
    width = channels * 2
    data = samples * width
    riff = data + _HEADER.size - 8
    is_large = riff >= _IN_DS64
    head = (b"RF64", _IN_DS64, b"WAVE", b"ds64", 28, riff, data, samples, 0)
    small = (b"RIFF", riff, b"WAVE", b"JUNK", 28, 0, 0, 0, 0)
    form = (b"fmt ", 16, 1, channels, SAMPLE_RATE, SAMPLE_RATE * width, width, 16)
    return _HEADER.pack(*(head if is_large else small), *form, b"data", _IN_DS64 if is_large else data)


def _announced(head: bytes) -> tuple[int, int] | None:
    """Channels and samples of a header that `_header` made, None for any other."""
    if len(head) < _HEADER.size:
        return None
    fields = _HEADER.unpack(head)
    (channels,) = _CHANNELS.unpack_from(head, _FORMAT.start + 10)
    samples = fields[7] if fields[0] == b"RF64" else fields[-1] // (2 * channels or 1)
    return (channels, samples) if head == _header(channels, samples) else None


def _write_at(file: int, data: memoryview, position: int) -> None:
    """All of the data; the system may take it in parts."""
    while data:
        written = os.pwrite(file, data, position)
        data, position = data[written:], position + written


class Recording:
    """A wav file that grows. A context manager.

    Args:
        path: the file; the folders above it are made. It must not exist, or be empty.
        channels: how many.
        resume: go on with a file that this class has made, if it exists. All samples in it count, also those that its
            header does not announce yet.

    Raises:
        OptionError: the file exists; or, with `resume`, it has other channels, or was not made by this class. Or
            another session writes it.
        KsttError: it cannot be written.

    Attributes:
        path: where the file is.
        samples: of each channel, so far.
    """

    def __init__(self, path: str | os.PathLike[str], channels: int = 1, *, resume: bool = False) -> None:
        self.path = Path(path)
        self.samples = 0
        self._channels = channels
        self._width = 2 * channels
        self._unsynced = 0
        self._file = opened(self.path)
        try:
            self._begin(resume)
        except BaseException:
            self._file.close()
            raise

    def write(self, sound: np.ndarray) -> None:
        """Append finite float32 sound, (samples,) or (samples, channels).

        Raises:
            KsttError: the file takes no more; it is as it was before this call, and a later call may try again.
        """
        self._check(sound)
        data = memoryview(_whole_numbers(sound).tobytes())
        with self._growing():
            _write_at(self._file.fileno(), data, self._end)
            self._announce(len(data) // self._width)

    def skip(self, samples: int) -> None:
        """Append silence, which takes no room on the disk where its file system knows holes.

        Raises:
            KsttError: as in `write`.
        """
        if samples < 0:
            raise OptionError(f"{samples} samples cannot be skipped: a recording only grows")
        with self._growing():
            os.ftruncate(self._file.fileno(), self._end + samples * self._width)
            self._announce(samples)

    def sync(self) -> None:
        """Wait until all is on the disk. `write` and `skip` do so once in 10 s of sound, `close` at the end.

        Raises:
            KsttError: the disk fails.
        """
        with self._growing():
            os.fsync(self._file.fileno())
            self._unsynced = 0

    def close(self) -> None:
        """End the file. May be called again.

        Raises:
            KsttError: the disk fails.
        """
        if not self._file.closed:
            try:
                self.sync()
            finally:
                self._file.close()

    def __enter__(self) -> Recording:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @property
    def _end(self) -> int:
        """Where in the file the next sample goes."""
        return _HEADER.size + self.samples * self._width

    def _begin(self, resume: bool) -> None:
        """Write the header, or bring it up to date with what is there."""
        with self._growing():
            size = os.fstat(self._file.fileno()).st_size
            if size and not resume:
                raise OptionError(f"{self.path} exists: name another file, or go on with it by --resume")
            if size:
                self.samples = self._samples_there(size)
                os.ftruncate(self._file.fileno(), self._end)  # a kill may leave a part of a sample
            self._announce(0)
            self.sync()

    def _samples_there(self, size: int) -> int:
        announced = _announced(os.pread(self._file.fileno(), _HEADER.size, 0))
        if announced is None:
            raise OptionError(
                f"{self.path} is no recording of mlx_kstt (16-bit wav at {SAMPLE_RATE} Hz that ends with its samples): "
                "name another file"
            )
        if announced[0] != self._channels:
            raise OptionError(
                f"{self.path} has {announced[0]} channel(s) and cannot go on with {self._channels}: "
                "choose as many as before, or name another file"
            )
        return (size - _HEADER.size) // self._width

    def _check(self, sound: np.ndarray) -> None:
        if sound.shape[1:] != (self._channels,) and not (sound.ndim == 1 and self._channels == 1):
            raise AudioError(f"sound of shape {sound.shape} does not fit a recording with {self._channels} channel(s)")

    def _announce(self, more: int) -> None:
        """Count samples that are in the file, in its header too. One write within a block cannot be half done."""
        _write_at(self._file.fileno(), memoryview(_header(self._channels, self.samples + more)), 0)
        self.samples += more
        self._unsynced += more
        if self._unsynced >= _SYNC_SAMPLES:
            self.sync()

    @contextmanager
    def _growing(self) -> Iterator[None]:
        """Whatever fails, the file ends with the samples that were counted."""
        size = os.fstat(self._file.fileno()).st_size
        try:
            yield
        except OSError as error:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), min(size, self._end))
            raise cannot_write(self.path, error) from error
