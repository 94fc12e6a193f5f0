"""A live session without a microphone and without a model: scripted sound, and a stream that counts what it hears.

In: items of sound. Out: events that tell which samples were heard. For tests of everything around them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np

from mlx_kstt.audio.lost import Lost
from mlx_kstt.config import SAMPLE_RATE
from mlx_kstt.events import EndOfTurn, Event, Gap, Word

Item = np.ndarray | Lost
SECOND = np.full(SAMPLE_RATE, 0.1, np.float32)


def seconds_of(value: float, count: float = 1.0) -> np.ndarray:
    """So many seconds of the same value, which CountingStream makes a word of."""
    return np.full(round(SAMPLE_RATE * count), value, np.float32)


class CountingStream:
    """One word for each block, the thousandths of its first sample ("100" for 0.1), told when the next block comes."""

    def __init__(self, lanes: Sequence[str] = (), start: float = 0.0) -> None:
        self.seconds = start
        self.sounds: list[np.ndarray] = []
        self._lane = lanes[0] if lanes else None
        self._held: list[Event] = []
        self._said: list[str] = []

    def push(self, pcm: np.ndarray) -> list[Event]:
        self.sounds.append(pcm)
        before, begin = self._held, self.seconds
        self.seconds += len(pcm) / SAMPLE_RATE
        text = f"{pcm.flat[0] * 1000:.0f}"
        self._held = [Word(text, begin, self.seconds, 0.5, self._lane)]
        self._said.append(text)
        return before

    def skip(self, lost: Lost) -> list[Event]:
        begin = self.seconds - lost.filled
        self.seconds = begin + lost.seconds
        return [*self._ended(), Gap(begin, self.seconds, lost.reason, self._lane)]

    def flush(self) -> list[Event]:
        return self._ended()

    def _ended(self) -> list[Event]:
        said, self._said = self._said, []
        events, self._held = self._held, []
        return [*events, EndOfTurn(self.seconds, " ".join(said), self._lane)] if said else events


class FakeMicrophone:
    """Gives what it is told to give; what is callable is called in its place, as if it happened then."""

    def __init__(self, items: Iterable[Item | Callable[[], object]], lanes: int = 1) -> None:
        self.lanes, self.queued, self.overruns = lanes, 0.0, 0
        self.is_stopped = self.is_closed = False
        self.on_news: Callable[[str], object] = lambda message: None
        self._items = list(items)

    def __enter__(self) -> FakeMicrophone:
        return self

    def __exit__(self, *error: object) -> None:
        self.is_closed = True

    def __iter__(self) -> Iterator[Item]:
        self.on_news("listening to Fake (48000 Hz)")
        for item in self._items:
            if self.is_stopped:
                return
            if callable(item):
                item()
            else:
                yield item

    def stop(self) -> None:
        self.is_stopped = True


class FakeModel:
    """What `mlx_kstt.load` is to give: opens CountingStreams, and remembers how."""

    config = SimpleNamespace(decoder=SimpleNamespace(pause_heads=4), pause_head=2)

    def __init__(self) -> None:
        self.opened: list[dict[str, Any]] = []
        self.streams: list[CountingStream] = []

    def open(self, *, lanes: Sequence[str] = (), start: float = 0.0, **options: Any) -> CountingStream:
        self.opened.append(options | {"lanes": lanes, "start": start})
        self.streams.append(CountingStream(lanes, start))
        return self.streams[-1]
