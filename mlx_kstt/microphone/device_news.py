"""What is worth telling about a device, each thing once.

In: what it records, and its counts. Out: sentences. Knows nothing of queues and timelines.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import numpy as np

from .capture import Moment

_NO_SOUND_YET = 2.0
_NO_SOUND_NOW = 10.0
"""Seconds of exact zeros that are worth telling, before and after the first sound."""
_OVERRUN_NEWS = 60.0
"""Seconds between news of overruns."""
_TERMINALS = {
    "Apple_Terminal": "Terminal",
    "iTerm.app": "iTerm",
    "vscode": "Visual Studio Code",
    "ghostty": "Ghostty",
    "WezTerm": "WezTerm",
    "WarpTerminal": "Warp",
    "Hyper": "Hyper",
    "Tabby": "Tabby",
    "zed": "Zed",
}


def no_sound(name: str, *, has_sounded: bool) -> str:
    """What to say when a device delivers exact zeros: macOS does so where it does not permit the microphone."""
    if has_sounded or sys.platform != "darwin":
        return f"no sound arrives from {name}: it is silent or muted"
    program = os.environ.get("TERM_PROGRAM", "")
    terminal = _TERMINALS.get(program, program or "the program that runs this")
    return (
        f"no sound arrives from {name}: it is muted, or macOS does not permit it: allow {terminal} in System Settings "
        "> Privacy & Security > Microphone, then start it again"
    )


class DeviceNews:
    """What is worth telling about a device: each thing once.

    A virtual device delivers exact zeros whenever nothing is played, so after the first sound they are told once only.
    """

    def __init__(self, tell: Callable[[str], None], queue_seconds: float) -> None:
        self._tell = tell
        self._queue_seconds = queue_seconds
        self._overruns = 0
        self._next_overruns = 0.0
        self._is_full = False
        self._has_ever_sounded = False
        self._told_zeros: set[bool] = set()  # before, and after, it has ever sounded

    def begin(self, name: str, rate: int, *, again: bool) -> None:
        """A device was opened."""
        self._name, self._rate, self._again = name, rate, again
        self._has_sounded = False
        self._zeros = 0.0
        self._lost: float | None = None

    def hear(self, samples: np.ndarray, seconds: float, lost: float) -> None:
        """A block of the device; `lost`: seconds since the loss of the one before, when it began."""
        self._lost = lost if self._lost is None else self._lost
        if not samples.any():
            self._zeros += seconds
            self._hear_zeros()
            return
        if not self._has_sounded:
            again = f" again, {self._lost:.1f} s were lost" if self._again else ""
            self._tell(f"listening to {self._name} ({self._rate} Hz){again}")
        self._has_sounded = self._has_ever_sounded = True
        self._zeros = 0.0

    def _hear_zeros(self) -> None:
        has_sounded = self._has_ever_sounded
        enough = _NO_SOUND_NOW if has_sounded else _NO_SOUND_YET
        if self._zeros >= enough - 1e-6 and has_sounded not in self._told_zeros:
            self._told_zeros.add(has_sounded)
            self._tell(no_sound(self._name, has_sounded=has_sounded))

    def overruns(self, name: str, count: int, now: Moment) -> None:
        """The device loses sound; not told more often than once a minute."""
        if count > self._overruns and now.awake >= self._next_overruns:
            self._tell(f"{name} loses sound, since the machine is too busy: {count} overruns so far")
            self._overruns, self._next_overruns = count, now.awake + _OVERRUN_NEWS

    def overflow(self, dropped: int) -> None:
        """The queue is full."""
        if dropped and not self._is_full:
            self._tell(
                f"decoding is too slow: {self._queue_seconds:g} s of sound wait, and what comes now is lost until it "
                "catches up"
            )
        self._is_full = dropped > 0
