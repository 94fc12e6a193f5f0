"""Keeps the machine awake while it listens, where the system has a command for that.

In: nothing. Out: a context in which the machine does not fall asleep by itself. Knows nothing of sound.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_PATIENCE = 5.0
"""Seconds in which the command has to end."""
_COMMANDS = {
    "darwin": ("caffeinate", "-i", "-w", str(os.getpid())),
    # It lasts as long as the command in it: cat ends with this process, which holds the other end of its input.
    "linux": ("systemd-inhibit", "--what=sleep:idle", "--who=mlx_kstt", "--why=listening", "--mode=block", "cat"),
}


@contextmanager
def kept_awake() -> Iterator[None]:
    """The machine stays awake within; where no command can do that, nothing happens."""
    process = _started(_COMMANDS.get(sys.platform, ()))
    try:
        yield
    finally:
        if process is not None:
            _end(process)


def _started(command: tuple[str, ...]) -> subprocess.Popen[bytes] | None:
    program = shutil.which(command[0]) if command else None
    if program is None:
        return None
    with suppress(OSError):
        return subprocess.Popen(
            [program, *command[1:]],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # the Ctrl-C that ends the listening is not for it
        )
    return None


def _end(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    process.stdin.close()
    process.terminate()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
