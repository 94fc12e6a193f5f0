"""One device, kept open: what it records as 24 kHz sound on a true timeline, whatever happens to the device.

In: an opener, and the moments at which to look. Out: blocks (samples, lanes) at 24 kHz, `Missing`, and news. Knows
nothing of PortAudio and of other lines.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from threading import Lock
from typing import Protocol

import numpy as np

from .background import Join, Spawn
from .capture import Arrival, Bell, Capture, Moment
from .device_news import DeviceNews
from .mixing import Item, Missing
from .pace import Pace
from .resampler import Resampler
from .timeline import Hole, Timeline

_GONE = 1.0
"""Seconds without a call from the device after which it counts as lost."""
_SLOW_START = 3.0
"""The same until its first call: wireless devices take their time."""
_SILENCE = 4.0
"""Seconds of silence after a loss: the words in the model's delay come out."""
_MARGIN = 0.25
"""Seconds by which this silence stays behind the clock, so that sound that comes back finds its place."""
_BACKOFF = (0.25, 0.5, 1.0, 2.0)
"""Seconds before each attempt to open the device again; the last goes on."""
_STOPPED = "had stopped"
_LOUDEST = 1e6
"""Past all sense, and safe to add up."""
Now = Callable[[], Moment]


class OpenInput(Protocol):
    """An opened device; see `devices.Input`."""

    @property
    def name(self) -> str: ...
    @property
    def rate(self) -> int: ...
    @property
    def is_active(self) -> bool: ...
    @property
    def objection(self) -> str: ...
    def close(self) -> None: ...


Open = Callable[[Callable[[np.ndarray, int, bool], None]], OpenInput]
"""Opens the device, which then calls with (samples, rate, whether it lost some before); see `devices.Opener`."""


class _Opening:
    """The lost device being closed and opened again in the background, where it may take its time."""

    def __init__(self, lost: OpenInput | None, open_input: Open, capture: Capture) -> None:
        self.capture = capture
        self.is_done = False
        self.found: OpenInput | None = None
        self._lost = lost
        self._open = open_input
        self._lock = Lock()
        self._is_wanted = True

    def run(self) -> None:
        found = None
        try:
            with suppress(Exception):  # not back yet, in whichever way the driver says so
                if self._lost is not None:
                    self._lost.close()
                found = self._open(self.capture)
        finally:
            with self._lock:
                self.found, is_wanted = found, self._is_wanted
                self.is_done = True
        if found is not None and not is_wanted:
            found.close()

    def cancel(self) -> OpenInput | None:
        """What must be closed; what is opened after this closes itself."""
        with self._lock:
            self._is_wanted = False
            return self.found


