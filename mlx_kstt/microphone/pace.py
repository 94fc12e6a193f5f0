"""Whether a device delivers as many samples a second as it says.

In: blocks, by their time and their length. Out: how much too fast or too slow it is. Knows nothing of
devices and queues.

A device whose format changes under an open stream may go on at another rate under the old name. Blocks come late and in
bursts, and get lost; so only what is equally wrong second after second counts, by the quickest block of each second.
"""

from __future__ import annotations

from collections import deque
from itertools import pairwise

_WINDOW = 1.0
"""Seconds awake that are looked at as one."""
_PATIENCE = 2
"""Windows that must be wrong alike."""
_MOST = 0.03
"""Share of samples by which it may be off."""
_ALIKE = 0.2
"""Share of the error by which windows may differ from each other."""


class Pace:
    """One line's; after each finding that did not help it waits twice as long, so that it cannot go on for ever.

    A virtual device may always be off: opening it again and again would lose more than it keeps.
    """

    def __init__(self) -> None:
        self._patience = _PATIENCE
        self.begin()

    def begin(self) -> None:
        """A device was opened; its first second, in which it finds its pace, is not looked at."""
        self._first: float | None = None  # where this window began
        self._seconds = 0.0  # delivered
        self._low = 0.0  # of the time less the seconds delivered
        self._lows: deque[float] = deque(maxlen=self._patience + 1)
        self._is_settled = False

    def see(self, awake: float, seconds: float, *, is_whole: bool = True) -> None:
        """A block of so many seconds, by its samples and the rate that the device names; has it lost some before?"""
        self._seconds += seconds
        if not is_whole:
            self._first = None
            self._lows.clear()
        low = awake - self._seconds
        if self._first is None:
            self._first, self._low = awake, low
        elif awake - self._first < _WINDOW:
            self._low = min(self._low, low)
        else:
            self._end_window()
            self._first, self._low = self._first + _WINDOW, low
            if awake - self._first >= _WINDOW:  # nothing came for long
                self._first = awake
                self._lows.clear()

    def take(self) -> float | None:
        """What share of the samples that it names it delivers, once that is clearly wrong; then it counts afresh."""
        if len(self._lows) < (self._lows.maxlen or 0):
            return None
        steps = [after - before for before, after in pairwise(self._lows)]
        mean = sum(steps) / len(steps)
        if max(abs(step) for step in steps) <= _MOST:
            self._patience = _PATIENCE
        if abs(mean) <= _MOST or max(steps) - min(steps) > _ALIKE * abs(mean):
            return None
        self._patience *= 2
        self.begin()
        return 1.0 - mean / _WINDOW

    def _end_window(self) -> None:
        if self._is_settled:
            self._lows.append(self._low)
        self._is_settled = True
