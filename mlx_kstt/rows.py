"""The model and its listeners: each row of a batched step with the lane that makes words of it.

In: frames of sound, a column per lane. Out: events, told as they come. Owns the state of both. Knows nothing of how
sound arrives, or of who listens to the events.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import inf
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from .config import FRAME_SAMPLES, SttConfig
from .engine import Engine, EngineState, Said
from .events import EndOfTurn, Event, Pause, Refresh
from .lane import Lane, LaneState
from .loudness import level_of
from .options import StreamOptions
from .second_look import again, ahead
from .tokenizer import Tokenizer
from .upkeep import KEPT_FRAMES, SecondLook, Upkeep


class RowsState(NamedTuple):
    """What is remembered."""

    engine: EngineState  # a row per lane
    lanes: tuple[LaneState, ...]
    frames: int = 0  # that have passed, heard or not
    end: float = inf  # seconds, where the sound has ended: what is heard from there on is the silence of the flush
    kept: tuple[np.ndarray, ...] = ()  # codes (lanes, codebooks) of the last ones, where an option needs them
    prefix: tuple[np.ndarray, ...] = ()  # those of the silence before the sound


class Rows:
    """The rows of one stream.

    Args:
        engine, config, tokenizer: the model.
        options: of the stream.
        tell: called with the events of each frame.
    """

    state: RowsState

    def __init__(
        self,
        engine: Engine,
        config: SttConfig,
        tokenizer: Tokenizer,
        options: StreamOptions,
        tell: Callable[[list[Event]], None],
    ) -> None:
        self._engine = engine
        self._delay = config.delay
        self._options = options
        self._lanes = [Lane(config, tokenizer, options, name) for name in options.lanes or (None,)]
        self._upkeep = Upkeep(config, options)
        self._tell_all = tell

    def open(self) -> None:
        """A fresh state, at position 0."""
        heard, engine = self._engine.open(len(self._lanes), self._options.temperature, self._options.seed)
        said = self._engine.read(heard, engine)
        lanes = tuple(lane.read(row, LaneState())[1] for lane, row in zip(self._lanes, said, strict=True))
        self.state = RowsState(engine, lanes)

    def end_prefix(self) -> None:
        """What has been heard so far is the silence that the model expects first."""
        self.state = self.state._replace(prefix=self.state.kept)

    def seconds(self, samples: int) -> float:
        """Time so many samples after what has been heard."""
        return self._lanes[0].seconds(self.state.frames + samples / FRAME_SAMPLES)

    def hear(self, sound: np.ndarray) -> None:
        """Whole frames (n * 1920, lanes), at most BLOCK of them."""
        codes, engine = self._engine.hear(sound.T, self.state.engine)
        # Nobody may hold the old state while the new one is computed, or the rings are copied.
        self.state = self.state._replace(engine=engine)
        del engine
        for t in range(codes.shape[1]):
            frame = sound[t * FRAME_SAMPLES : (t + 1) * FRAME_SAMPLES]
            self._follow(codes[:, t : t + 1], [level_of(lane) for lane in frame.T])

    def jump(self, frames: int) -> None:
        """Let frames pass unheard, which ends the turns."""
        self.finish(self.seconds(0))
        lanes = tuple(lane.moved(frames, at) for lane, at in zip(self._lanes, self.state.lanes, strict=True))
        self.state = self.state._replace(frames=self.state.frames + frames, lanes=lanes, kept=())

    def end(self, seconds: float) -> None:
        """What is heard from now on is silence after the end of the sound."""
        self.state = self.state._replace(end=seconds)

    def finish(self, end: float) -> None:
        """Tell what is left of sound that ended at `end` seconds."""
        for index, lane in enumerate(self._lanes):
            events, state = lane.finish(end, self.state.lanes[index])
            self._put(index, state)
            self._tell(events)

    def _follow(self, codes: mx.array, levels: list[float]) -> None:
        heard, engine = self._engine.follow(codes, self._options.temperature, self.state.engine)
        self.state = self.state._replace(engine=engine, frames=self.state.frames + 1)
        del engine
        said = self._engine.read(heard, self.state.engine)
        if self._upkeep.keeps_codes:
            kept = (*self.state.kept, np.array(codes)[:, 0])[-KEPT_FRAMES:]
            self.state = self.state._replace(kept=kept)
        for index, (row, level) in enumerate(zip(said, levels, strict=True)):
            self._attend(index, row, level)

    def _attend(self, index: int, said: Said, level: float) -> None:
        """What a lane makes of a frame, and what follows from it."""
        lane = self._lanes[index]
        events, state = lane.hear(said, level, self.state.lanes[index])
        self._put(index, state)
        self._tell(events)
        if lane.ends_turn(state):
            self._end_turn(index, said)
        if look := self._upkeep.due(state, lane.pause(state), self.state.frames, len(self.state.kept)):
            self._look_again(index, look)

    def _end_turn(self, index: int, said: Said) -> None:
        lane, state = self._lanes[index], self.state.lanes[index]
        if not self._options.ahead:
            self._put(index, lane.wait_for_end(state))
            return
        one = self.state.engine.row(index)
        words = ahead(self._engine, self._options.temperature, self._delay, lane, one, state)
        if words is not None:  # else the turn still is to be ended with the next frame
            events, state = lane.end_with(words, said.pauses, state)
            self._put(index, state)
            self._tell(events)

    def _look_again(self, index: int, look: SecondLook) -> None:
        """Hear the last frames again with a fresh decoder, and go on with that."""
        lane, state = self._lanes[index], self.state.lanes[index]
        frames = [*self.state.prefix, *self.state.kept[len(self.state.kept) - (self.state.frames - look.first) :]]
        codes = [frame[index] for frame in frames]
        fresh = lane.restarted(self.state.frames - len(codes), look.rescues, state)
        one = self.state.engine.row(index)
        heard = again(self._engine, self._options.temperature, codes, lane, one, fresh)
        if heard is None:
            return
        events, one, state = heard
        self.state = self.state._replace(engine=self.state.engine.with_decoder_of(one, index))
        self._put(index, state)
        self._tell([Refresh(lane.seconds(self.state.frames), look.reason, lane.name), *events])

    def _put(self, index: int, state: LaneState) -> None:
        lanes = self.state.lanes
        self.state = self.state._replace(lanes=(*lanes[:index], state, *lanes[index + 1 :]))

    def _tell(self, events: list[Event]) -> None:
        """Nobody pauses or ends later than the sound does."""
        self._tell_all(
            [
                replace(event, time=min(event.time, self.state.end)) if isinstance(event, Pause | EndOfTurn) else event
                for event in events
            ]
        )
