"""Files that grow while a session runs.

In: paths. Out: unbuffered files, each for one process alone, and one sentence where there is none. Knows nothing of
what is in them.
"""

from __future__ import annotations

import fcntl
import io
import os
from pathlib import Path

from ..errors import KsttError, OptionError


def opened(path: Path, *, create: bool = True, append: bool = False) -> io.FileIO:
    """The file, to read and write, and the folders above it. Nobody else can open it so until it is closed, or killed.

    Raises:
        OptionError: another session writes it.
        KsttError: it cannot be written.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | (os.O_APPEND if append else 0)
    try:
        if create and not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        return _locked(path, open(path, "r+b", buffering=0, opener=lambda name, _: os.open(name, flags, 0o666)))
    except OSError as error:
        raise cannot_write(path, error) from error


def _locked(path: Path, file: io.FileIO) -> io.FileIO:
    """The file, locked until it is closed."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        file.close()
        raise OptionError(f"another session writes {path}: end that one, or name another file") from error
    except OSError:  # a file system need not know locks
        pass
    return file


def cannot_write(path: Path, error: OSError) -> KsttError:
    """What to raise."""
    way_out = "check the disk's space and the folder's permissions, or name another file"
    return KsttError(f"{path} cannot be written ({error.strerror}): {way_out}")
