"""Pauses and ends of turns.

In: frame after frame, whether the speaker pauses, whether sound stands out, and whether there was text. Out: what has
just begun or ended. Knows nothing of models, words or times.

Whether the speaker pauses is said by a pause head of the model, or, where it has none, by the sound: nothing has stood
out for a while. The turn ends when the pause has lasted for the hold, so that the short silences of dictated digits do
not end it. A turn needs speech: the heads also report the silence before anybody has spoken.
"""

from __future__ import annotations

from typing import NamedTuple

from .config import frames_in

HOLD = 0.32
"""Seconds for which a pause must last to end the turn, where nobody says otherwise."""
_QUIET = frames_in(0.8)  # frames in which nothing stands out: a pause, where no pause head knows better
_SPEECH = 3  # frames that stand out: more than a click


class TurnState(NamedTuple):
    """Where the conversation stands."""

    pausing: int = 0  # frames since the pause began
    quiet: int = 0  # frames since sound stood out
    loud: int = 0  # frames that stood out in this turn
    text: bool = False  # there was text in this turn
    told: bool = False  # the pause has been told
    over: bool = False  # the turn has ended in this pause


class TurnDetector:
    """The rules.

    Args:
        head: index of the pause head that decides; None listens to the sound.
        threshold: probability above which the speaker counts as pausing.
        hold: seconds for which a pause must last to end the turn.
    """

    def __init__(self, head: int | None, threshold: float, hold: float) -> None:
        self._head = head
        self._threshold = threshold
        self._hold = max(1, frames_in(hold))

    def step(self, pauses: tuple[float, ...], loud: bool, text: bool, state: TurnState) -> TurnState:
        """The next frame."""
        quiet = 0 if loud else state.quiet + 1
        is_pausing = quiet >= _QUIET if self._head is None else pauses[self._head] > self._threshold
        return TurnState(
            state.pausing + 1 if is_pausing else 0,
            quiet,
            state.loud + loud,
            state.text or text,
            is_pausing and state.told,
            is_pausing and state.over,
        )

    def begins_pause(self, state: TurnState) -> bool:
        """Whether a pause is to be told now."""
        return bool(state.pausing) and not state.told and state.text

    def ends_turn(self, state: TurnState) -> bool:
        """Whether the pause is long enough, and something may have been said."""
        return state.pausing >= self._hold and not state.over and (state.text or state.loud >= _SPEECH)

    def began(self, state: TurnState) -> int:
        """Frames since the pause began: in the sound it is there before it can be told from a short silence."""
        return state.quiet if self._head is None else state.pausing
