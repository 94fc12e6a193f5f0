"""The model at work: sound to text ids with their probabilities, frame after frame.

In: sound or codes as NumPy, and the state that the call before gave back. Out: NumPy, and the next state. The only
module that compiles and evaluates; runs on the MLX thread. Knows nothing of words, times or files.

A step gives back lazy arrays and the new state; the caller forgets the old state and then reads. So the rings are
written in place: whoever holds on to an old state pays for a copy. Each position is read before the next is made, since
a GPU copies a ring that an unfinished step still uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any, NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_map

from .config import FRAME_SAMPLES, SttConfig
from .decoder import Decoder
from .layers import TransformerState
from .mimi import POSITIONS_PER_FRAME, Mimi, MimiState
from .mlx_thread import stop_if_abandoned

BLOCK = 25
"""Frames that the codec takes at once at most: 2 s."""
_POSITIONS = 32
"""Positions that a teacher-forced pass takes at once at most."""
_LEAST_TEMPERATURE = 1e-6
"""Below it the likeliest id is taken: logits divided by less leave the range of float32."""


class Model(nn.Module):
    """The codec and the decoder, with the layers quantised that the config says: what a checkpoint holds."""

    def __init__(self, config: SttConfig) -> None:
        super().__init__()
        self.codec = Mimi(config.codec)
        self.decoder = Decoder(config.decoder)
        if config.quantization:
            formats = {name: asdict(format) for name, format in config.quantization.items()}
            nn.quantize(self, class_predicate=lambda name, _: formats.get(name, False))


class Heard(NamedTuple):
    """What a position says."""

    text: mx.array  # (B, 1) int32
    log_probability: mx.array  # (B, 1) float32
    pauses: mx.array  # (B, 1, pause_heads) float32


class Said(NamedTuple):
    """The same of one row, read."""

    id: int
    log_probability: float
    pauses: tuple[float, ...]


class EngineState(NamedTuple):
    """Everything the model remembers, of B rows that go in step."""

    codec: MimiState
    decoder: TransformerState
    text: mx.array  # (B, 1) int32: the last ids
    key: mx.array  # random key of the next draw
    frames: int  # heard by the codec
    positions: int  # run by the decoder

    def row(self, index: int) -> EngineState:
        """One row alone; of a single row this is the state itself."""
        if len(self.text) == 1:
            return self
        codec, decoder, text = tree_map(lambda x: x[index : index + 1], (self.codec, self.decoder, self.text))
        return self._replace(codec=codec, decoder=decoder, text=text)

    def with_decoder_of(self, one: EngineState, index: int) -> EngineState:
        """The state with the decoder of `one` (a single row) in the place of a row's."""
        here = mx.arange(len(self.text)) == index
        decoder, text = tree_map(
            lambda mine, its: mx.where(here.reshape(-1, *[1] * (mine.ndim - 1)), its, mine),
            (self.decoder, self.text),
            (one.decoder, one.text),
        )
        return self._replace(decoder=decoder, text=text)


