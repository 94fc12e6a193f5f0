"""How a live session goes: level, pause, and what waits.

In: blocks of sound, and events. Out: a frozen value for whoever shows it. Knows nothing of displays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from ..events import EndOfTurn, Event, Partial, Pause, Word

BEHIND = 2.0
"""Seconds of waiting sound from which decoding counts as behind real time."""


@dataclass(frozen=True, slots=True)
class Status:
    """How it goes.

    Attributes:
        time: seconds of audio heard.
        levels: of the last block, one for each lane, in dB below full scale (dBFS); -inf is digital silence.
        queued: seconds of audio that wait.
        overruns: how often audio was lost because nobody took it in time.
        is_pausing: whether nobody speaks, as far as has been decoded.
    """

    time: float
    levels: tuple[float, ...]
    queued: float
    overruns: int
    is_pausing: bool


def levels_of(block: np.ndarray) -> tuple[float, ...]:
    """Root mean square of each column in dBFS."""
    if not len(block):
        return ()
    powers = np.mean(np.square(block.reshape(len(block), -1), dtype=np.float64), axis=0)
    return tuple(10 * math.log10(power) if power > 0 else -math.inf for power in powers)


class Pauses:
    """Who speaks, from what is told: a word that began before a pause does not end it."""

    def __init__(self) -> None:
        self._speaking: dict[str | None, bool] = {}
        self._began: dict[str | None, float] = {}

    def take(self, event: Event) -> None:
        if isinstance(event, (Pause, EndOfTurn)):
            self._speaking[event.lane], self._began[event.lane] = False, event.time
        elif isinstance(event, (Word, Partial)) and event.start >= self._began.get(event.lane, 0.0):
            self._speaking[event.lane] = True

    @property
    def is_pausing(self) -> bool:
        return not any(self._speaking.values())
