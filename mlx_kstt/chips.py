"""Apple's chips by name, and how fast their memory is.

In: a name such as "M4 Pro". Out: a `Chip`. Knows nothing of models.

Bandwidths are the peak values of Apple's technical specifications (support.apple.com, of the Macs with these chips) and
announcements: M5 in October 2025, M5 Pro and M5 Max in March 2026. That of the A18 Pro is Apple's too, from the MacBook
Neo of March 2026. What Apple has not published is not here. Where one name is sold with slower memory as well, that
variant has its own entry, named after its GPU cores.
"""

from __future__ import annotations

from dataclasses import dataclass
from difflib import get_close_matches

from .errors import OptionError


@dataclass(frozen=True, slots=True)
class Chip:
    """A chip with the bandwidth of its memory in GB/s (1e9 bytes per second)."""

    name: str
    bandwidth: float


CHIPS = (
    Chip("M1", 68),
    Chip("M1 Pro", 200),
    Chip("M1 Max", 400),
    Chip("M1 Ultra", 800),
    Chip("M2", 100),
    Chip("M2 Pro", 200),
    Chip("M2 Max", 400),
    Chip("M2 Ultra", 800),
    Chip("M3", 100),
    Chip("M3 Pro", 150),
    Chip("M3 Max 30-core", 300),
    Chip("M3 Max", 400),
    Chip("M3 Ultra", 819),
    Chip("M4", 120),
    Chip("M4 Pro", 273),
    Chip("M4 Max 32-core", 410),
    Chip("M4 Max", 546),
    Chip("M5", 153),
    Chip("M5 Pro", 307),
    Chip("M5 Max 32-core", 460),
    Chip("M5 Max", 614),
    Chip("A18 Pro", 60),
    Chip("iPhone 16 Pro", 60),
)
_CLOSE = 5


def find_chip(name: str) -> Chip:
    """The chip of this name; letter case, hyphens and a leading "Apple" do not count.

    Raises:
        OptionError: there is none; the message lists those with a name like it.
    """
    chips = {_key(chip.name): chip for chip in CHIPS}
    key = _key(name)
    if key in chips:
        return chips[key]
    close = [chips[other].name for other in get_close_matches(key, chips, n=_CLOSE, cutoff=0.5)]
    raise OptionError(f"{name!r} is no chip whose bandwidth is known; {_similar(close)}, or give the bandwidth in GB/s")


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("-", " ").split()).removeprefix("apple ")


def _similar(names: list[str]) -> str:
    return f"similar ones are {', '.join(names)}" if names else f"known are {', '.join(chip.name for chip in CHIPS)}"
