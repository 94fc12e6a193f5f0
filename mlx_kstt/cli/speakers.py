"""Who speaks on which channel: `left=Ann,right=Bob`.

In: what the user wrote. Out: channels and names. Knows nothing of devices and files.
"""

from __future__ import annotations

import argparse

Speakers = tuple[tuple[int | None, str], ...]
"""Channel (None where none was given) and name."""

_SIDES = {"left": 0, "right": 1}


def speakers(text: str) -> Speakers:
    """A speaker for each channel, or, without channels, for each device."""
    found = tuple(map(_speaker, text.split(",")))
    channels, names = zip(*found, strict=True)
    if (None in channels) and set(channels) != {None}:
        raise argparse.ArgumentTypeError(f"{text}: name a channel for each speaker, or for none")
    given = [at for at in channels if at is not None]
    if len(set(names)) < len(names) or len(set(given)) < len(given):
        raise argparse.ArgumentTypeError(f"{text}: two speakers share a name or a channel")
    return found


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
