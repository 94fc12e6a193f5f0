"""Files through libsndfile: wav, flac, ogg, opus, mp3, aiff, caf and more.

In: an open, seekable binary file. Out: a `Source`. Knows nothing of paths, of other decoders and of resampling.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import BinaryIO, cast

import numpy as np
import soundfile

from ..errors import AudioError
from .containers import announced_share, mp3_counts_frames, ogg_is_cut
from .sources import BrokenOff, NotDecoded, Source

_UNKNOWN_FRAMES = 2**62  # libsndfile's count for a flac that was written to a pipe is 2**63 - 1
_MP3_SLACK = 3 * 1152  # encoders disagree by a frame or two on whether the header frame and the padding count


class _Sequential(soundfile.SoundFile):
    """A sound file that is read from start to end.

    After each read soundfile seeks to where the file already is, which is audible in mp3 (the decoder starts anew) and
    an error in a flac of unknown length. It does not do so in a file that cannot seek.
    """

    def seekable(self) -> bool:
        return False


class _Endless:
    """An mp3 file whose end libsndfile cannot see.

    Where the header has no frame count, libsndfile estimates one from the first frame's bit rate and the file's size
    and stops there, so that much of a file with a variable bit rate is lost. Without an end it reads all frames.
    """

    _END = 2**40
    _TAG = 128  # bytes that libmpg123 must be able to read at the end

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._position = 0

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._position = offset + (0, self._position, self._END)[whence]
        return self._position

    def tell(self) -> int:
        return self._position

    def read(self, size: int) -> bytes:
        if self._position >= self._END - self._TAG:
            return bytes(size)
        self._file.seek(self._position)
        data = self._file.read(size)
        self._position += len(data)
        return data


def open_soundfile(file: BinaryIO, name: str) -> Source:
    """The file as libsndfile decodes it. The file must stay open while it is read, and is left open.

    Raises:
        NotDecoded: libsndfile cannot read it.
        AudioError: it holds no samples.
    """
    share, cut = announced_share(file), ogg_is_cut(file)
    sound, endless = _open(file)
    if sound.frames == 0:
        sound.close()
        raise AudioError(f"{name} holds no sound (zero samples)")
    known = not (cut or endless or sound.frames >= _UNKNOWN_FRAMES)
    frames = round(sound.frames * share) if known else None
    least = (frames or 0) - (_MP3_SLACK if sound.format == "MP3" else 0)
    return Source(name, sound.samplerate, sound.channels, frames, _blocks(sound, least, cut), sound.close)


def _open(file: BinaryIO) -> tuple[_Sequential, bool]:
    """The sound file, and whether it is one without a known end."""
    try:
        sound = _Sequential(_handle(file), closefd=False)
        if sound.format != "MP3":
            return sound, False
        sound.close()
        endless = not mp3_counts_frames(file)
        return _Sequential(cast(BinaryIO, _Endless(file)) if endless else _handle(file), closefd=False), endless
    except soundfile.LibsndfileError as error:
        raise NotDecoded(error.error_string.rstrip(".")) from error


_MOST_VALUES = 2**20
"""Samples of all channels in a block: a header may announce a thousand channels."""


def _handle(file: BinaryIO) -> int | BinaryIO:
    """What libsndfile opens: the descriptor of a real file, since Ctrl-C is lost in calls back to Python."""
    file.seek(0)
    return file.fileno() if isinstance(file, io.FileIO) else file


def _blocks(sound: _Sequential, least: int, cut: bool) -> Iterator[np.ndarray]:
    """Blocks of at most one second. Fewer than `least` samples, or a file known to be `cut`, end in BrokenOff."""
    count, size = 0, max(1, min(sound.samplerate, _MOST_VALUES // sound.channels))
    while True:
        block = np.full((size, sound.channels), np.nan, np.float32)
        try:
            read = sound.read(out=block)
        except soundfile.LibsndfileError as error:
            yield block[: _decoded(block)]
            raise BrokenOff from error
        if not len(read):
            break
        count += len(read)
        yield read
    if cut or count < least:
        raise BrokenOff


def _decoded(block: np.ndarray) -> int:
    """How many samples were written into a block of NaN before the decoder failed; it does not tell."""
    missing = np.isnan(block[:, 0])
    return int(missing.argmax()) if missing.any() else len(block)
