"""Machines that refuse: files that may not grow, and a user whom access rights bind."""

from __future__ import annotations

import os
import resource
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """No file can be written beyond `size` bytes, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def plain_user() -> Iterator[Path]:
    """A folder of one's own, as a user who is not root."""
    folder = Path(tempfile.mkdtemp())
    was_root = os.getuid() == 0
    if was_root:
        folder.chmod(0o777)
        os.setresuid(NOBODY, NOBODY, 0)
    try:
        yield folder
    finally:
        if was_root:
            os.setresuid(0, 0, 0)
        shutil.rmtree(folder, ignore_errors=True)
