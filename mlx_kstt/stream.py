"""A stream of speech: sound of any length in, events out, without end.

In: float32 sound at 24 kHz, pushed in blocks of any length, and times in which sound was lost. Out: events. Cuts
frames, and keeps what is unheard and untold where a caller is interrupted. Knows nothing of files, devices or formats.
"""

from __future__ import annotations

from collections import deque
from math import inf, isfinite
from typing import NamedTuple

import numpy as np

from .audio.lost import Lost
from .config import FRAME_SAMPLES, SAMPLE_RATE, SttConfig
from .engine import BLOCK, Engine
from .errors import AudioError, OptionError, StreamClosedError
from .events import Event, Gap
from .incoming import Incoming, Jump, in_place_of
from .mlx_thread import is_abandoned, on_mlx_thread
from .options import TAIL, StreamOptions
from .rows import Rows, RowsState
from .tokenizer import Tokenizer

_CLOSED = "the stream has been flushed, or has broken off: reset() opens it again"


class StreamState(NamedTuple):
    """Everything a stream remembers: a value that can be kept, and put back."""

    rows: RowsState
    incoming: Incoming
    untold: tuple[Event, ...] = ()  # whose caller was interrupted
    is_open: bool = True


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
        self._parts = engine, config, tokenizer, options
        self._config = config
        self._options = options
        self._columns = max(1, len(options.lanes))
        self._inbox: deque[np.ndarray | Lost] = deque()  # pushed, and not yet taken in
        self._untold: list[Event] = []
        self._rows = Rows(*self._parts, self._untold.extend)
        if state is None:
            self.reset()
        else:
            self.restore(state)

    def push(self, pcm: np.ndarray) -> list[Event]:
        """Hear more sound. Where the caller is interrupted, what is unheard or untold comes with its next call.

        Args:
            pcm: (samples,) float32 at 24 kHz, or (samples, lanes) where the stream has lanes; any number of samples:
                what does not fill a frame of 1920 waits for more.

        Raises:
            AudioError: the sound has another shape, or is not finite.
            StreamClosedError: the stream has been flushed, or has broken off.
        """
        self._inbox.append(checked_sound(pcm, len(self._options.lanes)))
        return self._hear()

    def skip(self, lost: Lost) -> list[Event]:
        """Let time pass in which sound was lost: the clock goes on, and what the model holds back comes out.

        Raises:
            OptionError: there is no such time or lane.
            StreamClosedError: the stream has been flushed, or has broken off.
        """
        self._inbox.append(checked_lost(lost, len(self._options.lanes)))
        return self._hear()

    @property
    def seconds(self) -> float:
        """Time of all that was pushed, on the clock of the events."""
        state = self.snapshot()
        return min(state.rows.end, self._rows.seconds(state.incoming.samples))

    @on_mlx_thread
    def flush(self) -> list[Event]:
        """End the stream: the words that the model still holds back, by way of silence.

        Interrupted, it goes on when it is called again. After a stream has broken off, it tells what was heard before.

        Raises:
            StreamClosedError: the stream has been flushed, or has broken off.
        """
        if self._untold and not self._is_open:
            return self._told()
        self._receive()
        self._hear_incoming()
        if not self._is_ending and self._incoming.is_heard:
            self._append_silence()
            self._hear_incoming()
        if self._is_ending and self._incoming.is_heard:
            self._rows.finish(self._rows.state.end)
            self._is_open = False
        return self._told()

    @on_mlx_thread
    def reset(self) -> None:
        """Begin afresh: position 0 and the silence that the model expects before the audio."""
        self._rows.open()
        silence = np.zeros((int(self._config.prefix * SAMPLE_RATE), self._columns), np.float32)
        self.restore(StreamState(self._rows.state, Incoming(silence)))
        self._hear_incoming()
        self._rows.end_prefix()

    @on_mlx_thread
    def snapshot(self) -> StreamState:
        """Everything as it is now. While it is kept, the next step copies the rings once."""
        if self._inbox:
            self._receive()
        return StreamState(self._rows.state, self._incoming, tuple(self._untold), self._is_open)

    @on_mlx_thread
    def restore(self, mark: StreamState) -> None:
        """Back to a snapshot of this stream or of another one of the same model."""
        self._rows.state, self._incoming, untold, self._is_open = mark
        self._untold[:] = untold
        self._inbox.clear()

    @on_mlx_thread
    def fork(self) -> Stream:
        """A second stream that goes on from here by itself."""
        return Stream(*self._parts, self.snapshot())

    @on_mlx_thread
    def _hear(self) -> list[Event]:
        self._receive()
        self._hear_incoming()
        return self._told()

    def _receive(self) -> None:
        """Take in what was pushed, also by callers that were interrupted before their turn came."""
        items = [self._inbox.popleft() for _ in range(len(self._inbox))]
        if not self._is_open or (items and self._is_ending):
            raise StreamClosedError(_CLOSED)
        self._incoming = self._incoming.then(items)

    @property
    def _is_ending(self) -> bool:
        return self._rows.state.end < inf

    def _append_silence(self) -> None:
        rest = len(self._incoming.sound)
        samples = int((self._config.delay + TAIL) * SAMPLE_RATE)
        samples += -(rest + samples) % FRAME_SAMPLES
        self._rows.end(self._rows.seconds(rest))
        self._incoming = self._incoming.then([np.zeros((samples, self._columns), np.float32)])

    def _hear_incoming(self) -> None:
        """All whole frames, or as many as somebody waits for; what is left stays."""
        try:
            while not is_abandoned() and not self._incoming.is_heard:
                self._incoming = self._incoming.joined()
                block, self._incoming = self._incoming.split(BLOCK)
                if len(block):
                    self._rows.hear(block)
                elif self._incoming.later:
                    self._pass_lost()
        except BaseException:
            self._is_open = False  # half a step is no state to go on from
            raise
        self._incoming = self._incoming.copied()

    def _pass_lost(self) -> None:
        """What comes next is lost: tell it, and let its time pass."""
        item, self._incoming = self._incoming.popped()
        if isinstance(item, Jump):
            self._rows.jump(item.frames)
        elif isinstance(item, Lost):
            begin = max(self._options.start, self._rows.seconds(len(self._incoming.sound)) - item.filled)
            lane = self._options.lanes[item.lane] if item.lane is not None and self._options.lanes else None
            self._untold.append(Gap(round(begin, 3), round(begin + item.seconds, 3), item.reason, lane))
            self._incoming = self._incoming.first(in_place_of(item, self._columns, self._config.delay + TAIL))

    def _told(self) -> list[Event]:
        """The events that nobody has been told; they stay where nobody waits for them."""
        if is_abandoned():
            return []
        events = [*self._untold]
        self._untold.clear()
        return events


