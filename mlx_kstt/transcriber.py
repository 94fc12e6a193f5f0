"""Everything that can be done with a loaded model: the package's front door for scripts.

In: files, arrays and blocks of sound. Out: transcripts, events, codes, ids and logits as NumPy. Holds no
state of its own: each call opens a stream.
"""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Iterator, Sequence
from contextlib import aclosing, nullcontext
from functools import partial
from typing import BinaryIO

import numpy as np

from .audio import Audio, Intake, Lost, open_audio, resample_blocks
from .config import SAMPLE_RATE, SttConfig
from .engine import Engine
from .errors import OptionError
from .events import Event
from .mlx_thread import on_mlx_thread, wait_for_mlx
from .options import StreamOptions
from .outputs import FinalEvents, Transcript
from .stream import Stream, checked_sound
from .tokenizer import Tokenizer
from .turns import HOLD


class Transcriber:
    """A loaded model. Made by `load`; may be called from any thread.

    Attributes:
        config: sizes, delay and prefix of the model.
        tokenizer: `decode(ids)`, `encode(text)`, `piece(id)`.
    """

    def __init__(self, engine: Engine, config: SttConfig, tokenizer: Tokenizer) -> None:
        self._engine = engine
        self.config = config
        self.tokenizer = tokenizer

    def transcribe(
        self,
        source: str | os.PathLike[str] | BinaryIO | np.ndarray | Audio,
        *,
        sampling_rate: int = SAMPLE_RATE,
        channel: int | None = None,
        progress: Callable[[float], None] | None = None,
        temperature: float = 0.0,
        seed: int = 0,
        pause_head: int | None = None,
        pause_threshold: float | None = None,
        turn_hold: float = HOLD,
        refresh: float | None = None,
        rescue: float | None = None,
        start: float = 0.0,
        lanes: Sequence[str] = (),
    ) -> Transcript:
        """Transcribe a whole recording, however long.

        Args:
            source: path, file object, array (samples,) or (samples, channels), or an opened `Audio`.
            sampling_rate: of an array, in Hz; files tell their own.
            channel: which one, from 0; by default all are mixed.
            progress: called with the seconds of audio done.
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, lanes: see `open`.

        Raises:
            AudioError: the source cannot be read, or holds something that is not sound.
            OptionError: an option has a value that it cannot have.
        """
        options = StreamOptions(
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, tuple(lanes), ahead=False
        )
        stream = self._open(options)
        final = FinalEvents()
        samples = 0
        with _opened(source, sampling_rate, channel, options) as audio:
            for block in audio.blocks():
                final.add(stream.push(block))
                samples += len(block)
                if progress:
                    progress(audio.seconds_read)
            final.add(stream.flush())
            return Transcript(final.events, samples / SAMPLE_RATE, audio.warning)

    def stream(
        self,
        blocks: Iterable[np.ndarray | Lost],
        *,
        sampling_rate: int = SAMPLE_RATE,
        temperature: float = 0.0,
        seed: int = 0,
        pause_head: int | None = None,
        pause_threshold: float | None = None,
        turn_hold: float = HOLD,
        refresh: float | None = None,
        rescue: float | None = None,
        start: float = 0.0,
        lanes: Sequence[str] = (),
    ) -> Iterator[Event]:
        """Events of sound as it comes, and at the end of the blocks those that the model still holds back.

        Args:
            blocks: arrays (samples,) or (samples, channels) of any length, such as `microphone()` brings them; a `Lost`
                among them is time in which sound was lost.
            sampling_rate: of the blocks, in Hz.
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, lanes: see `open`.

        Raises:
            AudioError: a block is not sound.
            OptionError: an option has a value that it cannot have.
        """
        options = StreamOptions(
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, tuple(lanes)
        )
        return _events(self._open(options), resample_blocks(blocks, sampling_rate, lanes=len(options.lanes)))

    def astream(
        self,
        blocks: AsyncIterable[np.ndarray | Lost] | Iterable[np.ndarray | Lost],
        *,
        sampling_rate: int = SAMPLE_RATE,
        temperature: float = 0.0,
        seed: int = 0,
        pause_head: int | None = None,
        pause_threshold: float | None = None,
        turn_hold: float = HOLD,
        refresh: float | None = None,
        rescue: float | None = None,
        start: float = 0.0,
        lanes: Sequence[str] = (),
    ) -> AsyncGenerator[Event]:
        """`stream` for asyncio: the event loop goes on while the model works. May be cancelled at any point.

        Args:
            blocks: the same, from an asynchronous iterable (of a plain one the next block must be there at once).
            sampling_rate: of the blocks, in Hz.
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, lanes: see `open`.

        Raises:
            AudioError: a block is not sound.
            OptionError: an option has a value that it cannot have.
        """
        options = StreamOptions(
            temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, tuple(lanes)
        )
        intake = Intake(sampling_rate, name="the audio", channel=tuple(range(len(options.lanes))) or None)
        return _async_events(partial(self._open, options), _asynchronous(blocks), intake)

    def open(
        self,
        *,
        temperature: float = 0.0,
        seed: int = 0,
        pause_head: int | None = None,
        pause_threshold: float | None = None,
        turn_hold: float = HOLD,
        refresh: float | None = None,
        rescue: float | None = None,
        start: float = 0.0,
        lanes: Sequence[str] = (),
    ) -> Stream:
        """A stream to push sound into. Position 0 has been run when it comes back.

        Args:
            temperature: 0 takes the likeliest text; above, it is drawn (0.25 helps a 1B that has fallen silent).
            seed: of the draws.
            pause_head: which pause head decides about turns; by default what the checkpoint says.
            pause_threshold: probability above which the speaker counts as pausing; by default what the checkpoint says.
            turn_hold: seconds for which a pause must last to end the turn.
            refresh: start the decoder afresh in a pause when it is so many seconds old; None never does. The 1B is
                known to fall silent at times, or to stick to a misheard name.
            rescue: hear again, with a fresh decoder, what sounded for so many seconds (up to 30) without a word. Music
                is no speech; the last 60 s can be heard again. None never does.
            start: seconds that the clock shows when the sound begins.
            lanes: a label per channel: each is transcribed by itself, in one batched step, and its events bear the
                label. Without labels there is one channel.

        Raises:
            OptionError: an option has a value that it cannot have, or needs pause heads that the checkpoint lacks.
        """
        return self._open(
            StreamOptions(
                temperature, seed, pause_head, pause_threshold, turn_hold, refresh, rescue, start, tuple(lanes)
            )
        )

    def _open(self, options: StreamOptions) -> Stream:
        return Stream(self._engine, self.config, self.tokenizer, options)

    @on_mlx_thread
    def encode(self, pcm: np.ndarray) -> np.ndarray:
        """Codes of the whole frames in the sound.

        Args:
            pcm: (samples,) float32 at 24 kHz; what is left of a frame of 1920 is dropped.

        Returns:
            (frames, codebooks) int32.
        """
        return self._engine.encode(checked_sound(pcm)[:, 0])

    @on_mlx_thread
    def generate(self, pcm: np.ndarray | None = None, *, codes: np.ndarray | None = None) -> np.ndarray:
        """The likeliest text ids of sound or of codes; no silence is added.

        Args:
            pcm: (samples,) float32 at 24 kHz; what is left of a frame of 1920 is dropped.
            codes: (frames, codebooks) int.

        Returns:
            (frames + 1,) int32: text_0 .. text_frames (facts sheet 5.2).

        Raises:
            OptionError: not exactly one of the two is given, or the codes are out of range.
        """
        if (pcm is None) == (codes is None):
            raise OptionError("generate takes either sound (pcm) or codes")
        if pcm is not None:
            return self._engine.generate(self._engine.encode(checked_sound(pcm)[:, 0]))
        return self._engine.generate(self._checked_codes(codes))

    @on_mlx_thread
    def forward(self, codes: np.ndarray, text_tokens: np.ndarray) -> np.ndarray:
        """Teacher-forced logits; the start ids are added inside.

        Args:
            codes: (frames, codebooks) int.
            text_tokens: (frames,) int: text_0 .. text_{frames-1}.

        Returns:
            (frames + 1, text vocabulary) float32.

        Raises:
            OptionError: shapes or ids are out of range.
        """
        codes, text = self._checked_codes(codes), np.asarray(text_tokens)
        if text.shape != codes.shape[:1]:
            raise OptionError(
                f"text_tokens has shape {text.shape}; with {len(codes)} frames it must be ({len(codes)},)"
            )
        return self._engine.forward(codes, _checked_ids(text, self.config.decoder.vocabulary, "text id"))

    def _checked_codes(self, codes: np.ndarray | None) -> np.ndarray:
        codes, decoder = np.asarray(codes), self.config.decoder
        if codes.ndim != 2 or codes.shape[1] != decoder.codebooks:
            raise OptionError(f"codes have shape {codes.shape}; they must be (frames, {decoder.codebooks})")
        return _checked_ids(codes, decoder.codebook_size, "code")


