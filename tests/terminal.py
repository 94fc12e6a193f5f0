"""A small terminal: what a program that draws leaves on the screen.

In: what was written. Out: rows of text. Knows the control sequences that rich uses, and no others.
"""

from __future__ import annotations

import re

from rich.cells import cell_len

_TOKEN = re.compile(r"\x1b\[([?\d;]*)([A-Za-z])|([^\x1b])", re.DOTALL)


def rows_of(written: str, width: int) -> list[str]:
    """All rows, those that have scrolled away included; a line that is too long is wrapped.

    Raises:
        AssertionError: the cursor is moved above the first row, or a sequence is unknown.
    """
    rows, y, x = [""], 0, 0
    for code, kind, char in _TOKEN.findall(written):
        if char == "\r":
            x = 0
        elif char == "\n":
            y, x = y + 1, 0
        elif char:
            if x + cell_len(char) > width:
                y, x = y + 1, 0
            rows += [""] * (y + 1 - len(rows))
            assert cell_len(rows[y]) == x, "text is written over text"
            rows[y], x = rows[y] + char, x + cell_len(char)
        elif kind == "A":
            y -= int(code or 1)
            assert y >= 0, "the cursor is moved above the first row"
        elif kind == "K":
            rows[y:] = [""] if y + 1 >= len(rows) else ["", *rows[y + 1 :]]
        else:
            assert kind in "mhl", f"unknown sequence {kind}"
        rows += [""] * (y + 1 - len(rows))
    return [row.rstrip() for row in rows]


def text_of(written: str, width: int) -> list[str]:
    """The rows without empty ones at the end."""
    rows = rows_of(written, width)
    while rows and not rows[-1]:
        rows.pop()
    return rows
