"""Pause probabilities to pauses and ends of turns.

In: the pause probabilities of each frame, and the events that the frame's text id made. Out: `Pause` and `EndOfTurn`
events. Knows nothing of models.

A pause begins when the chosen head's probability rises above the threshold. The turn ends when it has stayed there
until the last words are out (the delay of the text, and the PADs that end a word): a hesitation is shorter than that.
A word that is revised after its turn has ended changes nothing. Without a word since the last turn there is neither
pause nor end: the heads also report the silence before anybody has spoken.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from typing import NamedTuple

from .config import FRAME_RATE
from .events import EndOfTurn, Event, Pause, Word
from .words import PADS_THAT_END_A_WORD


class TurnState(NamedTuple):
    """Where the conversation stands."""

    frame: int = 0  # of the next probabilities
    quiet: int = 0  # frames since the pause began
    told: bool = False  # the pause has been reported
    words: tuple[Word, ...] = ()  # of this turn
    last: float = -1.0  # start of the last word of the turn before


class TurnDetector:
    """The rules, for one head and one threshold.

    Args:
        head: index of the pause head that decides.
        threshold: probability above which the speaker counts as pausing.
        delay: seconds by which the text runs behind the audio.
        prefix: seconds of silence before the audio.
    """

    def __init__(self, head: int, threshold: float, delay: float, prefix: float) -> None:
        self._head = head
        self._threshold = threshold
        self._hold = ceil(delay * FRAME_RATE) + PADS_THAT_END_A_WORD
        self._prefix = prefix

    def step(
        self, probabilities: Sequence[float], events: Sequence[Event], state: TurnState
    ) -> tuple[list[Event], TurnState]:
        """The probabilities after hearing as many frames as steps came before, and the events of the same position."""
        words = state.words
        for event in events:
            if isinstance(event, Word) and event.start > state.last:
                words = replace_revised(words, event)
        frame, pausing = state.frame, probabilities[self._head] > self._threshold
        quiet = state.quiet + 1 if pausing else 0
        began = max(0.0, round((frame - quiet + 1) / FRAME_RATE - self._prefix, 3))
        told, told_now = pausing and state.told, pausing and not state.told and bool(words)
        new: list[Event] = [Pause(began, tuple(probabilities))] if told_now else []
        if words and quiet > self._hold:
            new.append(EndOfTurn(began, " ".join(word.text for word in words)))
            return new, TurnState(frame + 1, quiet, True, (), words[-1].start)
        return new, TurnState(frame + 1, quiet, told or told_now, words, state.last)


def replace_revised(words: tuple[Word, ...], word: Word) -> tuple[Word, ...]:
    """The words with one more, or with the last one revised where it has the same start."""
    return (*words[:-1], word) if words and words[-1].start == word.start else (*words, word)
