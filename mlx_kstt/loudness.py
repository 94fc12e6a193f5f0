"""How loud sound is, and whether it stands out from its background.

In: frames of sound, one after the other. Out: levels, and loud or not. Knows nothing of models, words or devices.

The background is followed: it falls quickly to what is quieter and rises slowly to what stays, so that steady noise
becomes background while speech, which dips between its syllables, does not.
"""

from __future__ import annotations

from math import log10
from typing import NamedTuple

import numpy as np

from .config import FRAME_RATE

SILENCE = -120.0
"""dBFS that stand for no sound at all."""
_QUIETEST, _LOUDEST = -70.0, -35.0  # dBFS that a background can have
_MARGIN = 10.0  # decibels by which sound stands out
_FALL = 0.5  # of the distance, per frame
_RISE = 1.0 / FRAME_RATE  # decibels per frame: 1 per second


class Background(NamedTuple):
    """What is always there."""

    level: float = -55.0  # dBFS


def level_of(sound: np.ndarray) -> float:
    """Root mean square of the sound (samples,) in decibels below full scale, SILENCE at the least."""
    power = float(np.dot(sound, sound)) / len(sound) if len(sound) else 0.0
    return max(SILENCE, 10 * log10(power)) if power > 0 else SILENCE


def stands_out(level: float, background: Background) -> tuple[bool, Background]:
    """Whether a frame of this level stands out, and the background with it."""
    quiet = min(max(level, _QUIETEST), _LOUDEST)
    distance = quiet - background.level
    step = _FALL * distance if distance < 0 else min(distance, _RISE)
    return level > background.level + _MARGIN, Background(background.level + step)
