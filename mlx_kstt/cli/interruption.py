"""Ctrl-C that ends something properly; the second one ends it at once.

In: what to do when somebody wants the end. Out: contexts in which signals do that, or are told. Knows nothing of
what is ended.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interrupted_by_signals() -> Iterator[None]:
    """Within, Ctrl-C, SIGTERM and SIGHUP raise KeyboardInterrupt, the first one too. What is ignored stays so."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    with _handled_by(interrupt):
        yield


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Within, the first of Ctrl-C, SIGTERM and SIGHUP calls `stop`, and a second one raises KeyboardInterrupt.

    What is ignored stays so.
    """
    asked = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        stop()

    with _handled_by(end):
        yield


@contextmanager
def told_if_interrupted(tell: Callable[[str], None], given_up: str) -> Iterator[None]:
    """Within, a KeyboardInterrupt is told on its way: what is given up for it."""
    try:
        yield
    except KeyboardInterrupt:
        tell(f"ended at once: {given_up}")
        raise


@contextmanager
def _handled_by(end: Callable[[int, FrameType | None], None]) -> Iterator[None]:
    """A signal that is ignored, as nohup and shells do for what runs in the background, is left alone."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    taken = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in taken:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in taken.items():
            signal.signal(number, handler)
