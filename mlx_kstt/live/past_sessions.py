"""What a journal says when it is read again, also after a kill.

In: a file of JSON lines that `Journal` wrote. Out: events, and where to go on. Knows nothing of how lines come to be.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..errors import KsttError, OptionError
from ..events import EndOfTurn, Event, Gap, Refresh, Word
from ..outputs import FinalEvents

VERSION = 1
_HEAD = b'{"type": "session", '
"""The first bytes of every journal."""
KEPT_EVENTS: dict[str, type[Word] | type[EndOfTurn] | type[Gap] | type[Refresh]] = {
    "word": Word,
    "end_of_turn": EndOfTurn,
    "gap": Gap,
    "refresh": Refresh,
}
_WHOLE, _REAL, _TEXT, _TEXTS, _TEXT_OR_NULL = "whole", "real", "text", "texts", "text or null"
_FIELDS = {
    "session": {
        "version": _WHOLE,
        "started": _TEXT,
        "offset": _REAL,
        "model": _TEXT,
        "lanes": _TEXTS,
        "save_audio": _TEXT_OR_NULL,
    },
    "word": {"number": _WHOLE, "text": _TEXT, "start": _REAL, "end": _REAL, "confidence": _REAL},
    "end_of_turn": {"time": _REAL, "text": _TEXT},
    "gap": {"start": _REAL, "end": _REAL, "reason": _TEXT},
    "refresh": {"time": _REAL, "reason": _TEXT},
    "time": {"time": _REAL},
    "end": {"time": _REAL},
}
_LARGEST = 1e12
"""Of a number in a line: no clock has come that far."""


@dataclass(frozen=True, slots=True)
class Past:
    """What a journal says about the sessions in it.

    Attributes:
        words: the number of the last word.
        seconds: how far the clock had come.
        size: bytes up to the end of the last whole line.
        model: of the last session; None where there is none.
        lanes: of the last session.
        save_audio: where the last session saved its sound; None where it did not.
    """

    words: int = 0
    seconds: float = 0.0
    size: int = 0
    model: str | None = None
    lanes: tuple[str, ...] = ()
    save_audio: str | None = None


def read_journal(path: str | os.PathLike[str]) -> list[Event]:
    """The final words, ends of turns, gaps and refreshes of all sessions, in the order in which they first came.

    A last line that a kill cut off is left out; nobody was shown it.

    Raises:
        OptionError: it is no journal, or one of a later version; the line is named.
        KsttError: it cannot be read.
    """
    sessions = [FinalEvents()]
    for record, _ in _records(Path(path)):
        if record["type"] == "session":  # its words revise none of the last one's
            sessions.append(FinalEvents())
        elif kind := KEPT_EVENTS.get(record["type"]):
            fields = {name: value for name, value in record.items() if name not in ("type", "number")}
            sessions[-1].add([kind(**fields)])
    return [event for session in sessions for event in session.events]


def read_past(path: str | os.PathLike[str]) -> Past:
    """What must be known of a journal to go on with it. Errors are those of `read_journal`."""
    past = Past()
    for record, size in _records(Path(path)):
        past = replace(
            past,
            words=max(past.words, record.get("number", 0)),
            seconds=max(past.seconds, latest_time(record)),
            size=size,
        )
        if record["type"] == "session":
            lanes = tuple(record["lanes"])
            past = replace(past, model=record["model"], lanes=lanes, save_audio=record["save_audio"])
    return past


def _records(path: Path) -> Iterator[tuple[dict[str, Any], int]]:
    """The lines of a journal, and where in the file each ends; none where it is empty."""
    try:
        with open(path, "rb") as file:
            _check_head(path, file.read(len(_HEAD)))
            file.seek(0)
            yield from _read(path, file)
    except FileNotFoundError as error:
        raise OptionError(f"there is no journal {str(path)!r}: check the path") from error
    except OSError as error:
        raise KsttError(f"{path} cannot be read ({error.strerror}): check the path and its permissions") from error


def _check_head(path: Path, head: bytes) -> None:
    if not _HEAD.startswith(head):
        raise OptionError(f"{path} is no journal of mlx_kstt (line 1 does not begin a session): name another file")


def _read(path: Path, file: io.BufferedReader) -> Iterator[tuple[dict[str, Any], int]]:
    size = 0
    for number, line in enumerate(file, 1):
        try:
            record = json.loads(line)
        except (ValueError, RecursionError) as error:
            if not line.endswith(b"\n"):
                return
            raise OptionError(f"line {number} of {path} is no JSON: repair it, or name another journal") from error
        fault = _fault(record)
        if fault is not None:
            raise OptionError(f"line {number} of {path} {fault}")
        size += len(line)
        yield record, size


def _fault(record: Any) -> str | None:
    """What is wrong with a line, None where nothing is."""
    kind = record.get("type") if isinstance(record, dict) else None
    fields = _FIELDS.get(kind) if isinstance(kind, str) else None
    way_out = "repair it, or name another journal"
    if fields is None:
        return f"is of no type that a journal has: {way_out}"
    if kind == "session" and record.get("version") != VERSION:
        return f"is of version {record.get('version')!r}; this is version {VERSION}: update mlx_kstt"
    if kind in KEPT_EVENTS:
        fields = fields | {"lane": _TEXT} if "lane" in record else fields
    for name in fields | record:
        if name != "type" and not (name in fields and _fits(record.get(name), fields[name])):
            return f"has a field {name!r} that does not fit: {way_out}"
    return None


def _fits(value: Any, kind: str) -> bool:
    if kind == _TEXTS:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind == _REAL:
        return type(value) in (int, float) and abs(value) <= _LARGEST
    if kind == _WHOLE:
        return type(value) is int and 0 < value <= _LARGEST
    return isinstance(value, str) or (kind == _TEXT_OR_NULL and value is None)


def latest_time(record: Mapping[str, Any]) -> float:
    """The latest time that a line knows."""
    return max(record[name] for name in ("offset", "time", "end") if name in record)
