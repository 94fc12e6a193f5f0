"""What is shown while somebody speaks: running text, or one JSON object per event.

In: events as they come. Out: text on standard output, flushed at once. Knows nothing of sound, devices and the model.
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from typing import Protocol

from ..events import Event
from ..live.status import Status
from ..outputs import event_record
from .delivery import complain, send
from .lines import Lines
from .screen import Screen


class Display(Protocol):
    """Anything that shows a session. Its end is told by `close`, whatever happened."""

    shows_gaps: bool

    def tell(self, events: Sequence[Event]) -> None:
        """Show events.

        Raises:
            BrokenPipeError: whoever read standard output has gone.
            KsttError: standard output takes no more.
        """
        ...

    def show(self, status: Status) -> None:
        """Show how it goes."""
        ...

    def news(self, message: str) -> None:
        """Show one sentence; from any thread."""
        ...

    def close(self) -> None:
        """Complete the text. Raises as `tell` does."""
        ...


def open_display(form: str, *, plain: bool, timestamps: bool) -> Display:
    """What fits standard output: a live screen on a terminal, otherwise plain text, or JSON where it is asked for.

    Args:
        form: "txt" or "jsonl".
        plain: no live screen on a terminal either.
        timestamps: a time before each line of text.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A name need not be valid text; JSON is UTF-8 wherever it goes.
        encoding = "utf-8" if form == "jsonl" else sys.stdout.encoding
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
    if form == "jsonl":
        return JsonLines()
    can_redraw = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    return Screen(timestamps=timestamps) if can_redraw and not plain else Plain(timestamps=timestamps)


class Plain:
    """Words as they become final; a line for each turn."""

    shows_gaps = False

    def __init__(self, *, timestamps: bool) -> None:
        self._lines = Lines(timestamps=timestamps)

    def tell(self, events: Sequence[Event]) -> None:
        self._send("".join(map(self._lines.add, events)))

    def show(self, status: Status) -> None:
        """Nothing: there is no place for it."""

    def news(self, message: str) -> None:
        complain(message)

    def close(self) -> None:
        self._send(self._lines.finish())

    def _send(self, text: str) -> None:
        if text:
            send(text)


class JsonLines:
    """Every event as one line, unfinished words included."""

    shows_gaps = False

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            send(json.dumps(event_record(event), ensure_ascii=False) + "\n")

    def show(self, status: Status) -> None:
        """Nothing: it is no event."""

    def news(self, message: str) -> None:
        complain(message)

    def close(self) -> None:
        """Nothing: every line is complete."""
