"""Files that grow while a session runs.

In: paths. Out: unbuffered files, and one sentence where there is none. Knows nothing of what is in them.
"""

from __future__ import annotations

import io
import os
from pathlib import Path

from ..errors import KsttError


def opened(path: Path, *, create: bool = True, append: bool = False) -> io.FileIO:
    """The file, to read and write, and the folders above it.

    Raises:
        KsttError: it cannot be written.
    """
    flags = os.O_RDWR | (os.O_CREAT if create else 0) | (os.O_APPEND if append else 0)
    try:
        if create and not path.parent.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "r+b", buffering=0, opener=lambda name, _: os.open(name, flags, 0o666))
    except OSError as error:
        raise cannot_write(path, error) from error


def cannot_write(path: Path, error: OSError) -> KsttError:
    """What to raise."""
    way_out = "check the disk's space and the folder's permissions, or name another file"
    return KsttError(f"{path} cannot be written ({error.strerror}): {way_out}")
