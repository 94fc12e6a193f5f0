"""Tables on standard output: drawn on a terminal, plain and aligned elsewhere.

In: titles and cells. Out: text. Knows nothing of what the cells say.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from .delivery import send

_GAP = "  "


@dataclass(frozen=True, slots=True)
class Table:
    """A titled table, its rows of equal length.

    Attributes:
        title: stands above it.
        rows: cells.
        header: names of the columns; where there is one, all columns but the first hold numbers and are right-aligned.
    """

    title: str
    rows: Sequence[Sequence[str]]
    header: Sequence[str] = ()


def print_tables(tables: Iterable[Table]) -> None:
    """Print them one below the other.

    Raises:
        BrokenPipeError: whoever read standard output has gone.
        KsttError: standard output takes no more.
    """
    send("\n".join(map(_drawn if sys.stdout.isatty() else plain, tables)))


def plain(table: Table) -> str:
    """Lines without any drawing, the columns aligned with spaces."""
    rows = [table.header, *table.rows] if table.header else table.rows
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [_GAP.join(_aligned(row, widths, bool(table.header))).rstrip() for row in rows]
    return "\n".join([table.title, *(f"{_GAP}{line}" for line in lines), ""])


def _aligned(row: Sequence[str], widths: Sequence[int], numbers: bool) -> list[str]:
    first, *others = zip(row, widths, strict=True)
    return [first[0].ljust(first[1]), *(cell.rjust(width) if numbers else cell.ljust(width) for cell, width in others)]


def _drawn(table: Table) -> str:
    drawn = RichTable(box=SIMPLE_HEAD, show_edge=False, show_header=bool(table.header))
    for index, name in enumerate(table.header or table.rows[0]):
        drawn.add_column(name, justify="right" if table.header and index else "left", header_style="dim")
    for row in table.rows:
        drawn.add_row(*map(Text, row))
    console = Console()
    with console.capture() as capture:
        console.print(Text(table.title, "bold"))
        console.print(drawn)
    return capture.get()
