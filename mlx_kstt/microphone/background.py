"""Work that may hang: done in a thread of its own, which a driver may keep.

In: a function. Out: a way to wait for it. Knows nothing of sound.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import Thread

Join = Callable[[float], object]
"""Waits for work in the background, at most so many seconds."""
Spawn = Callable[[Callable[[], object]], Join]
"""Does work in the background."""


def in_background(work: Callable[[], object]) -> Join:
    """Do it in a thread of its own, which does not keep the program from ending."""
    thread = Thread(target=work, name="mlx_kstt microphone", daemon=True)
    thread.start()
    return thread.join
