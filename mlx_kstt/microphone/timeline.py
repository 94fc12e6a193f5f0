"""True times: what a device delivers, set against the clock.

In: `Arrival`s of one line. Out: the same, and a `Hole` wherever sound is missing. Knows nothing of devices, of 24 kHz
and of other lines.

A block that comes late is no gap: the scheduler was busy, and the next ones catch up. Only a lag that stays is one.
So the lag (clock minus seconds told so far) is watched; the blocks after a jump are held back, in this rare case only,
until it is clear whether they catch up.

A device's clock is some millionths off, 9 seconds in a day at 100 ppm. A resampler that follows it would change the
pitch and need a control loop that also follows every stutter of the scheduler. Instead a pause of the speaker is made
longer or shorter by at most 80 ms once that much has come together: words stay as they were recorded, no frame of
speech is touched, and while there are pauses the error stays below a quarter of a second.

A lag that falls at once is no such drift: the first blocks had come late, so the clock was set late, or a hole was told
too long. No sound is dropped for that; what was told too much is made up for by what is missing next.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, replace

import numpy as np

from .capture import Arrival, Moment

TOO_SLOW = "decoding was too slow: more than {:g} s were waiting"
OVERRUN = "the device lost sound (overrun)"
SLEPT = "the machine slept"

_JUMP = 0.15
"""Seconds of lag beyond the usual that may be a gap."""
_JUMP_TOLD = 0.04
"""The same where the device says that it has lost sound."""
_STAYS = 0.3
"""Seconds of further sound in which the lag must not shrink."""
_SHRINKS = 0.02
_LONGEST_HOLD = 2.0
"""Seconds of sound, beyond those that came late, after which it is decided anyway."""
_SETTLING = 1.0
"""Seconds of sound in which a fresh device finds its usual lag; the first half is not looked at."""
_DRIFT = 0.08
"""Seconds that are put right in a pause, and at most as many at once."""
_MOST_DRIFT = 0.2
"""Seconds missing that are told at once, pause or not."""
_AT_ONCE = 0.04
"""Seconds by which no clock drifts in the ten seconds that are watched."""
_BEGINNING = 3.0
"""Seconds of sound in which the clock of the whole session may turn out to have been set late."""
_MOST_AHEAD = 2.0
"""Seconds told too much; what is still more cannot have been recorded yet: the device is too fast."""
_SILENT = 1e-3
"""Level (root mean square) that is silence anywhere."""
_PAUSE = 1.5
"""How much louder than the quietest block of the last minute a pause may be."""
_NAP = 1.0
"""Seconds of sleep that are worth the name."""


@dataclass(frozen=True, slots=True)
class Hole:
    """Seconds of sound that are missing here, and why."""

    seconds: float
    reason: str


class _Lowest:
    """The lowest value of the last so many seconds of sound."""

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds
        self.restart(math.inf)

    @property
    def value(self) -> float:
        return min(self._lows)

    @property
    def spread(self) -> float:
        """By how much the seconds differ."""
        return max(self._lows) - min(self._lows)

    def see(self, value: float, seconds: float) -> None:
        if self._span >= 1.0:
            self._lows.append(math.inf)
            self._span = 0.0
        self._span += seconds
        self._lows[-1] = min(self._lows[-1], value)

    def restart(self, value: float) -> None:
        self._lows: deque[float] = deque([value], maxlen=self._seconds)
        self._span = 1.0

    def shift(self, change: float) -> None:
        self._lows = deque((low + change for low in self._lows), maxlen=self._seconds)


class Timeline:
    """One line's time, from the first sample on.

    Attributes:
        seconds: told so far: sound, holes and the silence that went before a hole.
        start: the clock when the first sample was recorded, as far as is known.
    """

    def __init__(self, queue_seconds: float) -> None:
        self.seconds = 0.0
        self._too_slow = TOO_SLOW.format(queue_seconds)
        self.start: float | None = None
        self._usual: float | None = None  # the lag that a quick block has: what it is at first stays right
        self._ahead = 0.0  # seconds told too much since the last outage
        self._has_holes = self._is_settled = False
        self._lag = _Lowest(10)
        self._level = _Lowest(60)
        self._heard = 0.0  # seconds since the device was opened
        self._outage: str | None = None  # the reason, until the next arrival
        self._last: Moment | None = None
        self._held: list[Arrival] = []
        self._held_lag = self._shrunk_to = math.inf
        self._stayed = self._longest_hold = 0.0
        self._jump = _JUMP
        self._hold_reason = OVERRUN

    @property
    def held(self) -> float:
        """Seconds of sound that are held back."""
        return sum(arrival.seconds for arrival in self._held)

    @property
    def is_out(self) -> bool:
        """Whether nothing has come since the device was lost."""
        return self._outage is not None

    def add(self, arrival: Arrival) -> list[Arrival | Hole]:
        """What can be told now."""
        items: list[Arrival | Hole] = []
        if self.start is None:
            self.start = arrival.at.clock - arrival.seconds
        if self._outage is not None:
            items += self._end_outage(arrival)
        if arrival.dropped:
            items += [*self.release(), self._hole(arrival.dropped / arrival.rate, self._too_slow)]
        reason = self._reason(arrival.at)
        self._last = arrival.at
        self.seconds += arrival.seconds
        self._heard += arrival.seconds
        lag = arrival.at.clock - self.start - self.seconds
        if self._heard <= _SETTLING:
            return [*items, *self._settle(arrival, lag)]
        return [*items, *self._follow(arrival, lag, reason)]

    def begin(self, at: Moment) -> None:
        """The time starts here at the latest, also where no sound has come yet."""
        if self.start is None:
            self.start, self._last = at.clock, at

    def lose(self, reason: str) -> list[Arrival | Hole]:
        """The device is gone: what was held back, as it is. The next arrival comes after a hole."""
        self._outage = reason
        return self.release()

    def behind(self, now: Moment) -> float:
        """Seconds that the clock is ahead of what was told."""
        return 0.0 if self.start is None else now.clock - self.start - (self._usual or 0.0) - self.seconds

    def fill(self, seconds: float) -> None:
        """Count silence that is told in place of sound."""
        self.seconds += seconds

    def finish(self, now: Moment) -> list[Arrival | Hole]:
        """The end: what was held back, and the outage so far."""
        items = self.release()
        if self._outage is not None and (missing := self.behind(now)) > 0:
            items.append(self._hole(missing, self._reason_of_outage(now)))
        return items

    def lost(self, seconds: float) -> Hole:
        """A hole that the caller knows of: the queue was full to the end."""
        return self._hole(seconds, self._too_slow)

    def release(self) -> list[Arrival | Hole]:
        """What was held back, with no gap before it."""
        held, self._held = self._held, []
        return [*held]

    def _end_outage(self, arrival: Arrival) -> list[Arrival | Hole]:
        missing = self.behind(arrival.at) - arrival.seconds
        reason = self._reason_of_outage(arrival.at)
        self._outage = None
        self._heard = self._ahead = 0.0
        self._is_settled = False
        return [self._hole(missing, reason)] if missing > 0 else []

    def _reason_of_outage(self, at: Moment) -> str:
        reason = self._outage or OVERRUN
        return SLEPT if self._reason(at) == SLEPT else reason

    def _settle(self, arrival: Arrival, lag: float) -> list[Arrival | Hole]:
        """A fresh device: its first blocks come early or late, before it has found its pace."""
        if self._heard <= _SETTLING / 2 or math.isinf(self._lag.value):
            self._lag.restart(lag)
        else:
            self._lag.see(lag, arrival.seconds)
        self._level.see(_rms(arrival.samples), arrival.seconds)
        return [arrival]

    def _follow(self, arrival: Arrival, lag: float, reason: str) -> list[Arrival | Hole]:
        if math.isinf(self._lag.value):  # the very first block is a long one
            self._lag.restart(lag)
        if self._usual is None:
            self._usual = self._lag.value
        if not self._is_settled:
            self._is_settled = True
            self._lower(max(0.0, -self._drift))
        jump = _JUMP_TOLD if arrival.overflowed else _JUMP
        if self._held or lag - self._lag.value > jump:
            return self._hold(arrival, lag, jump, reason)
        self._lag.see(lag, arrival.seconds)
        level = _rms(arrival.samples)
        self._level.see(level, arrival.seconds)
        return self._correct(arrival, level)

    def _hold(self, arrival: Arrival, lag: float, jump: float, reason: str) -> list[Arrival | Hole]:
        """Keep the blocks after a jump until the lag is gone, or stays."""
        if not self._held:
            self._held_lag = self._shrunk_to = lag
            self._stayed, self._hold_reason, self._jump = 0.0, reason, jump
            self._longest_hold = _LONGEST_HOLD + lag - self._lag.value
        elif lag <= self._shrunk_to - _SHRINKS:
            self._shrunk_to, self._stayed = lag, 0.0
        else:
            self._stayed += arrival.seconds
        self._held.append(arrival)
        self._held_lag = min(lag, self._held_lag)
        missing = self._held_lag - self._lag.value
        if missing <= self._jump:
            self._lag.see(lag, arrival.seconds)
            return self.release()
        if self._stayed < _STAYS and self.held < self._longest_hold:
            return []
        return [self._hole(missing, self._hold_reason), *self.release()]

    def _correct(self, arrival: Arrival, level: float) -> list[Arrival | Hole]:
        """Put the drift between the two clocks right, where nobody hears it."""
        if self._drift < -_DRIFT and self._lag.spread > _AT_ONCE:
            self._lower(-self._drift)
            if self._drift < -_DRIFT:
                return [self._stretched(arrival, self._drift)]
        elif self._drift > _DRIFT:
            self._ahead -= min(self._ahead, self._drift)
        drift = self._drift
        is_pause = level <= max(_SILENT, _PAUSE * self._level.value)
        if abs(drift) <= _DRIFT or (drift <= _MOST_DRIFT and not is_pause):
            return [arrival]
        if not is_pause:
            self._lag.shift(-drift)
            return [self._hole(drift, OVERRUN), arrival]
        return [self._stretched(arrival, min(drift, _DRIFT))]

    @property
    def _drift(self) -> float:
        """Seconds by which the clock has run ahead of the sound; negative: the sound ahead of the clock."""
        return self._lag.value - (self._usual or 0.0) + self._ahead

    def _lower(self, seconds: float) -> None:
        """So much was told too much: before the sound, where the clock was set late, or by a hole."""
        if self._has_holes or self.seconds > _BEGINNING:
            self._ahead = min(self._ahead + seconds, _MOST_AHEAD)
        else:
            self._usual = (self._usual or 0.0) - seconds

    def _stretched(self, arrival: Arrival, seconds: float) -> Arrival:
        """The block with silence before it, or, if negative, with so much less of it."""
        samples = round(seconds * arrival.rate)
        if samples > 0:
            silence = np.zeros((samples, arrival.samples.shape[1]), np.float32)
            sound = np.concatenate([silence, arrival.samples])
        else:
            samples = -min(-samples, len(arrival.samples), round(_DRIFT * arrival.rate))
            sound = arrival.samples[-samples:]
        self.seconds += samples / arrival.rate
        self._lag.shift(-samples / arrival.rate)
        return replace(arrival, samples=sound)

    def _hole(self, seconds: float, reason: str) -> Hole:
        self.seconds += seconds
        self._has_holes = True
        return Hole(seconds, reason)

    def _reason(self, at: Moment) -> str:
        if self._last is None:
            return OVERRUN
        slept = (at.clock - self._last.clock) - (at.awake - self._last.awake)
        return SLEPT if slept > _NAP else OVERRUN


def _rms(samples: np.ndarray) -> float:
    return math.sqrt(float(np.mean(np.square(samples)))) if samples.size else 0.0
