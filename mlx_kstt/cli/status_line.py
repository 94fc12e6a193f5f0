"""One line about how a session goes: level, pause, time, what is behind, and the latest news.

In: a status, sentences, and a width. Out: styled text of at most that width. Knows nothing of terminals.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from rich.cells import cell_len
from rich.text import Text

from ..live.status import BEHIND, Status
from ..loudness import SILENCE
from .delivery import printable
from .lines import clock

_METER = 10
"""Characters of the level meter."""
_QUIETEST = -60.0
"""dBFS at which the meter is empty."""
_NEWS = 5.0
"""Seconds for which a sentence stays."""
_LASTING = re.compile(r"no sound arrives from .+: .|.+ has stopped: .|.+: the input is opened anew$")
_HEARD = re.compile(r"listening to (.+) \(\d+ Hz\)")


class News:
    """What to show: the latest sentence for a few seconds, and then one that still holds.

    That no sound comes from a device holds until the news says that it is heard, or a lane that was silent is not.
    """

    def __init__(self) -> None:
        self._latest, self._until = "", 0.0
        self._lasting: dict[str, set[int]] = {}  # sentence -> lanes that were silent since
        self._is_silent = False

    @property
    def is_mute(self) -> bool:
        """Whether no sound comes at all."""
        return self._is_silent and bool(self._lasting)

    def add(self, sentence: str, now: float) -> None:
        """News, at this many seconds."""
        self._latest, self._until = printable(sentence), now + _NEWS
        if _LASTING.match(self._latest):
            self._lasting[self._latest] = set()
        elif heard := _HEARD.match(self._latest):
            name = re.escape(heard[1])
            over = re.compile(rf"no sound arrives from {name}: |{name} has stopped: |{name} .+ opened anew$")
            self._lasting = {it: set() for it in self._lasting if not over.match(it)}  # whose lanes are others

    def hear(self, levels: Sequence[float]) -> None:
        """How loud each lane is."""
        quiet = {lane for lane, level in enumerate(levels) if level <= SILENCE}
        self._is_silent = len(quiet) == len(levels)
        self._lasting = {it: lanes | quiet for it, lanes in self._lasting.items() if lanes <= quiet}

    def at(self, now: float) -> str:
        """The sentence, or nothing."""
        return self._latest if now < self._until else next(reversed(self._lasting), "")


def status_line(status: Status | None, news: str, width: int, *, ascii_only: bool, is_mute: bool = False) -> Text:
    """As much as fits of: meter, pause, time, lag, overruns, news; the most important first.

    Args:
        status: None before the first sound.
        news: one sentence, or nothing.
        width: columns.
        ascii_only: the terminal shows no other characters.
        is_mute: whether no sound comes.
    """
    parts = [] if status is None else _parts(status, ascii_only=ascii_only, is_mute=is_mute)
    parts.append((6, Text(news, "dim")))
    chosen: dict[int, Text] = {}
    free = width
    for rank, part in sorted(enumerate(parts), key=lambda item: item[1][0]):
        needed = cell_len(part[1].plain) + bool(chosen)
        if part[1].plain and needed <= free:
            chosen[rank] = part[1]
            free -= needed
    return Text(" ").join(chosen[rank] for rank in sorted(chosen))


def _parts(status: Status, *, ascii_only: bool, is_mute: bool) -> list[tuple[int, Text]]:
    """In the order of the line, each with its importance."""
    silent = Text("pausing " if status.has_spoken else "waiting ", "dim")
    state = Text("no sound", "red") if is_mute else silent if status.is_pausing else Text("speaking", "green")
    behind = f"{status.queued:.0f} s behind" if status.queued > BEHIND else ""
    overruns = f"{status.overruns} overrun{'s' * (status.overruns > 1)}" if status.overruns else ""
    return [
        (3, _meter(status.levels, ascii_only=ascii_only)),
        (2, state),
        (4, Text(clock(status.time))),
        (1, Text(behind, "red")),
        (5, Text(overruns, "red")),
    ]


def _meter(levels: tuple[float, ...], *, ascii_only: bool) -> Text:
    """A bar for each lane."""
    full, empty = "#-" if ascii_only else "█░"
    length = max(_METER // max(len(levels), 1), 1)
    filled = [round(length * min(max(1 - level / _QUIETEST, 0.0), 1.0)) for level in levels]
    return Text(" ").join(Text.assemble(full * count, (empty * (length - count), "dim")) for count in filled)
