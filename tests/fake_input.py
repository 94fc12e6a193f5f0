"""A machine with scripted microphones: time goes on only while somebody waits, so an hour takes no time.

Sound is a function of the time at which it is recorded, so that a test can tell from a sample when it was recorded.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

import numpy as np

from mlx_kstt.audio.lost import Lost
from mlx_kstt.errors import AudioError
from mlx_kstt.microphone import Microphone
from mlx_kstt.microphone.capture import Bell, Moment

Sound = Callable[[np.ndarray], np.ndarray]
"""From times in seconds to samples (n,) or (n, channels)."""
PERIOD = 200.0
"""Seconds of the clock that can be read from a sample."""


def tells_time(times: np.ndarray) -> np.ndarray:
    """Samples from 0.05 to 0.95 that say when they were recorded."""
    return 0.05 + 0.9 * (times % PERIOD) / PERIOD


def told_time(samples: np.ndarray) -> np.ndarray:
    """The time modulo PERIOD that samples of `tells_time` say."""
    return (samples - 0.05) / 0.9 * PERIOD


class World:
    """The clock, and what happens at which time."""

    def __init__(self) -> None:
        self.clock = 1000.0
        self.awake = 500.0
        self._events: list[tuple[float, int, Callable[[], object]]] = []
        self._order = itertools.count()

    def now(self) -> Moment:
        return Moment(self.clock, self.awake)

    def at(self, seconds: float, event: Callable[[], object]) -> None:
        """Let it happen so many seconds from now (asleep or not, these are seconds awake)."""
        self.at_awake(self.awake + seconds, event)

    def at_awake(self, awake: float, event: Callable[[], object]) -> None:
        heapq.heappush(self._events, (awake, next(self._order), event))

    def sleep(self, seconds: float) -> None:
        """Close the lid."""
        self.clock += seconds

    def wait(self, seconds: float, until: Callable[[], bool] = lambda: False) -> None:
        """Let time pass."""
        end = self.awake + seconds
        while not until() and self._events and self._events[0][0] <= end:
            awake, _, event = heapq.heappop(self._events)
            self._pass(max(0.0, awake - self.awake))
            event()
        if not until():
            self._pass(end - self.awake)

    def _pass(self, seconds: float) -> None:
        self.awake += seconds
        self.clock += seconds


class WorldBell(Bell):
    """Whoever waits for it lets the world's time pass."""

    def __init__(self, world: World) -> None:
        super().__init__()
        self._world = world
        self._has_rung = False

    def ring(self) -> None:
        self._has_rung = True

    def wait(self, seconds: float) -> None:
        self._world.wait(seconds, lambda: self._has_rung)
        self._has_rung = False

    async def wait_async(self, seconds: float) -> None:
        self.wait(seconds)
        await asyncio.sleep(0)


class FakeDevice:
    """A microphone whose faults are scripted.

    Attributes:
        is_there: whether it can be opened; a device that is open when it goes stops to call.
        is_dumb: it can be opened, and does not call.
        starts_after: seconds from its opening until it records.
        late: seconds by which the block with this number comes late.
        ppm: by how much its clock is too fast.
        loses: seconds of sound that it is about to lose.
        opened: how often.
    """

    def __init__(
        self,
        world: World,
        name: str = "Mic",
        rate: int = 48_000,
        channels: int = 1,
        sound: Sound = tells_time,
        block: float = 0.02,
    ) -> None:
        self.world, self.name, self.rate, self.channels, self.sound, self.block = (
            world,
            name,
            rate,
            channels,
            sound,
            block,
        )
        self.is_there = True
        self.is_dumb = False
        self.starts_after = 0.0
        self.late: Callable[[int], float] = lambda number: 0.0
        self.ppm = 0.0
        self.loses = 0.0
        self.tells_loss = True
        self.opened = 0
        self.open_inputs: list[FakeInput] = []

    def __call__(self, receive: Callable[[np.ndarray, int, bool], None]) -> FakeInput:
        if not self.is_there:
            raise AudioError(f"there is no sound input {self.name}")
        self.opened += 1
        opened = FakeInput(self, receive)
        self.open_inputs.append(opened)
        return opened

    def go(self) -> None:
        """Unplug it."""
        self.is_there = False

    def come(self) -> None:
        """Plug it in."""
        self.is_there = True


