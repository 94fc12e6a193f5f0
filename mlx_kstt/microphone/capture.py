"""What the sound device's thread may do: copy a block into a bounded queue, note the time, ring a bell.

In: blocks of samples at a device's own rate. Out: `Arrival`s, in order, with what was dropped between them. Knows
nothing of PortAudio, of gaps and of 24 kHz.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import numpy as np

_ROOM = 1.0
"""Seconds of room before a full queue takes sound again, or a tenth of it: one long gap tells more than many short."""
_WITH_SLEEP = getattr(time, "CLOCK_BOOTTIME", getattr(time, "CLOCK_MONOTONIC", None))
"""Goes on while the machine sleeps: Linux has its own clock for this, on macOS CLOCK_MONOTONIC does."""


@dataclass(frozen=True, slots=True)
class Moment:
    """A point in time.

    Attributes:
        clock: seconds of a clock that also goes on while the machine sleeps.
        awake: seconds of one that does not.
    """

    clock: float
    awake: float


def moment_now() -> Moment:
    """This moment."""
    awake = time.monotonic()
    return Moment(awake if _WITH_SLEEP is None else time.clock_gettime(_WITH_SLEEP), awake)


@dataclass(frozen=True, slots=True)
class Arrival:
    """A block that a device has handed over.

    Attributes:
        at: when.
        samples: (n, channels) float32.
        rate: samples per second.
        overflowed: whether the device says that it has lost some before.
        dropped: samples before it for which the queue had no room.
    """

    at: Moment
    samples: np.ndarray
    rate: int
    overflowed: bool = False
    dropped: int = 0

    @property
    def seconds(self) -> float:
        """How long its sound is."""
        return len(self.samples) / self.rate


class Bell:
    """Wakes whoever waits for sound. May be rung from any thread, and from a signal handler: it has no lock."""

    def __init__(self) -> None:
        self._rings: SimpleQueue[None] = SimpleQueue()
        self._wake: Callable[[], object] | None = None

    def ring(self) -> None:
        """Wake the one who waits, or who will wait next."""
        if self._rings.empty():
            self._rings.put(None)
        if (wake := self._wake) is not None:
            wake()

    def wait(self, seconds: float) -> None:
        """Until it rings, or this long. Ctrl-C interrupts it."""
        with suppress(Empty):
            self._rings.get(timeout=seconds)

    async def wait_async(self, seconds: float) -> None:
        """The same without a thread: a cancelled wait leaves nothing behind."""
        loop = asyncio.get_running_loop()
        rung = loop.create_future()

        def settle() -> None:
            if not rung.done():
                rung.set_result(None)

        def wake() -> None:
            with suppress(RuntimeError):  # the loop has been closed meanwhile
                loop.call_soon_threadsafe(settle)

        self._wake = wake
        timer = loop.call_later(seconds, settle)
        try:
            if self._rings.empty():
                await rung
            with suppress(Empty):
                self._rings.get_nowait()
        finally:
            self._wake = None
            timer.cancel()


class Capture:
    """A bounded queue of one opened device. Called by the device's thread, emptied by one other.

    Each counter has a single writer, so that no lock is needed.

    Attributes:
        limit: seconds that may wait.
        last: when the device last called, or when it was opened.
        is_silent: whether it has not called yet.
        overruns: how often the device said that it had lost sound.
        dropped: samples, since the last arrival, for which there was no room.
        held_downstream: seconds taken from here that still wait further on; they count as waiting here.
    """

    def __init__(self, limit: float, now: Callable[[], Moment], bell: Bell) -> None:
        self.limit = limit
        self.last = now()
        self.is_silent = True
        self.overruns = 0
        self.dropped = 0
        self.held_downstream = 0.0
        self._room = min(_ROOM, limit / 10)
        self._now = now
        self._bell = bell
        self._arrivals: deque[Arrival] = deque()
        self._is_open = True
        self._put = self._taken = 0.0

    @property
    def waiting(self) -> float:
        """Seconds in the queue."""
        return max(0.0, self._put - self._taken)

    def __call__(self, samples: np.ndarray, rate: int, overflowed: bool) -> None:
        """Take a copy of the samples (n, channels), or count them where there is no room."""
        if not self._is_open:
            return
        self.last = at = self._now()
        self.is_silent = False
        self.overruns += overflowed
        if self._has_room(len(samples) / rate):
            arrival = Arrival(at, samples.copy(), rate, overflowed, self.dropped)
            self._put += arrival.seconds
            self.dropped = 0
            self._arrivals.append(arrival)
        else:
            self.dropped += len(samples)
        self._bell.ring()

    def begin(self) -> None:
        """The device is open: it has its time to start from now on, however long the opening took."""
        if self.is_silent:
            self.last = self._now()

    def take(self) -> list[Arrival]:
        """All that has arrived."""
        arrivals = [self._arrivals.popleft() for _ in range(len(self._arrivals))]
        for arrival in arrivals:
            self._taken += arrival.seconds
        return arrivals

    def stop(self) -> None:
        """Take no more; what waits can still be taken."""
        self._is_open = False

    def _has_room(self, seconds: float) -> bool:
        left = self.limit - self.waiting - self.held_downstream - seconds
        return left >= (self._room if self.dropped else 0.0) - 1e-6  # sums of seconds are not exact
