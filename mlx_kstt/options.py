"""How a stream decides: its options, checked.

In: what the caller asks for. Out: a frozen value. Knows nothing of sound and text.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf

from .config import SttConfig
from .errors import OptionError
from .turns import HOLD

TAIL = 1.0
"""Seconds of silence after the delayed text, as the reference appends them (facts sheet 5.5)."""
KEPT = 60.0
"""Seconds of codes that are kept for a refresh or a rescue."""
_MOST_TEMPERATURE = 100.0
"""Already noise."""
_LONGEST_HOLD = 10.0
_MOST_LANES = 32


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream decides; see `Transcriber.open`.

    Raises:
        OptionError: a value is out of range.
    """

    temperature: float = 0.0
    seed: int = 0
    pause_head: int | None = None
    pause_threshold: float | None = None
    turn_hold: float = HOLD
    refresh: float | None = None
    rescue: float | None = None
    start: float = 0.0
    lanes: tuple[str, ...] = ()
    ahead: bool = True
    """Tell the last words of a turn at once, out of a fork; else they come when the model tells them."""

    def __post_init__(self) -> None:
        """Refuse what no checkpoint allows."""
        if not 0 <= self.temperature <= _MOST_TEMPERATURE:
            raise OptionError(
                f"temperature is {self.temperature}; it must be 0 (the likeliest text) or up to {_MOST_TEMPERATURE:g}"
            )
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed is {self.seed}; it must be between 0 and {2**64 - 1}")
        if self.pause_threshold is not None and not 0 < self.pause_threshold < 1:
            raise OptionError(f"pause_threshold is {self.pause_threshold}; it must be between 0 and 1")
        _check_seconds("turn_hold", self.turn_hold, 0, _LONGEST_HOLD)
        _check_seconds("refresh", self.refresh, 1, inf)
        _check_seconds("rescue", self.rescue, 1, KEPT / 2)
        _check_seconds("start", self.start, 0, inf)
        if len(self.lanes) > _MOST_LANES or len(set(self.lanes)) < len(self.lanes):
            raise OptionError(f"lanes are {list(self.lanes)}; they must be up to {_MOST_LANES} different names")


def pause_head_of(config: SttConfig, options: StreamOptions) -> int | None:
    """The pause head that decides; None where the checkpoint has none.

    Raises:
        OptionError: an option asks for a pause head that the checkpoint does not have.
    """
    heads = config.decoder.pause_heads
    if not heads:
        if options.pause_head is not None or options.pause_threshold is not None:
            raise OptionError("this checkpoint has no pause heads: leave pause_head and pause_threshold out")
        return None
    head = config.pause_head if options.pause_head is None else options.pause_head
    if not 0 <= head < heads:
        raise OptionError(f"pause_head is {head}; this checkpoint has heads 0 to {heads - 1}")
    return head


def _check_seconds(name: str, value: float | None, least: float, most: float) -> None:
    if (value is not None and not least <= value <= most) or value == inf:
        limits = f"at least {least:g}" if most == inf else f"between {least:g} and {most:g}"
        raise OptionError(f"{name} is {value}; it must be {limits} seconds")
