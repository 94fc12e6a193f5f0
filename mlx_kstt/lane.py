"""One speaker: what a row of the model says, as words, pauses and turns with times.

In: for each frame what the model said and how loud the sound was. Out: events, and what the stream should do next.
Knows nothing of arrays, codecs or devices.

Times are seconds of the session: frame n of it begins at start + n / 12.5 - prefix.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from math import inf
from typing import NamedTuple

from .config import FRAME_RATE, PAD, SttConfig, frames_in
from .engine import Said
from .events import EndOfTurn, Event, Partial, Pause, Word
from .loudness import Background, stands_out
from .options import StreamOptions, pause_head_of
from .settled import Settled, admit, replace_revised, resettle, settle
from .tokenizer import Tokenizer
from .turns import TurnDetector, TurnState
from .words import PADS_THAT_END_A_WORD, WordBuilder, WordState

_NEAR = 2 / FRAME_RATE
_MOST_WORDS = 1000  # of a turn: it ends there even if nobody pauses


class Ending(NamedTuple):
    """A turn that has ended, while its last words are still in the model's delay."""

    time: float  # when its pause began
    until: float  # words that start later belong to the next turn
    told_at: int  # position at which its words are out


class LaneState(NamedTuple):
    """What is remembered of a speaker."""

    words: WordState = WordState()
    settled: Settled = Settled()
    turn: TurnState = TurnState()
    background: Background = Background()
    spoken: tuple[Word, ...] = ()  # words of this turn
    before: float = -1.0  # start of the last word of the turn before
    endings: tuple[Ending, ...] = ()
    age: int = 0  # frames since the decoder was started
    is_blank: bool = False  # nothing has been written since then
    unheard: float = 0.0  # frames that stood out since the last text; those that do not take a quarter away
    unheard_from: int = 0  # the first of them
    rescues: int = 0  # since the last text


