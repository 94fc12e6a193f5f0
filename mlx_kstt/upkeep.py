"""When a decoder that runs for hours should start afresh.

In: what a lane remembers. Out: from which frame to hear again, and why. Knows nothing of arrays or events.

A refresh starts the decoder afresh in a pause when it has grown old: the 1B is known to fall silent at times, or to
stick to a misheard name. The fresh one hears the last word again, so that what belongs to it or comes late finds its
place. A rescue does the same when there has been sound for long and no text; it hears again what may have been missed,
also what was still in the delay. Where it finds nothing (music is no speech), the next one waits twice as long.
What cannot be kept cannot be heard again, however long it was.
"""

from __future__ import annotations

from typing import NamedTuple

from .config import FRAME_RATE, SttConfig, frames_in
from .lane import LaneState
from .options import KEPT, TAIL, StreamOptions
from .words import PADS_THAT_END_A_WORD

KEPT_FRAMES = frames_in(KEPT)
_MOST_RESCUES = 8
"""In succession: after that, the next one waits no longer."""
_LEAD = 6
"""Frames before what is to be heard again: where a word begins is quieter than its middle."""


class SecondLook(NamedTuple):
    """What is to be heard again."""

    first: int  # frame
    reason: str
    rescues: int = 0  # in succession, with this one


class Upkeep:
    """The rules."""

    def __init__(self, config: SttConfig, options: StreamOptions) -> None:
        self.keeps_codes = options.refresh is not None or options.rescue is not None
        self._refresh = None if options.refresh is None else frames_in(options.refresh)
        self._delay = frames_in(config.delay)
        self._words_are_out = self._delay + PADS_THAT_END_A_WORD
        self._rescue = None
        if options.rescue is not None:  # in the delay no text is no wonder
            self._rescue = frames_in(max(options.rescue, config.delay + TAIL))
        self._origin = options.start - config.prefix

    def due(self, state: LaneState, pause: int, frames: int, kept: int) -> SecondLook | None:
        """What is to be heard again now.

        Args:
            state: of the lane.
            pause: frames since its pause began; 0 where there is none.
            frames: that have passed.
            kept: how many of the last of them can be heard again.
        """
        is_pause = pause >= self._words_are_out and state.words.told and not state.is_blank
        if self._refresh is not None and state.age >= self._refresh and is_pause:
            first = max(self._last_word(state, frames, kept, frames - pause), frames - kept)
            return SecondLook(first, f"refreshed in a pause after {state.age / FRAME_RATE / 60:.1f} min", state.rescues)
        if self._rescue is not None and state.unheard >= self._rescue << state.rescues:
            first = max(state.unheard_from - self._delay - _LEAD, frames - kept)
            seconds = (frames - state.unheard_from) / FRAME_RATE
            return SecondLook(first, f"no word for {seconds:.1f} s of sound", min(state.rescues + 1, _MOST_RESCUES))
        return None

    def _last_word(self, state: LaneState, frames: int, kept: int, pause_from: int) -> int:
        """The frame from which the last word can be heard again, or from which there is a pause, if that is short."""
        quiet = max(pause_from, frames - self._words_are_out - _LEAD)
        if state.settled.last is None:
            return quiet
        begin = int((state.settled.last.start - self._origin) * FRAME_RATE) - _LEAD
        return min(begin, quiet) if begin >= frames - kept else quiet