def checked_lost(lost: Lost, lanes: int) -> Lost:
    """What was lost, as it is.

    Raises:
        OptionError: there is no such time, or no such lane.
    """
    if not (isfinite(lost.seconds) and 0 <= lost.filled <= lost.seconds):
        raise OptionError(
            f"{lost.seconds} s were lost and {lost.filled} s of them filled; both must be at least 0, and the second "
            "no more than the first"
        )
    if lost.lane is not None and (lost.lane < 0 or (lanes and lost.lane >= lanes)):
        raise OptionError(f"lane is {lost.lane}; there are lanes 0 to {max(1, lanes) - 1}")
    return lost


def checked_sound(pcm: np.ndarray, lanes: int = 0) -> np.ndarray:
    """The sound as (samples, columns) float32.

    Args:
        pcm: (samples,) where there is one lane, or (samples, lanes).
        lanes: how many; 0 is one without a name, of one-dimensional sound only.

    Raises:
        AudioError: it is not an array of finite floats of this shape.
    """
    sound = np.asarray(pcm)
    if lanes == 1 and sound.ndim == 1:
        sound = sound[:, None]
    if sound.dtype.kind != "f" or (sound.ndim != 1 if not lanes else sound.shape[1:] != (lanes,)):
        shape = f"an array of floats in -1..1 of shape (samples, {lanes})"
        shape = shape if lanes else "a one-dimensional array of floats in -1..1"
        raise AudioError(f"sound must be {shape}; this is {sound.dtype} of shape {sound.shape}")
    sound = sound.astype(np.float32, copy=False)
    if not np.isfinite(sound).all():
        first = tuple(np.argwhere(~np.isfinite(sound))[0])
        raise AudioError(f"sample {first[0]} of the sound is {sound[first]}; every sample must be a finite number")
    return sound if lanes else sound[:, None]