class Lane:
    """The rules.

    Args:
        config, tokenizer: of the model.
        options: of the stream.
        name: label of the events; None where there is one speaker.
    """

    def __init__(self, config: SttConfig, tokenizer: Tokenizer, options: StreamOptions, name: str | None) -> None:
        self._builder = WordBuilder(tokenizer, config.delay, config.prefix, options.start)
        threshold = config.pause_threshold if options.pause_threshold is None else options.pause_threshold
        self._turns = TurnDetector(pause_head_of(config, options), threshold, options.turn_hold)
        self._options = options
        self.name = name
        self._origin = options.start - config.prefix
        self._held_back = frames_in(config.delay) + PADS_THAT_END_A_WORD

    def seconds(self, frames: float) -> float:
        """Session time of a frame's beginning, not before the session's."""
        return max(self._options.start, round(frames / FRAME_RATE + self._origin, 3))

    def hear(self, said: Said, level: float, state: LaneState) -> tuple[list[Event], LaneState]:
        """The next frame."""
        loud, background = stands_out(level, state.background)
        made, state = self.read(said, state)
        over = state.endings[-1].until if state.endings else state.before
        turn = self._turns.step(said.pauses, loud, any(event.start > over for event in made), state.turn)
        state = self._count(loud, said.id != PAD, state)._replace(turn=turn, background=background)
        events: list[Event] = [*made]
        if self._turns.begins_pause(turn):
            events.append(Pause(self._began(state), said.pauses))
            state = state._replace(turn=turn._replace(told=True))
        ended, state = self._end_when_out(state)
        if len(state.spoken) >= _MOST_WORDS:
            ended, state = self._end(self.seconds(state.words.position - 1), inf, state._replace(endings=()))
        return self.labelled(events + ended), state

    def read(self, said: Said, state: LaneState) -> tuple[list[Word | Partial], LaneState]:
        """The words of the next position alone, without a label."""
        made, words = self._builder.step(said.id, said.log_probability, state.words)
        return self._admit(made, state._replace(words=words))

    def close_word(self, state: LaneState) -> tuple[list[Word | Partial], LaneState]:
        """The open word as it stands, without a label."""
        made, words = self._builder.flush(state.words)
        return self._admit(made, state._replace(words=words))

    def finish(self, end: float, state: LaneState) -> tuple[list[Event], LaneState]:
        """The last word and turn of sound that ended at `end` (seconds)."""
        made, state = self.close_word(state)
        events: list[Event] = [*made]
        for ending in state.endings:
            ended, state = self._end(ending.time, ending.until, state)
            events += ended
        began = self._began(state) if state.turn.pausing else end
        last, state = self._end(min(began, end), inf, state._replace(endings=()))
        return self.labelled(events + last), state

    def ends_turn(self, state: LaneState) -> bool:
        """Whether the turn ends here."""
        return self._turns.ends_turn(state.turn)

    def pause(self, state: LaneState) -> int:
        """Frames since the pause began; 0 where there is none."""
        return self._turns.began(state.turn) if state.turn.pausing else 0

    def has_told_its_word(self, state: LaneState) -> bool:
        """Whether the last word is out, and does not seem to go on."""
        return state.words.told and state.words.pads >= PADS_THAT_END_A_WORD and state.words.marker is None

    def wait_for_end(self, state: LaneState) -> LaneState:
        """End the turn as soon as the model has told its words."""
        heard = state.words.position - 1
        ending = Ending(self._began(state), self.seconds(heard), heard + self._held_back)
        return self._over(state._replace(endings=(*state.endings, ending)))

    def end_with(
        self, ahead: tuple[Word, ...], pauses: tuple[float, ...], state: LaneState
    ) -> tuple[list[Event], LaneState]:
        """End the turn with the words of a fork; a last one that is still being spoken is left to the stream.

        Args:
            ahead: the words that the fork told when it had heard silence from here on.
            pauses: of the last frame.
        """
        until, began = self.seconds(state.words.position - 1), self._began(state)
        ahead = tuple(word for word in ahead if word.start <= until)  # later ones were heard in the fork's own silence
        if not state.turn.quiet and ahead and ahead[-1].start > began - _NEAR:
            until, ahead = ahead[-1].start - _NEAR, ahead[:-1]
        state = state._replace(settled=settle(ahead, until, state.settled))
        for word in ahead:
            state = self._spoke(word, state)
        events: list[Event] = [*ahead]
        if state.spoken and not state.turn.told:
            events.append(Pause(began, pauses))
        ended, state = self._end(began, until, state)
        return self.labelled(events + ended), self._over(state)

    def moved(self, frames: int, state: LaneState) -> LaneState:
        """The state after so many frames that nobody heard."""
        words = state.words._replace(position=state.words.position + frames)
        endings = tuple(ending._replace(told_at=ending.told_at + frames) for ending in state.endings)
        return state._replace(words=words, endings=endings, unheard=0.0)

    def restarted(self, position: int, rescues: int, state: LaneState) -> LaneState:
        """The state for a decoder that starts afresh at a position: words up to the last one told stay as they are."""
        fresh = state._replace(words=WordState(position=position), settled=resettle(state.settled))
        return fresh._replace(age=0, is_blank=True, unheard=0.0, rescues=rescues)

    def labelled(self, events: Sequence[Event]) -> list[Event]:
        """The events with this lane's label."""
        return [*events] if self.name is None else [replace(event, lane=self.name) for event in events]

    def _count(self, loud: bool, text: bool, state: LaneState) -> LaneState:
        if text:
            return state._replace(age=state.age + 1, is_blank=False, unheard=0.0, rescues=0)
        first = state.unheard_from if state.unheard else state.words.position - 2
        unheard = state.unheard + 1 if loud else max(0.0, state.unheard - 0.25)
        return state._replace(age=state.age + 1, unheard=unheard, unheard_from=first)

    def _over(self, state: LaneState) -> LaneState:
        """After the end of a turn: the pause goes on, and nothing has been said."""
        return state._replace(turn=state.turn._replace(loud=0, text=False, told=True, over=True))

    def _admit(self, made: list[Word | Partial], state: LaneState) -> tuple[list[Word | Partial], LaneState]:
        events: list[Word | Partial] = []
        for event in made:
            new, settled = admit(event, state.settled)
            state = state._replace(settled=settled)
            if new is not None:
                events.append(new)
            if isinstance(new, Word):
                state = self._spoke(new, state)
        return events, state

    def _spoke(self, word: Word, state: LaneState) -> LaneState:
        """The word in its turn; a revised one of the turn before changes nothing."""
        if word.start <= state.before:
            return state
        return state._replace(spoken=replace_revised(state.spoken, word))

    def _began(self, state: LaneState) -> float:
        return self.seconds(state.words.position - self._turns.began(state.turn))

    def _end_when_out(self, state: LaneState) -> tuple[list[Event], LaneState]:
        if not state.endings or state.words.position <= state.endings[0].told_at:
            return [], state
        ending, *later = state.endings
        return self._end(ending.time, ending.until, state._replace(endings=tuple(later)))

    def _end(self, time: float, until: float, state: LaneState) -> tuple[list[Event], LaneState]:
        """The turn of the words that start by `until`, if there are any."""
        turn = tuple(word for word in state.spoken if word.start <= until)
        if not turn:
            return [], state
        text = " ".join(word.text for word in turn)
        return [EndOfTurn(time, text)], state._replace(spoken=state.spoken[len(turn) :], before=turn[-1].start)
