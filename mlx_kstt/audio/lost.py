"""Sound that never came, as an item among blocks of sound.

In: nothing. Out: a frozen value. Knows nothing of devices and of the model.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Lost:
    """Time in which sound was lost: the clock goes on, and the listener is told.

    Attributes:
        seconds: how long in all.
        reason: why, in a few words.
        filled: how many of these seconds went before this item, as silence in the blocks.
        lane: index of the only column that it concerns; None where all are lost.
    """

    seconds: float
    reason: str
    filled: float = 0.0
    lane: int | None = None
