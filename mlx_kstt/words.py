"""Text ids to words with times.

In: one text id per frame with its log probability. Out: `Word` and `Partial` events. Knows nothing of models or sound.

The id at position s stands for audio time s / 12.5 - delay - prefix (facts sheet 5.7). A word begins at a piece that
starts with the word mark, and in time at the frame of its word-start id, or one frame before its first piece where it
has none. It ends where the next word starts, or one frame past its last piece, whichever is first.
"""

from __future__ import annotations

from math import exp
from typing import NamedTuple

from .config import FRAME_SAMPLES, PAD, SAMPLE_RATE, WORD_START
from .events import Partial, Word
from .tokenizer import WORD_MARK, Tokenizer

PADS_THAT_END_A_WORD = 3
"""Frames without text after which the open word is emitted."""
_MOST_PIECES = 100
"""Of a word: a model that has lost its way may write on without a space."""
_FRAME_MS = 1000 * FRAME_SAMPLES // SAMPLE_RATE
_REPLACEMENT, _BYTES = "\ufffd", 4  # of a character in UTF-8


class WordState(NamedTuple):
    """Where the text stands. The open word stays open until the next one begins: a late piece revises it."""

    position: int = 0  # of the next id
    marker: int | None = None  # position of the word-start id that no piece has followed yet
    pieces: tuple[int, ...] = ()  # of the open word
    log_probability: float = 0.0  # sum over those
    start: int = -_FRAME_MS  # milliseconds, of the open word
    last: int = 0  # position of its last piece
    pads: int = 0  # since then
    told: bool = True  # the open word has been emitted as it stands


class WordBuilder:
    """The rules, for one tokenizer and one delay.

    Args:
        tokenizer: of the checkpoint.
        delay: seconds by which the text runs behind the audio.
        prefix: seconds of silence before the audio.
        start: seconds that the clock shows when the audio begins.
    """

    def __init__(self, tokenizer: Tokenizer, delay: float, prefix: float, start: float = 0.0) -> None:
        self._tokenizer = tokenizer
        self._first = round(1000 * start)
        self._origin = round(1000 * (delay + prefix)) - self._first

    def step(self, id: int, log_probability: float, state: WordState) -> tuple[list[Word | Partial], WordState]:
        """The next text id."""
        events: list[Word | Partial] = []
        if id == WORD_START:
            events, state = self._tell(state, self._ms(state.position))
            state = state._replace(marker=state.position)
        elif id > PAD:
            events, state = self._piece(id, log_probability, state)
        else:
            state = state._replace(pads=state.pads + 1)
            if state.pads == PADS_THAT_END_A_WORD:
                events, state = self.flush(state)
        return events, state._replace(position=state.position + 1)

    def flush(self, state: WordState) -> tuple[list[Word | Partial], WordState]:
        """The open word, if it has not been emitted as it stands."""
        return self._tell(state, self._ms(state.last + 1))

    def _piece(self, id: int, log_probability: float, state: WordState) -> tuple[list[Word | Partial], WordState]:
        events: list[Word | Partial] = []
        is_new = not state.pieces or self._tokenizer.piece(id).startswith(WORD_MARK)
        if is_new or len(state.pieces) == _MOST_PIECES:
            begin = state.position - 1 if state.marker is None else state.marker
            events, state = self._tell(state, self._ms(begin))
            # At the very beginning several words can fall before time 0; a frame apart, they stay different words.
            start = max(self._ms(begin), state.start + _FRAME_MS)
            state = state._replace(pieces=(), log_probability=0.0, start=start)
        state = state._replace(
            pieces=(*state.pieces, id),
            log_probability=state.log_probability + log_probability,
            marker=None,
            last=state.position,
            pads=0,
            told=False,
        )
        text = self._finished_text(state)
        return [*events, *([Partial(text, state.start / 1000)] if text else [])], state

    def _tell(self, state: WordState, limit: int) -> tuple[list[Word | Partial], WordState]:
        """The open word, which ends at `limit` (milliseconds) at the latest."""
        text = self._text(state)
        if state.told or not text:
            return [], state._replace(told=True)
        end = max(state.start, min(limit, self._ms(state.last + 1)))
        confidence = exp(state.log_probability / len(state.pieces))
        return [Word(text, state.start / 1000, end / 1000, confidence)], state._replace(told=True)

    def _text(self, state: WordState) -> str:
        return self._tokenizer.decode(state.pieces) if state.pieces else ""

    def _finished_text(self, state: WordState) -> str:
        """The open word without the bytes of an unfinished character, so that it only grows."""
        texts = (self._tokenizer.decode(state.pieces[: len(state.pieces) - held]) for held in range(_BYTES))
        return next((text for text in texts if not text.endswith(_REPLACEMENT)), "")

    def _ms(self, position: int) -> int:
        """Audio time of a position in milliseconds, not before the audio begins."""
        return max(self._first, position * _FRAME_MS - self._origin)
