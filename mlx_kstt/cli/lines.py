"""Events to running text: what to write next, never what to take back.

In: events. Out: text to append: words, spaces, ends of lines, and what stands at the head of a line. Knows nothing of
terminals.
"""

from __future__ import annotations

from collections import deque
from math import inf

from ..events import EndOfTurn, Event, Gap, Partial, Word
from ..subtitles import label, milliseconds
from .delivery import printable

GAP = "[gap "
_PATIENCE = 5.0
"""Seconds after which no word from before a gap comes any more: a model's delay, and the end of a word."""


def clock(seconds: float) -> str:
    """1:02:03."""
    minutes, rest = divmod(milliseconds(seconds) // 1000, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def exact_clock(seconds: float) -> str:
    """1:02:03.4; what is left of the tenth is dropped, as clocks do."""
    return f"{clock(seconds)}.{milliseconds(seconds) % 1000 // 100}"


class Lines:
    """A line for each turn: `write(lines.add(event))`, and at the end `write(lines.finish())`.

    A gap is known before the last words that were said ahead of it: it waits for a later word, or for `pass_time`.

    Args:
        timestamps: whether the time of its first word stands before each line.
        gaps: whether a gap is a line of its own, which begins with GAP; else it only ends a line.
    """

    def __init__(self, *, timestamps: bool, gaps: bool = False) -> None:
        self._timestamps = timestamps
        self._shows_gaps = gaps
        self._gaps: deque[Gap] = deque()  # that wait
        self._is_open = False
        self._lane: str | None = None  # who speaks in the open line
        self._words: dict[str | None, Word] = {}  # the last one of each lane

    def add(self, event: Event) -> str:
        """What the event adds to the text."""
        if isinstance(event, Word):
            return self._gaps_before(event.start) + self._word(event)
        if isinstance(event, Gap):
            self._gaps.append(event)
        elif isinstance(event, EndOfTurn) and event.lane == self._lane:
            return self._end_line()
        return ""

    def preview(self, partial: Partial) -> str:
        """The unfinished word as it would stand behind the text, were it finished."""
        if self._is_open and self._lane == partial.lane:
            return f" {printable(partial.text)}"
        return "\n" * self._is_open + self._head(partial) + printable(partial.text)

    def pass_time(self, seconds: float) -> str:
        """The gaps that have been followed by silence."""
        return self._gaps_before(seconds - _PATIENCE)

    def finish(self) -> str:
        """The end of the last line, and gaps that still wait."""
        return self._end_line() + self._gaps_before(inf)

    def _end_line(self) -> str:
        was_open, self._is_open = self._is_open, False
        return "\n" if was_open else ""

    def _gaps_before(self, seconds: float) -> str:
        text = ""
        while self._gaps and self._gaps[0].start <= seconds:
            gap = self._gaps.popleft()
            text += self._end_line()
            if self._shows_gaps:
                text += f"{GAP}{gap.end - gap.start:.1f} s: {printable(gap.reason)}]\n"
        return text

    def _word(self, word: Word) -> str:
        """The word with what goes before it. Of a revision only what is new, where that is possible."""
        text, before = printable(word.text), self._words.get(word.lane)
        if not text:
            return ""
        self._words[word.lane] = word
        if before is not None and before.start == word.start:
            shown = printable(before.text)
            if text == shown:
                return ""
            if self._is_open and self._lane == word.lane and text.startswith(shown):
                return text[len(shown) :]
        if self._is_open and self._lane == word.lane:
            return f" {text}"
        end, self._is_open, self._lane = self._end_line(), True, word.lane
        return end + self._head(word) + text

    def _head(self, word: Word | Partial) -> str:
        """What stands before the first word of a line."""
        time = f"[{exact_clock(word.start)}] " if self._timestamps else ""
        return time + ("" if word.lane is None else label(printable(word.lane)))