def _checked_ids(ids: np.ndarray, limit: int, name: str) -> np.ndarray:
    if ids.dtype.kind not in "iu":
        raise OptionError(f"a {name} must be an integer; this array is {ids.dtype}")
    if ids.size and not 0 <= ids.min() <= ids.max() < limit:
        raise OptionError(
            f"a {name} is {ids.min() if ids.min() < 0 else ids.max()}; it must be between 0 and {limit - 1}"
        )
    return ids.astype(np.int32)


def _opened(
    source: str | os.PathLike[str] | BinaryIO | np.ndarray | Audio,
    sampling_rate: int,
    channel: int | None,
    options: StreamOptions,
) -> Audio:
    if isinstance(source, Audio):
        return source
    if channel is not None and options.lanes:
        raise OptionError(f"channel is {channel}, and lanes take each channel: leave one of them out")
    lanes = tuple(range(len(options.lanes)))
    return open_audio(source, sampling_rate=sampling_rate, channel=lanes or channel)


def _events(stream: Stream, items: Iterator[np.ndarray | Lost]) -> Iterator[Event]:
    for item in items:
        yield from stream.skip(item) if isinstance(item, Lost) else stream.push(item)
    yield from stream.flush()


async def _async_events(
    open: Callable[[], Stream], items: AsyncGenerator[np.ndarray | Lost], intake: Intake
) -> AsyncGenerator[Event]:
    stream = await wait_for_mlx(open)
    async with aclosing(items):
        async for item in items:
            for part in intake.take(item):
                work = partial(stream.skip, part) if isinstance(part, Lost) else partial(stream.push, part)
                for event in await wait_for_mlx(work):
                    yield event
    for part in intake.finish():
        if isinstance(part, np.ndarray):
            for event in await wait_for_mlx(partial(stream.push, part)):
                yield event
    for event in await wait_for_mlx(stream.flush):
        yield event


async def _asynchronous(
    blocks: AsyncIterable[np.ndarray | Lost] | Iterable[np.ndarray | Lost],
) -> AsyncGenerator[np.ndarray | Lost]:
    """The blocks; a generator that brings them ends with this one."""
    if isinstance(blocks, AsyncIterable):
        async with aclosing(blocks) if isinstance(blocks, AsyncGenerator) else nullcontext():
            async for block in blocks:
                yield block
    else:
        for block in blocks:
            yield block
