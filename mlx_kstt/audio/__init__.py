"""Files, arrays and pipes to blocks of mono float32 at 24 kHz.

In: a path, a file object, an array, or a pipe of raw samples. Out: `Audio`, read block by block, so that an hour needs
no more memory than a minute. Knows nothing of frames, of the model and of microphones.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from ..config import SAMPLE_RATE
from ..errors import AudioError
from .lost import Lost
from .resample import RATES, Intake, resample_blocks, taken
from .sources import BrokenOff, Source, array_source, pipe_source

__all__ = ["RATES", "Audio", "Intake", "Lost", "find_audio", "open_audio", "open_raw", "resample_blocks"]

_SOUND = ("aac", "aif", "aifc", "aiff", "amr", "au", "caf", "flac", "m4a", "m4b", "mka", "mp3", "oga", "ogg", "opus")
_MORE_SOUND = ("rf64", "snd", "w64", "wav", "wave", "weba", "wma", "wv")
_FILM = ("3gp", "avi", "m4v", "mkv", "mov", "mp4", "webm")
_SUFFIXES = frozenset("." + suffix for suffix in _SOUND + _MORE_SOUND + _FILM)


def open_audio(
    source: str | os.PathLike[str] | BinaryIO | np.ndarray,
    *,
    sampling_rate: int = SAMPLE_RATE,
    channel: int | tuple[int, ...] | None = None,
) -> Audio:
    """Open a file or an array.

    Args:
        source: a path; a binary file object, read from its start and left open; or an array (samples,) or
            (samples, channels) of float (full scale is 1), int16, int32 or uint8.
        sampling_rate: of an array, in samples per second, 1000 to 768000. Files bring their own.
        channel: the one to use, counted from 0; several stay apart, a column each; None mixes all by their mean.

    Raises:
        OptionError: the rate is out of range.
        AudioError: the source is not there, is not audio, is empty, or lacks the channel.
    """
    if isinstance(source, np.ndarray):
        return _audio(array_source(source, sampling_rate), channel)
    from .files import open_file  # brings libsndfile, which arrays and pipes do not need

    return _audio(open_file(source), channel)


def open_raw(pipe: BinaryIO, *, sampling_rate: int = SAMPLE_RATE, encoding: str = "s16le") -> Audio:
    """Open a pipe of raw mono samples, such as standard input; what has arrived comes out at once.

    Args:
        pipe: an unbuffered or buffered binary stream; it is left open. An incomplete last sample is dropped.
        sampling_rate: samples per second, 1000 to 768000.
        encoding: "s16le" or "f32le".

    Raises:
        OptionError: the rate is out of range, or the encoding is unknown.
    """
    return Audio(pipe_source(pipe, sampling_rate, encoding))


def find_audio(folder: str | os.PathLike[str], *, on_error: Callable[[OSError], None] | None = None) -> list[Path]:
    """The audio and video files in a folder and the folders below, by their suffix, sorted; hidden ones are skipped.

    Args:
        folder: searched at any depth.
        on_error: called for each folder that cannot be read; it is skipped.
    """
    found = []
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [Path(parent, name) for name in files if not name.startswith(".")]
    return sorted(path for path in found if path.suffix.lower() in _SUFFIXES)


class Audio:
    """One opened source: mono float32 at 24 kHz, read once from start to end. A context manager.

    Attributes:
        name: what messages call the source.
        duration: seconds that the source announces, None where it does not (pipes, some containers).
        warning: a sentence with the seconds that could be read, once the source has broken off; else None.
    """

    def __init__(self, source: Source, channel: int | tuple[int, ...] | None = None) -> None:
        self.name = source.name
        self.duration = None if source.frames is None else source.frames / source.sampling_rate
        self.warning: str | None = None
        self._source = source
        self._frames_read = 0
        self._blocks = taken(self._read(), Intake(source.sampling_rate, name=source.name, channel=channel))

    @property
    def seconds_read(self) -> float:
        """Seconds of the source that have been read so far."""
        return self._frames_read / self._source.sampling_rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Float32 (samples,) blocks, or (samples, lanes) of channels kept apart, of at most about one second.

        A second call goes on where the first one stopped.

        Raises:
            AudioError: a sample is NaN or infinite, nothing could be read, or a pipe brings a file instead of samples.
        """
        return (block for block in self._blocks if isinstance(block, np.ndarray))

    def close(self) -> None:
        """Free everything; blocks that have not been read are gone. May be called again."""
        self._blocks.close()
        self._source.close()

    def __enter__(self) -> Audio:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _read(self) -> Iterator[np.ndarray]:
        """The source's blocks, counted; where they break off, with a warning."""
        try:
            for block in self._source.blocks:
                self._frames_read += len(block)
                yield block
        except BrokenOff as error:
            if not self._frames_read:
                raise AudioError(f"{self.name} is cut off or damaged: nothing of it can be read") from error
            announced = "" if self.duration is None else f" of {self.duration:.2f} s"
            self.warning = f"{self.name} is cut off or damaged: {self.seconds_read:.2f} s{announced} could be read"
        if not self._frames_read:
            raise AudioError(f"{self.name} holds no sound (zero samples)")


def _audio(source: Source, channel: int | tuple[int, ...] | None) -> Audio:
    asked = channel if isinstance(channel, tuple) else () if channel is None else (channel,)
    missing = next((number for number in asked if number not in range(source.channels)), None)
    if missing is None:
        return Audio(source, channel)
    source.close()
    numbers = "only channel 0" if source.channels == 1 else f"channels 0 to {source.channels - 1}"
    raise AudioError(f"{source.name} has no channel {missing}: it has {numbers}")
