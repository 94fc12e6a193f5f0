"""A live session: sound from a source through the stream, kept before it is told.

In: a source of sound, a stream, and whatever keeps or listens. Out: events to the listeners, in their order, after the
journal has them; status after each block. Knows nothing of devices, terminals and models.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

import numpy as np

from ..audio.lost import Lost
from ..config import SAMPLE_RATE
from ..errors import KsttError
from ..events import Event
from .recording import to_16_bits
from .status import BEHIND, Pauses, Status, levels_of

_CAUGHT_UP = 0.5
"""Seconds of waiting sound from which it counts as in time again."""
_LACKS = {"recording": "is silent until there is space again", "journal": "has nothing"}
"""What a file that failed has from then on."""

Listener = Callable[[Sequence[Event]], None]


class Hearing(Protocol):
    """What a session needs of a `Stream`."""

    def push(self, pcm: np.ndarray, /) -> list[Event]: ...

    def skip(self, lost: Lost, /) -> list[Event]: ...

    def flush(self) -> list[Event]: ...


class Keeping(Protocol):
    """What a session needs of a `Recording`."""

    def write(self, sound: np.ndarray, /) -> None: ...

    def skip(self, samples: int, /) -> None: ...

    def close(self) -> None: ...


class Noting(Protocol):
    """What a session needs of a `Journal`."""

    def write(self, events: Sequence[Event], /) -> None: ...

    def note_time(self, seconds: float, /) -> None: ...

    def close(self, seconds: float | None, /) -> None: ...


class _Recorder:
    """A recording that a full disk does not end: what it could not take becomes silence, and its times stay true."""

    def __init__(self, recording: Keeping, on_failure: Callable[[str], None]) -> None:
        self._recording, self._on_failure = recording, on_failure
        self._missing = 0

    def take(self, sound: np.ndarray) -> None:
        self._attempt(len(sound), lambda: self._recording.write(sound))

    def skip(self, samples: int) -> None:
        self._missing += samples
        self._attempt(0, lambda: None)

    def close(self) -> None:
        self._attempt(0, lambda: None)
        try:
            self._recording.close()
        except (KsttError, OSError) as error:
            self._on_failure(str(error))

    def _attempt(self, samples: int, write: Callable[[], None]) -> None:
        try:
            if self._missing:
                self._recording.skip(self._missing)
                self._missing = 0
            write()
        except (KsttError, OSError) as error:
            self._missing += samples
            self._on_failure(str(error))


class Session:
    """One session: `Session(microphone, stt.open(), listeners=[print]).run()`.

    Args:
        source: blocks of sound and Lost items; may have `queued` (seconds) and `overruns`.
        stream: what hears them.
        start: seconds that the stream's clock shows at the beginning.
        recording, journal: what is kept; closed at the end. One that fails is complained about once and does not end
            the session.
        listeners: are told all events, one after another, once the journal has them.
        on_status: is told how it goes, after every item.
        on_news: is told in a sentence when decoding falls behind, and when it has caught up.
        on_failure: is told in a sentence what could not be kept.
    """

    def __init__(
        self,
        source: Iterable[np.ndarray | Lost],
        stream: Hearing,
        *,
        start: float = 0.0,
        recording: Keeping | None = None,
        journal: Noting | None = None,
        listeners: Sequence[Listener] = (),
        on_status: Callable[[Status], None] = lambda status: None,
        on_news: Callable[[str], None] = lambda message: None,
        on_failure: Callable[[str], None] = lambda message: None,
    ) -> None:
        self._source, self._stream = source, stream
        self._start, self._samples = start, 0  # heard or lost
        self._recorder = None if recording is None else _Recorder(recording, lambda why: self._lose("recording", why))
        self._journal = journal
        self._listeners = listeners
        self._on_status, self._on_news, self._on_failure = on_status, on_news, on_failure
        self._pauses = Pauses()
        self._levels: tuple[float, ...] = ()
        self._is_behind = self._is_closing = False
        self._failed: set[str] = set()
        self._end: float | None = None  # where the clock stopped, once the stream has told everything

    def run(self) -> bool:
        """Hear the source to its end, and what the model still holds back then.

        Returns:
            Whether all was kept that was to be kept.
        """
        try:
            for item in self._items():
                self._take(item)
                self._show()
            self._tell(self._stream.flush())
            self._end = self.seconds
        finally:
            self._close()
        return not self._failed

    @property
    def seconds(self) -> float:
        """Time of all that has come, on the stream's clock."""
        return self._start + self._samples / SAMPLE_RATE

    def _items(self) -> Iterator[np.ndarray | Lost]:
        """All that comes; a source that fails has ended, and what it gave is heard out."""
        try:
            yield from self._source
        except (KsttError, OSError) as error:
            self._fail("source", str(error))

    def _take(self, item: np.ndarray | Lost) -> None:
        if isinstance(item, Lost):
            samples = round((item.seconds - item.filled) * SAMPLE_RATE)
            if self._recorder:
                self._recorder.skip(samples)
            self._samples += samples
            self._tell(self._stream.skip(item))
            return
        sound = to_16_bits(item)
        if self._recorder:
            self._recorder.take(sound)
        self._samples += len(sound)
        self._levels = levels_of(sound)
        self._tell(self._stream.push(sound))

    def _tell(self, events: Sequence[Event]) -> None:
        if not events:
            return
        if journal := self._journal:
            self._note(lambda: journal.write(events))
        for event in events:
            self._pauses.take(event)
        for listener in self._listeners:
            listener(events)

    def _show(self) -> None:
        time = self.seconds
        if journal := self._journal:
            self._note(lambda: journal.note_time(time))
        queued: float = getattr(self._source, "queued", 0.0)
        if queued > BEHIND and not self._is_behind:
            self._on_news(f"decoding is {queued:.1f} s behind real time: catching up")
        elif queued < _CAUGHT_UP and self._is_behind:
            self._on_news("decoding has caught up with real time")
        self._is_behind = queued > (_CAUGHT_UP if self._is_behind else BEHIND)
        overruns: int = getattr(self._source, "overruns", 0)
        self._on_status(Status(time, self._levels, queued, overruns, self._pauses.is_pausing, self._pauses.has_spoken))

    def _close(self) -> None:
        self._is_closing = True
        if self._recorder:
            self._recorder.close()
        if journal := self._journal:
            self._note(lambda: journal.close(self._end))

    def _note(self, write: Callable[[], None]) -> None:
        try:
            write()
        except (KsttError, OSError) as error:
            self._lose("journal", str(error))

    def _lose(self, what: str, why: str) -> None:
        """A file fails. What that costs is said as well, but for the end, where it costs nothing more."""
        if not self._is_closing:
            since = timedelta(seconds=int(self.seconds))
            why = f"{why}; listening and the other files go on, and from {since} on the {what} {_LACKS[what]}"
        self._fail(what, why)

    def _fail(self, what: str, why: str) -> None:
        """Complain, once for each thing that fails: a full disk fails at every block."""
        if what not in self._failed:
            self._failed.add(what)
            self._on_failure(why)
