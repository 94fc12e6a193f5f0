"""A stream of speech: sound of any length in, events out, without end.

In: float32 sound at 24 kHz, pushed in blocks of any length. Out: `Word`, `Partial`, `Pause` and `EndOfTurn` events.
Cuts frames, and owns all state as one value. Knows nothing of files, devices or formats.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import NamedTuple

import mlx.core as mx
import numpy as np

from .config import FRAME_SAMPLES, SAMPLE_RATE, SttConfig
from .engine import BLOCK, Engine, EngineState, Heard
from .errors import AudioError, OptionError, StreamClosedError
from .events import Event
from .mlx_thread import is_abandoned, on_mlx_thread
from .tokenizer import Tokenizer
from .turns import TurnDetector, TurnState
from .words import WordBuilder, WordState

_MOST_TEMPERATURE = 100.0
"""Already noise."""
_CLOSED = "the stream has been flushed, or has broken off: reset() opens it again"
TAIL = 1.0
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
        if not 0 <= self.temperature <= _MOST_TEMPERATURE:
            raise OptionError(
                f"temperature is {self.temperature}; it must be 0 (the likeliest text) or up to {_MOST_TEMPERATURE:g}"
            )
        if not 0 <= self.seed < 2**64:
            raise OptionError(f"seed is {self.seed}; it must be between 0 and {2**64 - 1}")
        if self.pause_threshold is not None and not 0 < self.pause_threshold < 1:
            raise OptionError(f"pause_threshold is {self.pause_threshold}; it must be between 0 and 1")


class StreamState(NamedTuple):
    """Everything a stream remembers: a value that can be kept, and put back."""

    engine: EngineState
    pending: np.ndarray  # (samples,) float32: what has not been heard yet
    words: WordState
    turn: TurnState
    untold: tuple[Event, ...]  # whose caller was interrupted
    is_ending: bool  # the silence of the flush is in `pending`
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
        self._inbox: deque[np.ndarray] = deque()  # pushed, and not yet taken in
        if state is None:
            self.reset()
        else:
            self.restore(state)

    def push(self, pcm: np.ndarray) -> list[Event]:
        """Hear more sound. Where the caller is interrupted, what is unheard or untold comes with its next call.

        Args:
            pcm: (samples,) float32 at 24 kHz, any number; what does not fill a frame of 1920 waits for more.

        Raises:
            AudioError: the sound is not one-dimensional and finite.
            StreamClosedError: the stream has been flushed, or has broken off.
        """
        self._inbox.append(checked_sound(pcm))
        return self._hear()

    @on_mlx_thread
    def flush(self) -> list[Event]:
        """End the stream: the words that the model still holds back, by way of silence.

        Interrupted, it goes on when it is called again. After a stream has broken off, it tells what was heard before.

        Raises:
            StreamClosedError: the stream has been flushed, or has broken off.
        """
        if self._state.untold and not self._state.is_open:
            return self._told()
        if not self._state.is_ending:
            self._receive()
            self._append_silence()
        self._check_open()
        self._hear_pending()
        if len(self._state.pending) < FRAME_SAMPLES:
            last, words = self._words.flush(self._state.words)
            self._state = self._state._replace(words=words, untold=(*self._state.untold, *last), is_open=False)
        return self._told()

    @on_mlx_thread
    def reset(self) -> None:
        """Begin afresh: position 0 and the silence that the model expects before the audio."""
        heard, engine = self._engine.open(self._options.temperature, self._options.seed)
        silence = np.zeros(int(self._config.prefix * SAMPLE_RATE), np.float32)
        self.restore(StreamState(engine, silence, WordState(), TurnState(), (), is_ending=False, is_open=True))
        self._tell(heard)
        self._hear_pending()

    @on_mlx_thread
    def snapshot(self) -> StreamState:
        """Everything as it is now. While it is kept, the next step copies the rings once."""
        if self._inbox:
            self._receive()
        return self._state

    @on_mlx_thread
    def restore(self, mark: StreamState) -> None:
        """Back to a snapshot of this stream or of another one of the same model."""
        self._state = mark
        self._inbox.clear()

    @on_mlx_thread
    def fork(self) -> Stream:
        """A second stream that goes on from here by itself."""
        return Stream(self._engine, self._config, self._tokenizer, self._options, self.snapshot())

    @on_mlx_thread
    def _hear(self) -> list[Event]:
        self._receive()
        self._hear_pending()
        return self._told()

    def _receive(self) -> None:
        """Take in what was pushed, also by callers that were interrupted before their turn came."""
        sounds = [self._inbox.popleft() for _ in range(len(self._inbox))]
        self._check_open()
        if self._state.is_ending:
            raise StreamClosedError(_CLOSED)
        self._state = self._state._replace(pending=np.concatenate([self._state.pending, *sounds]))

    def _append_silence(self) -> None:
        samples = len(self._state.pending) + int((self._config.delay + TAIL) * SAMPLE_RATE)
        samples += -samples % FRAME_SAMPLES
        pending = np.zeros(samples, np.float32)
        pending[: len(self._state.pending)] = self._state.pending
        self._state = self._state._replace(pending=pending, is_ending=True)

    def _check_open(self) -> None:
        if not self._state.is_open:
            raise StreamClosedError(_CLOSED)

    def _hear_pending(self) -> None:
        """All whole frames, or as many as somebody waits for; what is left stays pending."""
        try:
            while len(self._state.pending) >= FRAME_SAMPLES and not is_abandoned():
                samples = min(BLOCK, len(self._state.pending) // FRAME_SAMPLES) * FRAME_SAMPLES
                block, rest = self._state.pending[:samples], self._state.pending[samples:]
                codes, engine = self._engine.hear(block, self._state.engine)
                # Nobody may hold the old state while the new one is computed, or the rings are copied.
                self._state = self._state._replace(engine=engine, pending=rest)
                del engine
                for t in range(codes.shape[1]):
                    self._follow(codes[:, t : t + 1])
        except BaseException:
            self._state = self._state._replace(is_open=False)  # half a step is no state to go on from
            raise
        self._state = self._state._replace(pending=self._state.pending.copy())

    def _follow(self, codes: mx.array) -> None:
        heard, engine = self._engine.follow(codes, self._options.temperature, self._state.engine)
        self._state = self._state._replace(engine=engine)
        del engine
        self._tell(heard)

    def _tell(self, heard: Heard) -> None:
        """The events of a position."""
        id, log_probability, pauses = self._engine.read(heard, self._state.engine)
        events, words = self._words.step(id, log_probability, self._state.words)
        turn = self._state.turn
        if self._turns:
            turns, turn = self._turns.step(pauses, events, turn)
            events += turns
        untold = (*self._state.untold, *events) if events else self._state.untold  # no copy for each silent frame
        self._state = self._state._replace(words=words, turn=turn, untold=untold)

    def _told(self) -> list[Event]:
        """The events that nobody has been told; they stay where nobody waits for them."""
        if is_abandoned():
            return []
        events = list(self._state.untold)
        self._state = self._state._replace(untold=())
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
