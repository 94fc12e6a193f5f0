"""What has been pushed and not yet been heard: sound, and time that was lost.

In: blocks and `Lost` items. Out: whole frames in their order. A value; knows nothing of models.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from .audio.lost import Lost
from .config import FRAME_SAMPLES, SAMPLE_RATE


class Jump(NamedTuple):
    """Frames that pass unheard."""

    frames: int


Item = np.ndarray | Lost | Jump


class Incoming(NamedTuple):
    """Sound to be heard next, and what comes after it."""

    sound: np.ndarray  # (samples, lanes) float32
    later: tuple[Item, ...] = ()

    @property
    def is_heard(self) -> bool:
        """Whether nothing is left but part of a frame."""
        return not self.later and len(self.sound) < FRAME_SAMPLES

    @property
    def samples(self) -> int:
        """How much time there is."""
        return len(self.sound) + sum(map(_samples, self.later))

    def then(self, items: Iterable[Item]) -> Incoming:
        """The same with more behind."""
        return self._replace(later=(*self.later, *items))

    def first(self, items: Iterable[Item]) -> Incoming:
        """The same with something before what comes later."""
        return self._replace(later=(*items, *self.later))

    def popped(self) -> tuple[Item, Incoming]:
        """What comes next after the sound, and the rest."""
        return self.later[0], self._replace(later=self.later[1:])

    def joined(self) -> Incoming:
        """The same with as much sound as there is before something that is not sound."""
        end = next((i for i, item in enumerate(self.later) if not isinstance(item, np.ndarray)), len(self.later))
        blocks = [item for item in self.later[:end] if isinstance(item, np.ndarray)]
        return Incoming(np.concatenate([self.sound, *blocks]), self.later[end:]) if blocks else self

    def split(self, most: int) -> tuple[np.ndarray, Incoming]:
        """At most so many whole frames (samples, lanes), and the rest."""
        samples = min(most, len(self.sound) // FRAME_SAMPLES) * FRAME_SAMPLES
        return self.sound[:samples], self._replace(sound=self.sound[samples:])

    def copied(self) -> Incoming:
        """The same, without holding on to all that was pushed."""
        return self if self.sound.base is None else self._replace(sound=self.sound.copy())


def in_place_of(lost: Lost, lanes: int, held_back: float) -> tuple[Item, ...]:
    """What stands in for lost time: silence, and a jump over what would be more silence than is needed.

    Args:
        lost: what was lost.
        lanes: columns of the sound.
        held_back: seconds of silence after which the model has told everything.
    """
    samples, enough = _samples(lost), round(held_back * SAMPLE_RATE)
    frames, rest = divmod(max(0, samples - enough), FRAME_SAMPLES)
    if not frames:
        return (np.zeros((samples, lanes), np.float32),)
    return np.zeros((enough + rest, lanes), np.float32), Jump(frames)


def _samples(item: Item) -> int:
    if isinstance(item, Lost):
        return max(0, round((item.seconds - item.filled) * SAMPLE_RATE))
    return item.frames * FRAME_SAMPLES if isinstance(item, Jump) else len(item)
