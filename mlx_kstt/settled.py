"""Words that were told ahead of the text: none is told twice, and none is lost.

In: `Word` and `Partial` events as the text makes them, and words that were told ahead (out of a fork, or before the
decoder was started afresh). Out: those events that are new. Knows nothing of models or sound.

A word of the text that begins by `until` answers to a word that was told ahead: to the next one with its text, else to
the next one that begins within two frames of it. It is dropped; only the last one told may be revised, for there the
fork did not hear what followed. A fresh decoder, which may begin within a word, can only add to it ("under" to
"understand"). A word that answers to none is new, unless a later one has been told.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from .config import FRAME_RATE
from .events import Partial, Word

_NEAR = 2.5 / FRAME_RATE
_RECENT = 16
"""Words that are remembered: more than a fresh decoder hears again before it has something new to say."""


class Settled(NamedTuple):
    """What has been told."""

    ahead: tuple[Word, ...] = ()  # that the text has not come to yet
    until: float = -1.0  # seconds: where the sound ended that they were heard in
    recent: tuple[Word, ...] = ()  # the last that were told
    answered: tuple[float, Word] | None = None  # start in the text, and as told, of the word that is answered now
    is_fresh: bool = False  # `ahead` was told before the decoder started afresh

    @property
    def last(self) -> Word | None:
        """The last word told."""
        return self.recent[-1] if self.recent else None


def settle(words: tuple[Word, ...], until: float, state: Settled) -> Settled:
    """The state after words were told ahead, out of sound that ended at `until`."""
    ahead = state.ahead
    for word in words:
        ahead = replace_revised(ahead, word)
        state = _told(word, state)
    return state._replace(ahead=ahead, until=max(until, state.until))


def resettle(state: Settled) -> Settled:
    """The state for a decoder that starts afresh: all that has been told may come again."""
    until = -1.0 if state.last is None else state.last.start + _NEAR
    return Settled(state.recent, until, state.recent, is_fresh=True)


def admit(event: Word | Partial, state: Settled) -> tuple[Word | Partial | None, Settled]:
    """The event if it is new, else None."""
    if isinstance(event, Partial):
        return (None if event.start <= state.until else event), state
    if event.start > state.until:
        state = state._replace(ahead=(), is_fresh=False)
    told = _answer(event, state)
    if told is not None:
        return _compare(event, told, state)
    if state.last is not None and event.start <= state.last.start:
        is_revision = event.start == state.last.start and event != state.last
        return (event, _told(event, state)) if is_revision else (None, state)
    return event, _told(event, state)


def _told(word: Word, state: Settled) -> Settled:
    return state._replace(recent=replace_revised(state.recent, word)[-_RECENT:])


def _answer(word: Word, state: Settled) -> Word | None:
    """The word told ahead that this one repeats."""
    if state.answered is not None and state.answered[0] == word.start:
        return state.answered[1]
    same = (told for told in state.ahead if told.text == word.text)
    near = (told for told in state.ahead if abs(told.start - word.start) < _NEAR)
    return next(same, None) or next(near, None)


def _compare(word: Word, told: Word, state: Settled) -> tuple[Word | None, Settled]:
    if told in state.ahead:
        state = state._replace(ahead=state.ahead[state.ahead.index(told) + 1 :])
    state = state._replace(answered=(word.start, told))
    adds = word.text.startswith(told.text)
    if told != state.last or word.text == told.text or (state.is_fresh and not adds):
        return None, state
    revised = replace(word, start=told.start, end=max(word.end, told.start))
    return revised, _told(revised, state)._replace(answered=(word.start, revised))


def replace_revised(words: tuple[Word, ...], word: Word) -> tuple[Word, ...]:
    """The words with one more, or with the last one revised where it has the same start."""
    return (*words[:-1], word) if words and words[-1].start == word.start else (*words, word)
