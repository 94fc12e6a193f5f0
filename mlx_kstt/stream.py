"""A stream of speech: sound of any length in, events out, without end.

In: float32 sound at 24 kHz, pushed in blocks of any length. Out: `Word`, `Partial`, `Pause` and `EndOfTurn` events.
Cuts frames, and owns all state as one value. Knows nothing of files, devices or formats.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import NamedTuple

import numpy as np

from .config import FRAME_SAMPLES, SAMPLE_RATE, SttConfig
from .engine import BLOCK, Engine, EngineState, Heard
from .errors import AudioError, OptionError, StreamClosedError
from .events import Event
from .mlx_thread import on_mlx_thread
from .tokenizer import Tokenizer
from .turns import TurnDetector, TurnState
from .words import WordBuilder, WordState

_TAIL = 1.0
"""Seconds of silence after the delayed text, as the reference appends them (facts sheet 5.5)."""


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream decides; see `Transcriber.open`.

    Raises:
        OptionError: a value is out of range.
    """

    temperature: float = 0.0
    seed: int = 0
    pause_head: int | None = None
    pause_threshold: float | None = None

    def __post_init__(self) -> None:
        """Refuse what no checkpoint allows."""
        if not 0 <= self.temperature < inf:
            raise OptionError(f"temperature is {self.temperature}; it must be 0 (the likeliest text) or more")
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed is {self.seed}; it must be between 0 and {2**64 - 1}")
        if self.pause_threshold is not None and not 0 < self.pause_threshold < 1:
            raise OptionError(f"pause_threshold is {self.pause_threshold}; it must be between 0 and 1")


class StreamState(NamedTuple):
    """Everything a stream remembers: a value that can be kept, and put back."""

    engine: EngineState
    pending: np.ndarray  # (samples,) float32: less than a frame
    words: WordState
    turn: TurnState
    is_open: bool


class Stream:
    """One conversation. Made by `Transcriber.open`; may be called from any thread."""

    def __init__(
        self,
        engine: Engine,
        config: SttConfig,
        tokenizer: Tokenizer,
        options: StreamOptions,
        state: StreamState | None = None,
    ) -> None:
        self._engine = engine
        self._config = config
        self._tokenizer = tokenizer
        self._options = options
        self._words = WordBuilder(tokenizer, config.delay, config.prefix)
        self._turns = _turn_detector(config, options)
        if state is None:
            self.reset()
        else:
            self._state = state

    @on_mlx_thread
    def push(self, pcm: np.ndarray) -> list[Event]:
        """Hear more sound.

        Args:
            pcm: (samples,) float32 at 24 kHz, any number; what does not fill a frame of 1920 waits for more.

        Raises:
            AudioError: the sound is not one-dimensional and finite.
            StreamClosedError: the stream has been flushed.
        """
        if not self._state.is_open:
            raise StreamClosedError("the stream has been flushed: reset() opens it again")
        return self._hear(checked_sound(pcm))

    @on_mlx_thread
    def flush(self) -> list[Event]:
        """End the stream: the words that the model still holds back, by way of silence."""
        if not self._state.is_open:
            raise StreamClosedError("the stream has been flushed: reset() opens it again")
        tail = int((self._config.delay + _TAIL) * SAMPLE_RATE)
        tail += -(len(self._state.pending) + tail) % FRAME_SAMPLES
        events = self._hear(np.zeros(tail, np.float32))
        last, words = self._words.flush(self._state.words)
        self._state = self._state._replace(words=words, is_open=False)
        return events + last

    @on_mlx_thread
    def reset(self) -> None:
        """Begin afresh: position 0 and the silence that the model expects before the audio."""
        heard, engine = self._engine.open(self._options.temperature, self._options.seed)
        self._state = StreamState(engine, np.zeros(0, np.float32), WordState(), TurnState(), is_open=True)
        self._tell(heard)
        self._hear(np.zeros(int(self._config.prefix * SAMPLE_RATE), np.float32))

    def snapshot(self) -> StreamState:
        """Everything as it is now. While it is kept, the next step copies the rings once."""
        return self._state

    def restore(self, mark: StreamState) -> None:
        """Back to a snapshot of this stream or of another one of the same model."""
        self._state = mark

    def fork(self) -> Stream:
        """A second stream that goes on from here by itself."""
        return Stream(self._engine, self._config, self._tokenizer, self._options, self._state)

    def _hear(self, sound: np.ndarray) -> list[Event]:
        sound = np.concatenate([self._state.pending, sound])
        whole = len(sound) - len(sound) % FRAME_SAMPLES
        self._state = self._state._replace(pending=sound[whole:].copy())
        events: list[Event] = []
        for start in range(0, whole, BLOCK * FRAME_SAMPLES):
            block = sound[start : min(start + BLOCK * FRAME_SAMPLES, whole)]
            heard, engine = self._engine.advance(block, self._options.temperature, self._state.engine)
            # Nobody may hold the old state while the new one is computed, or the rings are copied.
            self._state = self._state._replace(engine=engine)
            del engine
            events += self._tell(heard)
        return events

    def _tell(self, heard: Heard) -> list[Event]:
        """The events of the positions of a step."""
        events: list[Event] = []
        words, turn = self._state.words, self._state.turn
        for id, log_probability, pauses in zip(*self._engine.read(heard, self._state.engine), strict=True):
            new, words = self._words.step(int(id), float(log_probability), words)
            if self._turns:
                turns, turn = self._turns.step(pauses.tolist(), new, turn)
                new += turns
            events += new
        self._state = self._state._replace(words=words, turn=turn)
        return events


def checked_sound(pcm: np.ndarray) -> np.ndarray:
    """The sound as (samples,) float32.

    Raises:
        AudioError: it is not a one-dimensional array of finite floats.
    """
    sound = np.asarray(pcm)
    if sound.ndim != 1 or sound.dtype.kind != "f":
        raise AudioError(
            f"sound must be a one-dimensional array of floats in -1..1; this is {sound.dtype} of shape {sound.shape}"
        )
    sound = sound.astype(np.float32, copy=False)
    if not np.isfinite(sound).all():
        first = int(np.argmin(np.isfinite(sound)))
        raise AudioError(f"sample {first} of the sound is {sound[first]}; every sample must be a finite number")
    return sound


def _turn_detector(config: SttConfig, options: StreamOptions) -> TurnDetector | None:
    """None where the checkpoint has no pause heads.

    Raises:
        OptionError: an option asks for a pause head that the checkpoint does not have.
    """
    heads = config.decoder.pause_heads
    if not heads:
        if options.pause_head is not None or options.pause_threshold is not None:
            raise OptionError("this checkpoint has no pause heads: leave pause_head and pause_threshold out")
        return None
    head = config.pause_head if options.pause_head is None else options.pause_head
    if not 0 <= head < heads:
        raise OptionError(f"pause_head is {head}; this checkpoint has heads 0 to {heads - 1}")
    threshold = config.pause_threshold if options.pause_threshold is None else options.pause_threshold
    return TurnDetector(head, threshold, config.delay, config.prefix)