class FakeInput:
    """The device as it was when it was opened."""

    def __init__(self, device: FakeDevice, receive: Callable[[np.ndarray, int, bool], None]) -> None:
        self.name, self.rate = device.name, device.rate
        self.is_active, self.objection = True, ""
        self.is_closed = False
        self._device = device
        self._receive = receive
        self._size = round(device.block * device.rate)
        self._number = 0
        self._due = device.world.awake + device.starts_after
        self._overflowed = False
        self._shown = 0.0  # the latest a block has been handed over: they stay in order
        self._record()

    def close(self) -> None:
        self.is_closed = True
        if self in self._device.open_inputs:
            self._device.open_inputs.remove(self)

    def _record(self) -> None:
        """Plan the next block: recorded in its time, handed over late where the script says so."""
        true_rate = self.rate * (1 + self._device.ppm * 1e-6)
        self._due += self._size / true_rate
        self._device.world.at_awake(self._due, self._recorded)

    def _recorded(self) -> None:
        world, device = self._device.world, self._device
        if self.is_closed or not device.is_there or device.is_dumb:
            return
        times = world.clock - np.arange(self._size, 0, -1) / (self.rate * (1 + device.ppm * 1e-6))
        sound = np.asarray(device.sound(times), np.float32)
        samples = sound[:, None].repeat(device.channels, axis=1) if sound.ndim == 1 else sound
        lost, device.loses = device.loses, 0.0
        shown = max(self._shown, world.awake + device.late(self._number))
        self._shown = shown
        self._overflowed |= lost > 0 and device.tells_loss
        if lost:
            samples = samples[min(len(samples), round(lost * self.rate)) :]
            device.loses = max(0.0, lost - self._size / self.rate)
        self._number += 1
        if len(samples):
            overflowed, self._overflowed = self._overflowed, False
            world.at_awake(shown, lambda: self._hand_over(samples, overflowed))
        self._record()

    def _hand_over(self, samples: np.ndarray, overflowed: bool) -> None:
        if not self.is_closed:
            self._receive(samples, self.rate, overflowed)


class Session:
    """A microphone of the world and what it has brought."""

    def __init__(self, world: World, *devices: FakeDevice, **options: object) -> None:
        self.world = world
        self.news: list[str] = []
        self.items: list[np.ndarray | Lost] = []
        self.start = world.clock
        self.mic = Microphone(
            devices,
            on_news=self.news.append,
            now=world.now,
            bell=WorldBell(world),
            spawn=at_once,
            **options,  # pyright: ignore[reportArgumentType]
        )

    def listen(self, seconds: float) -> None:
        """Take what comes in so many seconds awake."""
        end = self.world.awake + seconds
        rung = []
        self.world.at(seconds, lambda: (rung.append(True), self.mic._bell.ring()))
        while not rung and self.world.awake < end - 1e-9:
            item = self.mic._poll()
            if item is None:
                self.mic._bell.wait(0.08)
            else:
                self.items.append(item)

    def finish(self) -> None:
        """Stop, and take the rest."""
        self.mic.stop()
        self.items += list(self.mic)

    @property
    def blocks(self) -> list[np.ndarray]:
        return [item for item in self.items if not isinstance(item, Lost)]

    @property
    def losses(self) -> list[Lost]:
        return [item for item in self.items if isinstance(item, Lost)]

    @property
    def sound(self) -> np.ndarray:
        return np.concatenate(self.blocks)

    @property
    def seconds(self) -> float:
        """Told in all: sound, and what was lost and not filled."""
        return len(self.sound) / 24_000 + sum(lost.seconds - lost.filled for lost in self.losses)

    def delivered_before(self, lost: Lost) -> float:
        """Seconds of sound, silence included, that came out before it."""
        at = next(i for i, item in enumerate(self.items) if item is lost)
        return sum(len(item) for item in self.items[:at] if not isinstance(item, Lost)) / 24_000

    def on_timeline(self) -> list[tuple[float, np.ndarray]]:
        """Blocks with the time at which each begins."""
        placed, time = [], 0.0
        for item in self.items:
            if isinstance(item, Lost):
                time += item.seconds - item.filled
            else:
                placed.append((time, item))
                time += len(item) / 24_000
        return placed


def at_once(work: Callable[[], object]) -> Callable[[float], object]:
    """In place of a background."""
    work()
    return lambda seconds: None
