"""Live sound from one or more microphones, as blocks at 24 kHz and what was lost between them.

In: which devices and which of their channels. Out: an endless source of `np.ndarray | Lost`, to be iterated over by a
loop or by `async for`. Knows nothing of models, words and files.

Each device runs at its own rate and is resampled here. A device that goes away is waited for; the clock goes on, also
while the machine sleeps: seconds delivered, plus the seconds of each `Lost` that were not filled with silence, are the
seconds since the start.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from numbers import Integral

import numpy as np

from ..audio.lost import Lost
from ..config import FRAME_SAMPLES, SAMPLE_RATE
from ..errors import OptionError
from .background import Join, Spawn, in_background
from .capture import Bell, Moment, moment_now
from .devices import Opener
from .line import Line, Now, Open
from .mixing import Mixer

_LEAST = FRAME_SAMPLES // 4
"""Samples of the shortest block: 20 ms."""
_MOST = 25 * FRAME_SAMPLES
"""Samples of the longest block: 2 s."""
_TICK = 0.08
"""Seconds after which devices are looked at, also if none has called."""
_CLOSING = 2.0
"""Seconds that a device may take to close before it is left to itself."""
_MOST_GAIN = 1000.0
_LEAST_QUEUE = 1.0


def microphone(
    device: int | str | Sequence[int | str | None] | None = None,
    *,
    channels: int | Sequence[int] | None = None,
    gain: float = 1.0,
    queue_seconds: float = 120.0,
    on_news: Callable[[str], object] | None = None,
) -> Microphone:
    """Open a microphone; it records from now on, whether or not somebody takes the sound.

    Args:
        device: number, name or part of a name (`mlx_kstt devices` lists them), by default the system's default, also
            when that becomes another one. Several are a lane each.
        channels: by default all are mixed to one (the first two of a device with more than 8, which is a virtual one);
            a number, from 0, takes this one alone; several numbers are a lane each.
        gain: factor on the samples, which are then limited to -1..1.
        queue_seconds: sound that waits when nobody takes it; what comes after that is lost, and told as `Lost`.
        on_news: called with one sentence at a time, in the thread that takes the sound: sound arrives, the device has
            gone or is back, only zeros arrive, sound is lost.

    Raises:
        AudioError: there is no such device, it cannot be opened, or PortAudio is missing.
        OptionError: several devices have the name, or an option has a value that it cannot have.
    """
    devices = list(device) if isinstance(device, Sequence) and not isinstance(device, str) else [device]
    picked = _checked_channels(channels)
    _check(devices, picked, gain, queue_seconds)
    openers = [Opener(int(wanted) if isinstance(wanted, Integral) else wanted, picked) for wanted in devices]
    return Microphone(openers, channels=picked, gain=gain, queue_seconds=queue_seconds, on_news=on_news)


class Microphone(Iterator[np.ndarray | Lost], AsyncIterator[np.ndarray | Lost]):
    """Made by `microphone`. One loop takes the sound; `stop` and `close` may be called from anywhere.

    Blocks are float32 (samples,) or, with several lanes, (samples, lanes); all that waits comes as one block of at most
    2 s. With several devices a `Lost` of one of them has its lane; it follows the silence that was in its place.

    Attributes:
        lanes: columns of the blocks.
    """

    def __init__(
        self,
        openers: Sequence[Open],
        *,
        channels: Sequence[int] | None = None,
        gain: float = 1.0,
        queue_seconds: float = 120.0,
        on_news: Callable[[str], object] | None = None,
        now: Now = moment_now,
        bell: Bell | None = None,
        spawn: Spawn = in_background,
    ) -> None:
        """Open all; clock, waiting and background are parameters for tests alone."""
        self._now = now
        self._bell = bell or Bell()
        self._on_news = on_news or (lambda message: None)
        self._news: list[str] = []
        self._stopped_at: Moment | None = None
        self._start: float | None = None
        self._aligned: set[int] = set()  # lines
        self._is_closed = self._is_finished = False
        self._lines: list[Line] = []
        self._joins: list[Join] = []
        try:
            for opener in openers:
                line = Line(opener, channels, gain, queue_seconds, self._news.append, now, self._bell, spawn)
                self._lines.append(line)
        except BaseException:
            self.close()
            raise
        weakref.finalize(self, _let_go_of, self._lines).atexit = False  # nobody may be left who could close it
        self._mixer = Mixer([line.lanes for line in self._lines])
        self.lanes = self._mixer.lanes

    @property
    def queued(self) -> float:
        """Seconds recorded and not yet taken."""
        return self._mixer.waiting / SAMPLE_RATE + max(line.waiting for line in self._lines)

    @property
    def overruns(self) -> int:
        """How often a device said that it had lost sound."""
        return sum(line.overruns for line in self._lines)

    def stop(self) -> None:
        """Record no more; what waits still comes out. From any thread, and from a signal handler."""
        if self._stopped_at is None:
            self._stopped_at = self._now()
        for line in self._lines:
            line.stop()
        self._bell.ring()

    def close(self) -> None:
        """End at once: what waits is dropped, and the device is let go of."""
        self.stop()
        self._is_closed = True
        self._bell.ring()
        self._let_go()
        for join in self._joins:
            join(_CLOSING)

    def __enter__(self) -> Microphone:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __iter__(self) -> Microphone:
        return self

    def __next__(self) -> np.ndarray | Lost:
        while (item := self._poll()) is None:
            if self._is_over:
                raise StopIteration
            self._bell.wait(_TICK)
        return item

    def __aiter__(self) -> Microphone:
        return self

    async def __anext__(self) -> np.ndarray | Lost:
        while (item := self._poll()) is None:
            if self._is_over:
                raise StopAsyncIteration
            await self._bell.wait_async(_TICK)
        return item

    @property
    def _is_over(self) -> bool:
        return self._is_closed or self._is_finished

    def _poll(self) -> np.ndarray | Lost | None:
        """The next item, if there is one."""
        if not (self._is_closed or self._is_finished):
            self._look()
        if self._is_closed:
            self._let_go()  # also of a device that has just come back
            return None
        self._tell()
        item = self._mixer.take(1 if self._is_finished else _LEAST, _MOST)
        for line in self._lines:
            line.wait_downstream(self._mixer.waiting / SAMPLE_RATE)
        return item

    def _look(self) -> None:
        """Take in what all devices have brought."""
        now, stopped = self._now(), self._stopped_at
        for i, line in enumerate(self._lines):
            items = line.poll(now) if stopped is None else line.finish(stopped)
            self._align(i, line)
            for item in items:
                self._mixer.add(i, item)
        if stopped is None:
            self._mixer.advance(now.awake)
        else:
            self._mixer.finish()
            self._is_finished = True
            self._let_go()

    def _align(self, i: int, line: Line) -> None:
        """Devices do not begin to record at the same time: the first of them begins the session."""
        if line.start is None or i in self._aligned:
            return
        self._aligned.add(i)
        self._start = line.start if self._start is None else self._start
        self._mixer.shift(i, round((line.start - self._start) * SAMPLE_RATE))

    def _tell(self) -> None:
        while self._news:
            self._on_news(self._news.pop(0))

    def _let_go(self) -> None:
        for line in self._lines:
            self._joins += line.close()


def _let_go_of(lines: Sequence[Line]) -> None:
    for line in lines:
        line.close()


def _checked_channels(channels: int | Sequence[int] | None) -> tuple[int, ...] | None:
    """The channels, as numbers.

    Raises:
        OptionError: they are none.
    """
    if channels is None:
        return None
    numbers = tuple([channels] if isinstance(channels, Integral) else channels)  # pyright: ignore[reportArgumentType]
    if not numbers or any(not _is_number(number) for number in numbers):
        raise OptionError(f"channels are {channels!r}; give one number, counted from 0, or several, or None to mix all")
    return tuple(int(number) for number in numbers)


def _is_number(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) >= 0


def _check(devices: Sequence[object], channels: Sequence[int] | None, gain: float, queue_seconds: float) -> None:
    if not devices:
        raise OptionError("the list of devices is empty: leave it out for the default one")
    for device in devices:
        if not (device is None or (isinstance(device, str) and device.strip()) or _is_number(device)):
            raise OptionError(f"the device is {device!r}; give a number from 0, a name or a part of one")
    if len(devices) > 1 and channels is not None and len(channels) > 1:
        raise OptionError("several devices are a lane each: give one channel, or leave channels out")
    if not 0 < gain <= _MOST_GAIN:
        raise OptionError(f"gain is {gain}; it must be above 0 and at most {_MOST_GAIN:g}")
    if not (queue_seconds >= _LEAST_QUEUE and math.isfinite(queue_seconds)):
        raise OptionError(f"queue_seconds is {queue_seconds}; it must be at least {_LEAST_QUEUE:g}")
