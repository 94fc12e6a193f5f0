"""Who speaks on which channel: `left=Ann,right=Bob`.

In: what the user wrote. Out: channels and names. Knows nothing of devices and files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TypeVar

Speakers = tuple[tuple[int | None, str], ...]
"""Channel (None where none was given) and name."""

_T = TypeVar("_T")
_SIDES = {"left": 0, "right": 1}


def speakers(text: str) -> Speakers:
    """A speaker for each channel, or, without channels, for each device."""
    found = tuple(map(_speaker, text.split(",")))
    channels, names = zip(*found, strict=True)
    if (None in channels) and set(channels) != {None}:
        raise argparse.ArgumentTypeError(f"{text}: name a channel for each speaker, or for none")
    if shared := _repeated(names):
        raise argparse.ArgumentTypeError(f"{text}: two speakers share the name {shared[0]}")
    if shared := _repeated([at for at in channels if at is not None]):
        raise argparse.ArgumentTypeError(f"{text}: two speakers share the channel {shared[0]}")
    return found


def _repeated(values: Sequence[_T]) -> list[_T]:
    return [value for value in values if values.count(value) > 1]


def _speaker(text: str) -> tuple[int | None, str]:
    place, mark, name = text.rpartition("=")
    place, name = place.strip(), name.strip()
    if not name:
        raise argparse.ArgumentTypeError(f"{text!r} names no speaker: left=Ann,right=Bob")
    if not mark:
        return None, name
    if place not in _SIDES and not place.isdecimal():
        raise argparse.ArgumentTypeError(f"{place!r} is no channel: left, right, or a number from 0")
    return _SIDES[place] if place in _SIDES else int(place), name
