"""Several lines side by side: blocks with a column for each lane, all at the same time.

In: each line's sound at 24 kHz and what is missing in it. Out: blocks (samples,) or (samples, lanes), and `Lost`. Knows
nothing of devices and clocks.

A lane whose sound is missing or late is filled with silence while the others go on; what comes too late is left out.
Only what is missing in all of them at once is jumped over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ..audio.lost import Lost
from ..config import SAMPLE_RATE

LATE = "its sound came too late"
_LAG = SAMPLE_RATE // 2
"""Samples by which a lane may be behind."""
_BEHIND = SAMPLE_RATE // 4
"""Samples that a filled lane stays behind the others, so that it can join them when its sound comes."""
_PATIENCE = 0.5
"""Seconds after which a lane that is behind is filled."""


@dataclass(frozen=True, slots=True)
class Missing:
    """Samples at 24 kHz that a line does not have; `as_silence`: they must come out as silence, also if it is alone."""

    samples: int
    reason: str
    as_silence: bool = False

    def __len__(self) -> int:
        return self.samples


Item = np.ndarray | Missing
"""Sound (samples, lanes of the line), or none."""


class _Row:
    """One line's items that have not come out yet."""

    def __init__(self, width: int) -> None:
        self.width = width
        self.items: deque[Item] = deque()
        self.samples = 0
        self.debt = 0  # samples of silence that went in place of sound that may still come
        self.filled = 0  # samples of silence that have come out in place of sound, and were not told
        self.reason = LATE
        self.behind_since: float | None = None

    def add(self, item: Item) -> None:
        """Take the item, less what silence has taken the place of."""
        if isinstance(item, Missing) and self.debt:
            self.reason = item.reason
        late = min(self.debt, len(item))
        self.debt -= late
        if late < len(item):
            self._append(_after(item, late))

    def fill(self, samples: int) -> None:
        """Go on without the sound."""
        self.debt += samples
        self._append(Missing(samples, self.reason))

    def add_silence(self, samples: int) -> None:
        """Round the end off."""
        if samples:
            self._append(np.zeros((samples, self.width), np.float32))

    def pop(self, samples: int) -> Item:
        """The next so many samples; they must be of one item."""
        item = self.items.popleft()
        if samples < len(item):
            self.items.appendleft(_after(item, samples))
            item = replace(item, samples=samples) if isinstance(item, Missing) else item[:samples]
        self.samples -= samples
        return item

    def _append(self, item: Item) -> None:
        self.items.append(item)
        self.samples += len(item)


class Mixer:
    """Joins the rows.

    Attributes:
        waiting: samples of blocks that can be taken.
        lanes: columns of the blocks.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        """One row for each line, with its number of lanes."""
        self._rows = [_Row(width) for width in widths]
        self._ready: deque[np.ndarray | Lost] = deque()
        self._losses = 0  # among them
        self.lanes = sum(widths)
        self.waiting = 0

    def add(self, line: int, item: Item) -> None:
        """The next item of a line."""
        self._rows[line].add(item)

    def shift(self, line: int, samples: int) -> None:
        """A line begins so much later than the session; earlier, if negative: then its first samples are left out."""
        row = self._rows[line]
        if samples >= 0:
            row.add(np.zeros((samples, row.width), np.float32))
        else:
            row.debt -= samples

    def advance(self, now: float) -> None:
        """Join what there is; lanes that have been behind for long, by this clock, are filled."""
        self._fill_laggards(now)
        self._join()

    def finish(self) -> None:
        """The end: the rest of the longest line, and what was not told."""
        longest = max(row.samples for row in self._rows)
        for row in self._rows:
            if longest - row.samples > _LAG:
                row.fill(longest - row.samples)
            else:  # its last block was still being recorded
                row.add_silence(longest - row.samples)
        self._join()
        for i in range(len(self._rows)):
            self._tell(i)

    def take(self, least: int, most: int) -> np.ndarray | Lost | None:
        """The next block of at most so many samples, or what was lost; None where there are too few as yet."""
        if self._ready and isinstance(lost := self._ready[0], Lost):
            self._ready.popleft()
            self._losses -= 1
            return lost
        if not self._ready or (self.waiting < least and not self._losses):
            return None
        block = self._joined(most)
        self.waiting -= len(block)
        return block[:, 0] if self.lanes == 1 else block

    def _join(self) -> None:
        while all(row.samples for row in self._rows):
            self._step(min(len(row.items[0]) for row in self._rows))

    def _joined(self, most: int) -> np.ndarray:
        parts: list[np.ndarray] = []
        while most and self._ready and not isinstance(part := self._ready[0], Lost):
            self._ready.popleft()
            if len(part) > most:
                self._ready.appendleft(part[most:])
            parts.append(part[:most])
            most -= len(parts[-1])
        return np.concatenate(parts)

    def _fill_laggards(self, now: float) -> None:
        most = max(row.samples for row in self._rows)
        for row in self._rows:
            behind = most - row.samples
            if behind <= _BEHIND:
                row.behind_since = None
                continue
            row.behind_since = now if row.behind_since is None else row.behind_since
            if row.debt or (behind > _LAG and now - row.behind_since >= _PATIENCE):
                row.fill(behind - _BEHIND)

    def _step(self, samples: int) -> None:
        """So many samples of all rows, each out of one item."""
        for i, row in enumerate(self._rows):
            if isinstance(row.items[0], np.ndarray):
                self._tell(i)
        items = [row.pop(samples) for row in self._rows]
        if all(isinstance(item, Missing) and not item.as_silence for item in items):
            self._jump(samples, next(item.reason for item in items if isinstance(item, Missing)))
            return
        columns = []
        for row, item in zip(self._rows, items, strict=True):
            if isinstance(item, Missing):
                row.filled += samples
                row.reason = item.reason
                item = np.zeros((samples, row.width), np.float32)
            columns.append(item)
        self._ready.append(columns[0] if len(columns) == 1 else np.concatenate(columns, axis=1))
        self.waiting += samples

    def _jump(self, samples: int, reason: str) -> None:
        """Nobody has sound here."""
        if len(self._rows) > 1:
            for i in range(len(self._rows)):
                self._tell(i)
        filled = sum(row.filled for row in self._rows)
        self._lose(Lost((filled + samples) / SAMPLE_RATE, reason, filled / SAMPLE_RATE))
        self._rows[0].filled = 0

    def _tell(self, i: int) -> None:
        """Say what silence a lane has had in place of sound."""
        row = self._rows[i]
        if row.filled:
            seconds, lane = row.filled / SAMPLE_RATE, None if len(self._rows) == 1 else i
            self._lose(Lost(seconds, row.reason, seconds, lane))
        row.filled, row.reason = 0, LATE

    def _lose(self, lost: Lost) -> None:
        self._ready.append(lost)
        self._losses += 1


def _after(item: Item, samples: int) -> Item:
    """The item without its first samples."""
    return replace(item, samples=len(item) - samples) if isinstance(item, Missing) else item[samples:]
