"""One line about how a session goes: level, pause, time, what is behind, and the latest news.

In: a status and a width. Out: styled text of at most that width. Knows nothing of terminals.
"""

from __future__ import annotations

from rich.cells import cell_len
from rich.text import Text

from ..live.status import BEHIND, Status
from .lines import clock

_METER = 10
"""Characters of the level meter."""
_QUIETEST = -60.0
"""dBFS at which the meter is empty."""


def status_line(status: Status | None, news: str, width: int, *, ascii_only: bool) -> Text:
    """As much as fits of: meter, pause, time, lag, overruns, news; the most important first.

    Args:
        status: None before the first sound.
        news: one sentence, or nothing.
        width: columns.
        ascii_only: the terminal shows no other characters.
    """
    parts = [] if status is None else _parts(status, ascii_only=ascii_only)
    parts.append((6, Text(news, "dim")))
    chosen: dict[int, Text] = {}
    free = width
    for rank, part in sorted(enumerate(parts), key=lambda item: item[1][0]):
        needed = cell_len(part[1].plain) + bool(chosen)
        if part[1].plain and needed <= free:
            chosen[rank] = part[1]
            free -= needed
    return Text(" ").join(chosen[rank] for rank in sorted(chosen))


def _parts(status: Status, *, ascii_only: bool) -> list[tuple[int, Text]]:
    """In the order of the line, each with its importance."""
    state = Text("pausing ", "dim") if status.is_pausing else Text("speaking", "green")
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
