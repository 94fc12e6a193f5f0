"""The transcript journal: a file of JSON lines to which a live session writes each word before it is shown.

In: events as they come. Out: lines in the vocabulary of jsonl, words with a running number. Knows nothing of sound,
models and displays.

Each session begins with a line of the type `session` and, if it ends properly, ends with one of the type `end`. In
between are words (a revision has the number of the word that it replaces), ends of turns, gaps and refreshes, and in
silence a line of the type `time` now and then, so that the clock of the next session begins where this one's stopped.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

from ..errors import OptionError
from ..events import Event, Word
from ..outputs import event_record
from ..subtitles import milliseconds
from .growing_files import cannot_write, opened
from .past_sessions import KEPT_EVENTS, VERSION, Past, latest_time, read_past

_SILENCE = 10.0
"""Seconds without a line after which the time is noted."""
_REVISABLE = 16
"""Words per lane that may still be revised; a stream revises only its last few."""


def _line(record: Mapping[str, Any]) -> bytes:
    """UTF-8; half of a surrogate pair, which a file's name may hold, becomes JSON's escape of it."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def _to_milliseconds(seconds: float) -> float:
    return milliseconds(seconds) / 1000


def _rounded_up(seconds: float) -> float:
    """The next whole millisecond, which is a whole number of samples too: no clock goes back."""
    return math.ceil(round(seconds * 1000, 6)) / 1000


def _write(file: int, data: bytes) -> None:
    """All of the data or none of it, in one write unless the system takes it in parts."""
    size = os.fstat(file).st_size
    try:
        while data:
            data = data[os.write(file, data) :]
    except OSError:
        with suppress(OSError):
            os.ftruncate(file, size)
        raise


class Journal:
    """A journal that is being written. Made by `create` or `resume`; a context manager, which does not write the end.

    Where a write fails, KsttError is raised once. Nothing is written after that, since a journal with a hole would look
    like a whole one; what was written before stays whole.

    Attributes:
        path: where the file is.
        offset: seconds at which this session's clock begins, in whole milliseconds.
    """

    def __init__(self, path: Path, file: io.FileIO, past: Past, seconds: float) -> None:
        self.path = path
        self.offset = _rounded_up(max(past.seconds, seconds))
        self._file = file
        self._words = past.words
        self._seconds = self.offset
        self._recent: dict[str | None, dict[int, int]] = {}  # by lane: start in milliseconds -> number
        self._has_failed = False

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, model: str, lanes: Sequence[str] = (), save_audio: str | None = None
    ) -> Journal:
        """Begin a journal, and the folders above it.

        Args:
            path: the file; it must not exist, or be empty.
            model: the model's name.
            lanes: the speakers' labels.
            save_audio: where the sound is saved.

        Raises:
            OptionError: the file exists, or another session writes it.
            KsttError: it cannot be written.
        """
        file = opened(Path(path), create=True, append=True)
        if os.fstat(file.fileno()).st_size:
            file.close()
            raise OptionError(f"{path} exists: name another file, or go on with it by --resume")
        return cls(Path(path), file, Past(), 0.0)._begin(model, lanes, save_audio)

    @classmethod
    def resume(
        cls,
        path: str | os.PathLike[str],
        *,
        model: str,
        lanes: Sequence[str] = (),
        save_audio: str | None = None,
        seconds: float = 0.0,
    ) -> Journal:
        """Go on with a journal: numbers continue, and the clock begins at the latest time that it knows.

        Where a session was killed while its device was away, the clock has not counted that outage: a gap is known, and
        written, when it is over.

        Args:
            path, model, lanes, save_audio: as in `create`; the file must exist.
            seconds: the length of the saved sound; the clock begins there if that is later.

        Raises:
            OptionError: it is no journal, or one of a later version; the line is named. Or another session writes it.
            KsttError: it cannot be read or written.
        """
        read_past(path)  # which says what is wrong with it
        file = opened(Path(path), create=False, append=True)
        past = read_past(path)  # another session may have written until now
        journal = cls(Path(path), file, past, seconds)
        journal._cut(past.size)
        return journal._begin(model, lanes, save_audio)

    def write(self, events: Iterable[Event]) -> None:
        """Write what is kept of the events, before they are shown; partials and pauses are not. A turn's end is synced.

        Raises:
            KsttError: the file takes no more (once).
        """
        records = [self._record(event) for event in events if isinstance(event, tuple(KEPT_EVENTS.values()))]
        self._append(records, is_durable=any(record["type"] == "end_of_turn" for record in records))

    def note_time(self, seconds: float) -> None:
        """Say how far the clock has come; written where nothing else has said so for 10 s.

        Raises:
            KsttError: as in `write`.
        """
        if seconds - self._seconds >= _SILENCE:
            self._append([{"type": "time", "time": _to_milliseconds(seconds)}])

    def close(self, seconds: float | None = None) -> None:
        """End the session. May be called again.

        Args:
            seconds: where its clock stopped; None where it did not end properly.

        Raises:
            KsttError: as in `write`.
        """
        if self._file.closed:
            return
        end = [] if seconds is None else [{"type": "end", "time": _to_milliseconds(seconds)}]
        try:
            self._append(end, is_durable=True)
        finally:
            self._file.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def _begin(self, model: str, lanes: Sequence[str], save_audio: str | None) -> Journal:
        started = datetime.now().astimezone().isoformat(timespec="seconds")
        head = {"type": "session", "version": VERSION, "started": started, "offset": self.offset}
        try:
            self._append([head | {"model": model, "lanes": list(lanes), "save_audio": save_audio}], is_durable=True)
        except BaseException:
            self._file.close()
            raise
        return self

    def _record(self, event: Event) -> dict[str, Any]:
        record = event_record(event)
        if isinstance(event, Word):
            record = {"type": record.pop("type"), "number": self._number(event), **record}
        return record

    def _number(self, word: Word) -> int:
        """The next one, or that of the word which this one revises."""
        recent, start = self._recent.setdefault(word.lane, {}), milliseconds(word.start)
        if start not in recent:
            self._words += 1
            recent[start] = self._words
            if len(recent) > _REVISABLE:
                del recent[next(iter(recent))]
        return recent[start]

    def _append(self, records: list[dict[str, Any]], *, is_durable: bool = False) -> None:
        """Lines in one unbuffered write; all of them, or none."""
        if self._has_failed:
            return
        try:
            _write(self._file.fileno(), b"".join(map(_line, records)))
            if is_durable:
                os.fsync(self._file.fileno())
        except OSError as error:
            self._has_failed = True
            raise cannot_write(self.path, error) from error
        self._seconds = max([self._seconds, *map(latest_time, records)])

    def _cut(self, size: int) -> None:
        """Take away a line that a kill cut off; a last line without its end gets one."""
        file = self._file.fileno()
        try:
            os.ftruncate(file, size)
            if size and os.pread(file, 1, size - 1) != b"\n":
                _write(file, b"\n")
        except OSError as error:
            self._file.close()
            raise cannot_write(self.path, error) from error
