"""How a live session goes: level, pause, and what waits.

In: blocks of sound, and events. Out: a frozen value for whoever shows it. Knows nothing of displays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..events import EndOfTurn, Event, Partial, Pause, Word
from ..loudness import level_of

BEHIND = 2.0
"""Seconds of waiting sound from which decoding counts as behind real time."""


@dataclass(frozen=True, slots=True)
class Status:
    """How it goes.

    Attributes:
        time: seconds of audio heard.
        levels: of the last block, one for each lane, in decibels below full scale (dBFS).
        queued: seconds of audio that wait.
        overruns: how often audio was lost because nobody took it in time.
        is_pausing: whether nobody speaks, as far as has been decoded.
        has_spoken: whether somebody has spoken in this session.
    """

    time: float
    levels: tuple[float, ...]
    queued: float
    overruns: int
    is_pausing: bool
    has_spoken: bool


def levels_of(block: np.ndarray) -> tuple[float, ...]:
    """Root mean square of each column in dBFS; none of no sound."""
    return tuple(map(level_of, block.reshape(len(block), -1).T)) if len(block) else ()


class Pauses:
    """Who speaks, from what is told: a word that began before a pause does not end it.

    Attributes:
        has_spoken: whether anybody has.
    """

    def __init__(self) -> None:
        self.has_spoken = False
        self._speaking: dict[str | None, bool] = {}
        self._began: dict[str | None, float] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, (Pause, EndOfTurn)):
            self._speaking[event.lane], self._began[event.lane] = False, event.time
        elif isinstance(event, (Word, Partial)) and event.start >= self._began.get(event.lane, 0.0):
            self._speaking[event.lane] = self.has_spoken = True

    @property
    def is_pausing(self) -> bool:
        return not any(self._speaking.values())