class Engine:
    """A loaded model with its steps.

    Args:
        model: with evaluated weights; a lazy one would be computed anew at each step.
        config: of the model.
        compiled: fuse the steps' kernels. Saves time on a GPU; on the CPU it costs more to begin with (a C++ compiler
            runs for each kernel, 14 s in all on a first run) than it saves in an hour of audio.
    """

    def __init__(self, model: Model, config: SttConfig, *, compiled: bool) -> None:
        self._codec, self._decoder = model.codec, model.decoder
        self._codebooks = config.codec.codebooks
        wrap: Callable[[Any], Any] = mx.compile if compiled else lambda step: step
        self._encode = wrap(model.codec.step)
        self._hidden = wrap(model.decoder.step)
        self._likeliest = wrap(self._decode_likeliest)
        self._drawn = wrap(self._decode_drawn)
        codec, decoder = model.codec.init_state(1, BLOCK), model.decoder.init_state(1, 1)
        self._codec_period = model.codec.transformer.rebase_period(codec.transformer) // POSITIONS_PER_FRAME
        self._decoder_period = model.decoder.transformer.rebase_period(decoder)

    def open(self, rows: int, temperature: float, seed: int) -> tuple[Heard, EngineState]:
        """A fresh state, and position 0, which needs no sound."""
        codec, decoder = self._codec.init_state(rows, BLOCK), self._decoder.init_state(rows, 1)
        text, _ = self._decoder.start_ids(rows)
        return self.restart(temperature, EngineState(codec, decoder, text, mx.random.key(seed), 0, 0))

    def restart(self, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        """The state with a fresh decoder, and its position 0; the codec goes on as it is."""
        rows = len(state.text)
        text, codes = self._decoder.start_ids(rows)
        fresh = state._replace(decoder=self._decoder.init_state(rows, 1), text=text, positions=0)
        return self.follow(codes, temperature, fresh)

    def hear(self, sound: np.ndarray, state: EngineState) -> tuple[mx.array, EngineState]:
        """Codes (B, n, codebooks) of at most BLOCK frames.

        Args:
            sound: (B, n * 1920) float32.
        """
        codes, codec = self._encode(mx.array(sound)[..., None], state.codec)
        frames = state.frames + codes.shape[1]
        if _passes(self._codec_period, state.frames, frames):
            codec = self._codec.rebase(codec)
        return codes, state._replace(codec=codec, frames=frames)

    def follow(self, codes: mx.array, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        """The next position, with codes (B, 1, codebooks)."""
        key = state.key
        if temperature < _LEAST_TEMPERATURE:
            heard, decoder = self._likeliest(state.text, codes, state.decoder)
        else:
            key, draw = mx.random.split(key)
            heard, decoder = self._drawn(state.text, codes, state.decoder, draw, mx.array(temperature))
        if _passes(self._decoder_period, state.positions, state.positions + 1):
            decoder = self._decoder.rebase(decoder)
        state = state._replace(decoder=decoder, text=heard.text, key=key, positions=state.positions + 1)
        return heard, state

    def read(self, heard: Heard, state: EngineState) -> list[Said]:
        """Wait for a position: what each row says."""
        mx.eval(heard, state)
        ids, log_probabilities, pauses = (np.array(x)[:, 0].tolist() for x in heard)
        return [Said(*said[:2], tuple(said[2])) for said in zip(ids, log_probabilities, pauses, strict=True)]

    def encode(self, sound: np.ndarray) -> np.ndarray:
        """Codes (n, codebooks) int32 of the whole frames in `sound` (samples,) float32."""
        frames = len(sound) // FRAME_SAMPLES
        state = self._codec.init_state(1, BLOCK)
        blocks = [np.zeros((0, self._codebooks), np.int32)]
        for start in range(0, frames, BLOCK):
            stop_if_abandoned()
            end = min(start + BLOCK, frames)
            block = sound[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
            codes, state = self._encode(mx.array(block)[None, :, None], state)
            if _passes(self._codec_period, start, end):
                state = self._codec.rebase(state)
            mx.eval(codes, state)
            blocks.append(np.array(codes)[0])
        return np.concatenate(blocks)

    def generate(self, codes: np.ndarray) -> np.ndarray:
        """The greedy text ids text_0 .. text_n (n + 1,) int32 of codes (n, codebooks)."""
        heard, state = self.open(rows=1, temperature=0.0, seed=0)
        ids = [self.read(heard, state)[0].id]
        for frame in codes:
            stop_if_abandoned()
            heard, state = self.follow(mx.array(frame)[None, None], 0.0, state)
            ids.append(self.read(heard, state)[0].id)
        return np.array(ids, np.int32)

    def forward(self, codes: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Logits (n + 1, vocabulary) float32 of codes (n, codebooks) and given text ids text_0 .. text_{n-1} (n,)."""
        first_text, first_codes = self._decoder.start_ids(1)
        text_in = mx.concatenate([first_text, mx.array(text, mx.int32)[None]], axis=1)
        codes_in = mx.concatenate([first_codes, mx.array(codes, mx.int32)[None]], axis=1)
        state = self._decoder.init_state(1, _POSITIONS)
        blocks = []
        for start in range(0, text_in.shape[1], _POSITIONS):
            stop_if_abandoned()
            end = start + _POSITIONS
            hidden, state = self._hidden(text_in[:, start:end], codes_in[:, start:end], state)
            if _passes(self._decoder_period, start, end):
                state = self._decoder.rebase(state)
            logits = self._decoder.logits(hidden)
            mx.eval(logits, state)
            blocks.append(np.array(logits)[0])
        return np.concatenate(blocks)

    def _decode_likeliest(
        self, text: mx.array, codes: mx.array, state: TransformerState
    ) -> tuple[Heard, TransformerState]:
        hidden, state = self._decoder.step(text, codes, state)
        logits = self._decoder.logits(hidden)
        return self._heard(mx.argmax(logits, axis=-1), logits, hidden), state

    def _decode_drawn(
        self, text: mx.array, codes: mx.array, state: TransformerState, key: mx.array, temperature: mx.array
    ) -> tuple[Heard, TransformerState]:
        hidden, state = self._decoder.step(text, codes, state)
        logits = self._decoder.logits(hidden)
        return self._heard(mx.random.categorical(logits / temperature, key=key), logits, hidden), state

    def _heard(self, ids: mx.array, logits: mx.array, hidden: mx.array) -> Heard:
        chosen = mx.take_along_axis(logits, ids[..., None], axis=-1)[..., 0]
        log_probability = chosen - mx.logsumexp(logits, axis=-1)
        return Heard(ids.astype(mx.int32), log_probability, self._decoder.pauses(hidden))


def _passes(period: int, before: int, after: int) -> bool:
    """Whether a multiple of the period lies in (before, after]."""
    return after // period > before // period
