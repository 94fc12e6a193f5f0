"""A path or a file object to decoded audio, with one clear sentence for everything that is not audio.

In: a path or a binary file object. Out: a `Source`. Knows which decoder to ask, and nothing of how they work.
"""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from ..errors import AudioError
from .containers import HEAD_BYTES, container, is_adts
from .converters import convert
from .resample import RATES
from .soundfiles import open_soundfile
from .sources import NotDecoded, Source


def open_file(source: str | os.PathLike[str] | BinaryIO) -> Source:
    """The decoded file. A file object is read from its start and left open; one that cannot seek is copied to disk.

    Raises:
        AudioError: it is not there, cannot be opened, is empty, or is not audio that any decoder reads.
    """
    with ExitStack() as stack:
        file, path, name = _open(source, stack)
        if not file.seekable():
            path = _copy(file, name, stack)
            file = stack.enter_context(_open_path(path))
        decoded = _decode(file, path, name, stack)
        stack.callback(decoded.close)
        if decoded.sampling_rate not in RATES:
            raise AudioError(
                f"{name} announces {decoded.sampling_rate} samples per second, which is no audio: it must have "
                f"{RATES[0]} to {RATES[-1]}"
            )
        return replace(decoded, close=stack.pop_all().close)


def _open(source: str | os.PathLike[str] | BinaryIO, stack: ExitStack) -> tuple[BinaryIO, str | None, str]:
    """The file, its path where it has one, and its name for messages."""
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        return stack.enter_context(_open_path(path)), path, path
    if isinstance(source, io.TextIOBase) or not hasattr(source, "read"):
        raise AudioError(
            f"audio cannot be read from an object of type {type(source).__name__}: give a path, a file opened with "
            "'rb', or a NumPy array"
        )
    name = getattr(source, "name", None)
    return source, None, name if isinstance(name, str) else "the file object"


def _open_path(path: str) -> BinaryIO:
    try:
        return open(path, "rb", buffering=0)
    except FileNotFoundError as error:
        raise AudioError(f"there is no file {path!r}: check the path") from error
    except IsADirectoryError as error:
        raise AudioError(f"{path} is a folder: give the audio files in it") from error
    except PermissionError as error:
        raise AudioError(f"{path} may not be read by this user: change its permissions") from error
    except OSError as error:
        raise AudioError(f"{path} cannot be opened: {error.strerror}") from error


def _decode(file: BinaryIO, path: str | None, name: str, stack: ExitStack) -> Source:
    if file.seek(0, io.SEEK_END) == 0:
        raise AudioError(f"{name} is empty (0 bytes): make it again from its source")
    file.seek(0)
    head = file.read(HEAD_BYTES)
    try:
        return open_soundfile(file, name)
    except NotDecoded as error:
        if container(head) is None and not is_adts(head):
            raise AudioError(
                f"{name} is not audio: its content is of no known format (wav, flac, ogg, mp3, m4a ...)"
            ) from error
        return convert(path or _copy(file, name, stack), name, str(error))


def _copy(file: BinaryIO, name: str, stack: ExitStack) -> str:
    """The path of a copy that lasts as long as the stack: other programs read paths, and not only from start to end."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mlx_kstt-"))
    path = Path(folder, "copy" + Path(name).suffix)
    if file.seekable():
        file.seek(0)
    try:
        with path.open("wb") as copy:
            shutil.copyfileobj(file, copy)
    except OSError as error:
        raise AudioError(f"{name} cannot be copied to {folder}: {error.strerror}") from error
    return str(path)