class Line:
    """A device and its place in the session. Opens it at once; all but `stop` is for one thread.

    Attributes:
        lanes: columns of its sound.
        name: of the device.
    """

    def __init__(
        self,
        open_input: Open,
        channels: Sequence[int] | None,
        gain: float,
        queue_seconds: float,
        tell: Callable[[str], None],
        now: Now,
        bell: Bell,
        spawn: Spawn,
    ) -> None:
        self.lanes = 1 if channels is None else len(channels)
        self._open = open_input
        self._channels = None if channels is None else list(channels)
        self._gain = np.float32(gain)
        self._tell = tell
        self._new_capture = lambda: Capture(queue_seconds, now, bell)
        self._spawn = spawn
        self._timeline = Timeline(queue_seconds)
        self._resampler = Resampler(self.lanes)
        self._news = DeviceNews(tell, queue_seconds)
        self._pace = Pace()
        self._reason = ""  # of the loss
        self._opening: _Opening | None = None
        self._is_lost = False
        self._attempts = 0
        self._next_attempt = 0.0
        self._lost_at = self._filled = 0.0
        self._past_overruns = 0
        self._capture = self._new_capture()
        self._input: OpenInput | None = open_input(self._capture)
        self._capture.begin()
        self.name, self._rate = self._input.name, self._input.rate
        self._news.begin(self.name, self._rate, again=False)

    @property
    def start(self) -> float | None:
        """The clock at its first sample, None before it has come."""
        return self._timeline.start

    @property
    def waiting(self) -> float:
        """Seconds recorded that have not come out."""
        return self._capture.waiting + self._timeline.held

    @property
    def overruns(self) -> int:
        """How often a device has said that it had lost sound."""
        return self._past_overruns + self._capture.overruns

    def poll(self, now: Moment) -> list[Item]:
        """What has come since the last time; what the device needs is done."""
        items = self._drain()
        if self._is_lost:
            items += self._wait(now)
        elif reason := self._objection(now):
            items += self._lose(now, reason)
        elif self._timeline.is_out:  # open again, and still to call
            items += self._fill(now)
        self._news.overruns(self.name, self.overruns, now)
        self._news.overflow(self._capture.dropped)
        return items

    def wait_downstream(self, seconds: float) -> None:
        """Sound that nobody has taken yet counts in the queue's bound."""
        self._capture.held_downstream = seconds + self._timeline.held

    def stop(self) -> None:
        """Record no more. May be called from any thread and from a signal handler."""
        self._capture.stop()

    def finish(self, at: Moment) -> list[Item]:
        """The end of the recording at this moment: all that is left."""
        self._capture.stop()
        items = self._drain()
        if self._capture.dropped and not self._is_lost:
            items += self._told(self._timeline.lost(self._capture.dropped / self._rate))
        for item in self._timeline.finish(at):
            items += self._told(item)
        return [*items, self._resampler.rest()]

    def close(self) -> list[Join]:
        """Let go of the device, in the background."""
        self._capture.stop()
        found = self._opening.cancel() if self._opening is not None else None
        devices = [device for device in (self._input, found) if device is not None]
        self._input = None
        return [self._spawn(device.close) for device in devices]

    def _drain(self) -> list[Item]:
        items: list[Item] = []
        for arrival in self._capture.take():
            arrival = replace(arrival, samples=self._picked(arrival.samples))
            given = arrival.seconds + arrival.dropped / arrival.rate
            self._pace.see(arrival.at.awake, given, is_whole=not arrival.overflowed)
            for item in self._timeline.add(arrival):
                items += self._told(item)
            lost = self._timeline.seconds - arrival.seconds - self._lost_at
            self._news.hear(arrival.samples, arrival.seconds, lost)
        return items

    def _told(self, item: Arrival | Hole) -> list[Item]:
        if isinstance(item, Hole):
            return [self._resampler.rest(), Missing(self._resampler.skip(item.seconds), item.reason)]
        return [self._resampler.push(item.samples, item.rate)]

    def _picked(self, samples: np.ndarray) -> np.ndarray:
        """The lanes (samples, lanes), clean: a driver's NaN is no reason to end a session."""
        picked = samples if self._channels is None else samples[:, self._channels]
        picked = np.nan_to_num(picked, nan=0.0, posinf=0.0, neginf=0.0).clip(-_LOUDEST, _LOUDEST)
        if self._channels is None:
            picked = picked.mean(axis=1, keepdims=True, dtype=np.float32)
        return (picked * self._gain).clip(-1.0, 1.0)

    def _objection(self, now: Moment) -> str:
        """Why the device counts as lost; empty if it does not."""
        if self._input is None:
            return _STOPPED
        patience = _SLOW_START if self._capture.is_silent else _GONE
        if objection := self._input.objection:
            return objection
        if not self._input.is_active or now.awake - self._capture.last.awake > patience:
            return _STOPPED
        if share := self._pace.take():
            return f"recorded at about {round(share * self._rate, -2):.0f} Hz, not at {self._rate}"
        return ""

    def _lose(self, now: Moment, reason: str) -> list[Item]:
        self._capture.stop()
        items = self._drain()
        self._is_lost = True
        if self._timeline.is_out:  # it was opened again, and never called: the outage goes on
            self._retry(now)
            return items
        self._reason = f"{self.name} {reason}"
        self._timeline.begin(self._capture.last)
        for item in self._timeline.lose(self._reason):
            items += self._told(item)
        self._lost_at = self._timeline.seconds
        self._filled = 0.0
        self._attempts = -1
        self._retry(now)
        waits = f"{self.name} has stopped: waiting for it to come back"
        self._tell(waits if reason == _STOPPED else f"{self._reason}: the input is opened anew")
        return [*items, self._resampler.rest(), *self._fill(now)]

    def _retry(self, now: Moment) -> None:
        self._attempts += 1
        self._next_attempt = now.awake + _BACKOFF[min(self._attempts, len(_BACKOFF) - 1)]

    def _wait(self, now: Moment) -> list[Item]:
        """Try to open the device from time to time; silence meanwhile."""
        if self._opening is None and now.awake >= self._next_attempt:
            lost, self._input = self._input, None
            self._opening = _Opening(lost, self._open, self._new_capture())
            self._spawn(self._opening.run)
        if self._opening is not None and self._opening.is_done:
            opening, self._opening = self._opening, None
            if opening.found is not None:
                self._resume(opening.found, opening.capture)
                return self._drain()
            self._retry(now)
        return self._fill(now)

    def _fill(self, now: Moment) -> list[Item]:
        seconds = min(self._timeline.behind(now) - _MARGIN, _SILENCE - self._filled)
        if seconds <= 0:
            return []
        self._filled += seconds
        self._timeline.fill(seconds)
        return [Missing(self._resampler.skip(seconds), self._reason, as_silence=True)]

    def _resume(self, found: OpenInput, capture: Capture) -> None:
        self._past_overruns += self._capture.overruns
        self._input, self._capture = found, capture
        self._capture.begin()
        self._is_lost = False
        self.name, self._rate = found.name, found.rate
        self._pace.begin()
        self._news.begin(self.name, self._rate, again=True)
