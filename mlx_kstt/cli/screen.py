"""The live screen on a terminal: text that grows and is never rewritten, and below it one line about how it goes.

In: events and status. Out: a terminal, redrawn at most ten times a second and only where something has changed. Knows
nothing of sound, devices and the model.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Event as Flag
from threading import RLock, Thread
from time import monotonic

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from ..errors import KsttError
from ..events import EndOfTurn, Event, Partial, Word
from ..live.status import Status
from .delivery import complain, printable
from .lines import GAP, Lines
from .status_line import News, status_line

_REDRAW = 0.1
"""Seconds between two redraws."""


class Screen:
    """Text and a line of status. What comes on standard error meanwhile goes above it, where that is a terminal.

    Args:
        timestamps: whether the time of its first word stands before each line.
        console: the terminal; by default standard output.
        now: seconds on a clock that never goes back.

    Attributes:
        shows_gaps: whether who reads the messages sees the gaps here.
    """

    def __init__(
        self, *, timestamps: bool, console: Console | None = None, now: Callable[[], float] = monotonic
    ) -> None:
        self.shows_gaps = sys.stderr.isatty()  # else messages are for another reader
        self._console = console or Console(highlight=False)
        self._now = now
        self._lines = Lines(timestamps=timestamps, gaps=True)
        self._row = ""  # the line in progress, as far as it is not printed for good
        self._finished: list[Text] = []  # to be printed for good
        self._partials: dict[str | None, Partial] = {}
        self._status: Status | None = None
        self._news = News()
        self._drawn: tuple[Text, ...] = ()
        self._failure: OSError | None = None
        self._lock = RLock()
        self._live = Live(
            console=self._console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=self.shows_gaps,
            vertical_overflow="crop",
        )
        self._closing = Flag()
        self._drawing = Thread(target=self._keep_drawing, name="mlx_kstt screen", daemon=True)

    def tell(self, events: Sequence[Event]) -> None:
        self._check()
        with self._lock:
            for event in events:
                self._take(event)
        self._start()
        if any(isinstance(event, EndOfTurn) for event in events):
            self._attempt(self.draw)  # before anybody prints what comes of the turn

    def show(self, status: Status) -> None:
        with self._lock:
            self._status = status
            self._news.hear(status.levels)
            self._append(self._lines.pass_time(status.time))
        self._start()

    def news(self, message: str) -> None:
        """One sentence, in the line of status where it fits, else above it."""
        with self._lock:
            self._news.add(message, self._now())
            fits = printable(message) in status_line(self._status, message, self._width, ascii_only=False).plain
        self._start()  # which wraps what goes above it
        if not (fits and sys.stderr.isatty()):
            complain(message)

    def close(self) -> None:
        """Print for good what is there, and leave the line of status."""
        self._closing.set()
        if self._drawing.ident is not None:
            self._drawing.join()
        self._append(self._lines.finish())
        self._attempt(self._live.stop)
        if self._finished:
            self._attempt(self._print_finished)
        self._check()

    def draw(self) -> None:
        """Bring the terminal up to date, where it is not."""
        with self._lock:
            *full, row = self._wrapped(Text(self._row))
            self._finished += full
            self._row = row.plain
            picture = (*self._wrapped(self._in_progress()), self._status_line())
            if not self._finished and picture == self._drawn:
                return
            self._drawn = picture
            with self._console:  # in one go: nobody sees the text printed and the line below it still old
                if self._finished:
                    self._print_finished()
                self._live.update(Group(*picture), refresh=True)

    @property
    def _width(self) -> int:
        """One column stays free: some terminals wrap when the last one is written. A wide character needs two."""
        return max(self._console.width - 1, 2)

    def _start(self) -> None:
        """Only when there is something to show: messages before that need no screen."""
        with self._lock:
            if self._drawing.ident is None and not self._closing.is_set():
                self._attempt(self._live.start)
                self._drawing.start()

    def _keep_drawing(self) -> None:
        while not self._closing.wait(_REDRAW):
            self._attempt(self.draw)

    def _attempt(self, work: Callable[[], object]) -> None:
        """Do it, or remember that the terminal has gone; whatever is written afterwards goes nowhere."""
        try:
            work()
        except OSError as error:
            self._failure = self._failure or error
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self._console.file.fileno())

    def _check(self) -> None:
        if self._failure is not None:
            raise KsttError(
                f"the terminal cannot be written ({self._failure.strerror}): keep it open, or use --journal"
            ) from self._failure

    def _take(self, event: Event) -> None:
        if isinstance(event, Partial):
            self._partials[event.lane] = event
        elif isinstance(event, Word):
            partial = self._partials.get(event.lane)
            if partial is not None and partial.start <= event.start:
                del self._partials[event.lane]
        self._append(self._lines.add(event))

    def _append(self, text: str) -> None:
        *ended, last = text.split("\n")
        for end in ended:
            line = self._row + end
            self._finished += self._wrapped(Text(line, "dim" if line.startswith(GAP) else ""))
            self._row = ""
        self._row += last

    def _wrapped(self, text: Text) -> list[Text]:
        return list(text.wrap(self._console, self._width, overflow="fold")) or [Text()]

    def _in_progress(self) -> Text:
        """The open line with the unfinished words."""
        unfinished = "".join(map(self._lines.preview, self._partials.values()))
        return Text.assemble(self._row, (unfinished, "dim"))

    def _status_line(self) -> Text:
        news, is_ascii = self._news.at(self._now()), self._console.options.ascii_only
        return status_line(self._status, news, self._width, ascii_only=is_ascii, is_mute=self._news.is_mute)

    def _print_finished(self) -> None:
        finished, self._finished = self._finished, []
        self._console.print(Text("\n").join(finished))
