"""Words to subtitle cues.

In: timed words. Out: cues in whole milliseconds, with their lines. Knows nothing of srt or vtt syntax, or of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import NamedTuple

from .errors import OptionError
from .events import Word

_SHORTEST = 80  # ms: two pictures of a 25 fps film; a cue below that is not seen

# What a cut into cues costs, in units of one more cue. A cut at the end of a sentence is free.
_CUE = 1.0
_CUT_AFTER_CLAUSE = 1.5
_CUT_ELSEWHERE = 3.0
_TOO_SHORT = 4.0

_SENTENCE_ENDS = (".", "?", "!", "…")
_CLAUSE_ENDS = (",", ";", ":", "\N{EN DASH}", "\N{EM DASH}")
_CLOSING = "\"')]»\N{RIGHT DOUBLE QUOTATION MARK}\N{RIGHT SINGLE QUOTATION MARK}"


@dataclass(frozen=True, slots=True)
class SubtitleRules:
    """How words become cues.

    Attributes:
        max_line_length: characters per line; a longer word (or a label that leaves it no room) stays whole.
        max_lines: lines per cue.
        max_gap: seconds of silence between two words above which a new cue begins.
        min_duration: seconds; a shorter cue stays on screen as long, if the next one leaves it the time.
        max_duration: seconds.
        min_gap: seconds between two cues; given up where the first would be on screen for less than 0.08 s.

    Raises:
        OptionError: a value is out of its range.
    """

    max_line_length: int = 42
    max_lines: int = 2
    max_gap: float = 1.0
    min_duration: float = 1.0
    max_duration: float = 7.0
    min_gap: float = 0.08

    def __post_init__(self) -> None:
        self._require("max_line_length", 1)
        self._require("max_lines", 1)
        self._require("max_gap", 0)
        self._require("min_duration", _SHORTEST / 1000)
        self._require("max_duration", self.min_duration)
        self._require("min_gap", 0)

    def _require(self, name: str, least: float) -> None:
        value = getattr(self, name)
        if not least <= value < math.inf:
            raise OptionError(f"{name} is {value}, and must be a number of at least {least}")


DEFAULT_RULES = SubtitleRules()


@dataclass(frozen=True, slots=True)
class Cue:
    """What is on screen from start to end (milliseconds): lines, without the label of the lane that speaks them."""

    start: int
    end: int
    lane: str | None
    lines: tuple[str, ...]


class TimedText(NamedTuple):
    """A word in whole milliseconds, its white space reduced to single spaces."""

    start: int
    end: int
    text: str
    lane: str | None


def milliseconds(seconds: float) -> int:
    """Whole milliseconds, the nearest; the only place where times are rounded."""
    return round(seconds * 1000)


def one_line(text: str) -> str:
    """The text with every run of white space, line ends and tabs included, as one space."""
    return " ".join(text.split())


def label(lane: str | None) -> str:
    """What goes before the words of a lane: "Name: ", or nothing."""
    return "" if lane is None else f"{lane}: "


def runs(words: Iterable[Word], max_gap: float) -> list[list[TimedText]]:
    """The words with text, cut where the lane changes or a silence is longer than max_gap seconds."""
    result: list[list[TimedText]] = []
    for word in words:
        lane = None if word.lane is None else one_line(word.lane)
        timed = TimedText(milliseconds(word.start), milliseconds(word.end), one_line(word.text), lane)
        if not timed.text:
            continue
        if not result or lane != result[-1][-1].lane or timed.start - result[-1][-1].end > max_gap * 1000:
            result.append([])
        result[-1].append(timed)
    return result


def make_cues(words: Iterable[Word], rules: SubtitleRules) -> list[Cue]:
    """The words as cues: each word once and in order, no two cues at the same time, none of zero length.

    Args:
        words: in order of their start.
        rules: the limits. Within them, cues end with sentences or else clauses where they can, and are of like length.
    """
    groups = [group for run in runs(words, rules.max_gap) for group in _split(run, rules)]
    cues: list[Cue] = []
    for group, following in zip_longest(groups, groups[1:]):
        start = max(group[0].start, cues[-1].end if cues else 0)
        end = _end(start, group, following, rules)
        cues.append(Cue(start, end, group[0].lane, _balanced_lines(group, rules)))
    return cues


def _end(start: int, group: Sequence[TimedText], following: Sequence[TimedText] | None, rules: SubtitleRules) -> int:
    """When a cue that starts at `start` leaves the screen (ms)."""
    shortest, longest = start + milliseconds(rules.min_duration), start + milliseconds(rules.max_duration)
    wanted = min(max(group[-1].end, shortest), longest)
    if following is None:
        return wanted
    return min(wanted, max(following[0].start - milliseconds(rules.min_gap), start + _SHORTEST))


def _split(run: Sequence[TimedText], rules: SubtitleRules) -> list[Sequence[TimedText]]:
    """The run cut into cues at the least total cost."""
    best = [(0.0, 0)]  # for the first n words: the cost, and where their last cue begins
    for stop in range(1, len(run) + 1):
        choices = _starts(run, stop, rules)
        best.append(min((best[start][0] + _cost(run, start, stop, rules), start) for start in choices))
    groups: list[Sequence[TimedText]] = []
    stop = len(run)
    while stop:
        start = best[stop][1]
        groups.append(run[start:stop])
        stop = start
    return groups[::-1]


def _starts(run: Sequence[TimedText], stop: int, rules: SubtitleRules) -> Iterator[int]:
    """Where a cue that ends before word `stop` can begin; one word alone is always a cue."""
    yield stop - 1
    for start in range(stop - 2, -1, -1):
        group = run[start:stop]
        too_long = group[-1].end - group[0].start > rules.max_duration * 1000
        if too_long or len(_wrap(group, rules.max_line_length)) > rules.max_lines:
            return
        yield start


def _cost(run: Sequence[TimedText], start: int, stop: int, rules: SubtitleRules) -> float:
    """What the cue of run[start:stop] costs; the square of its length makes cues of like length cheapest."""
    length = sum(len(word.text) + 1 for word in run[start:stop])
    cost = _CUE + (length / (rules.max_line_length * rules.max_lines)) ** 2
    if stop == len(run):
        return cost
    if run[stop].start - run[start].start < rules.min_duration * 1000:
        cost += _TOO_SHORT
    return cost + _cut_cost(run[stop - 1].text)


def _cut_cost(text: str) -> float:
    """What it costs to end a cue after this word."""
    spoken = text.rstrip(_CLOSING)
    if spoken.endswith(_SENTENCE_ENDS):
        return 0.0
    return _CUT_AFTER_CLAUSE if spoken.endswith(_CLAUSE_ENDS) else _CUT_ELSEWHERE


def _wrap(group: Sequence[TimedText], width: int) -> list[list[str]]:
    """The words in as few lines of at most `width` characters as they need, the label counted in the first."""
    lines: list[list[str]] = [[]]
    used = len(label(group[0].lane))
    for word in group:
        if lines[-1] and used + 1 + len(word.text) > width:
            lines.append([])
            used = 0
        used += len(word.text) + bool(lines[-1])
        lines[-1].append(word.text)
    return lines


def _balanced_lines(group: Sequence[TimedText], rules: SubtitleRules) -> tuple[str, ...]:
    """As few lines as they need, the longest as short as it can be."""
    count = len(_wrap(group, rules.max_line_length))
    width = next(width for width in range(1, rules.max_line_length + 1) if len(_wrap(group, width)) <= count)
    return tuple(" ".join(line) for line in _wrap(group, width))
