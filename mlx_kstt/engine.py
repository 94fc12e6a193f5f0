"""The model at work: sound to text ids with their probabilities, frame after frame.

In: sound or codes as NumPy, and the state that the call before gave back. Out: NumPy, and the next state. The only
module that compiles and evaluates; runs on the MLX thread. Knows nothing of words, times or files.

A step gives back lazy arrays and the new state; the caller forgets the old state and then reads. So the rings are
written in place: whoever holds on to an old state pays for a copy.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn
import numpy as np

from .config import FRAME_SAMPLES, SttConfig
from .decoder import Decoder
from .layers import TransformerState
from .mimi import POSITIONS_PER_FRAME, Mimi, MimiState

BLOCK = 25
"""Frames that the codec takes at once at most: 2 s."""
_POSITIONS = 32
"""Positions that a teacher-forced pass takes at once at most."""


class Model(nn.Module):
    """The codec and the decoder: what a checkpoint holds."""

    def __init__(self, config: SttConfig) -> None:
        super().__init__()
        self.codec = Mimi(config.codec)
        self.decoder = Decoder(config.decoder)


class Heard(NamedTuple):
    """What n positions say."""

    text: mx.array  # (1, n) int32
    log_probability: mx.array  # (1, n) float32
    pauses: mx.array  # (1, n, pause_heads) float32


class EngineState(NamedTuple):
    """Everything the model remembers."""

    codec: MimiState
    decoder: TransformerState
    text: mx.array  # (1, 1) int32: the last id
    key: mx.array  # random key of the next draw
    frames: int  # heard so far


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
        steps = (model.codec.step, model.decoder.step, self._decode_likeliest, self._decode_drawn)
        self._encode, self._hidden, self._likeliest, self._drawn = map(mx.compile, steps) if compiled else steps
        codec, decoder = model.codec.init_state(1, BLOCK), model.decoder.init_state(1, 1)
        self._rebase_every = min(
            model.codec.transformer.rebase_period(codec.transformer) // POSITIONS_PER_FRAME,
            model.decoder.transformer.rebase_period(decoder),
        )

    def open(self, temperature: float, seed: int) -> tuple[Heard, EngineState]:
        """A fresh state, and position 0, which needs no sound."""
        codec, decoder = self._codec.init_state(1, BLOCK), self._decoder.init_state(1, 1)
        text, codes = self._decoder.start_ids(1)
        state = EngineState(codec, decoder, text, mx.random.key(seed), 0)
        return self._position(codes, temperature, state)

    def advance(self, sound: np.ndarray, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        """The positions after each of at most BLOCK frames.

        Args:
            sound: (n * 1920,) float32.
        """
        codes, codec = self._encode(mx.array(sound)[None, :, None], state.codec)
        heard, after = self._follow(codes, temperature, state._replace(codec=codec))
        if self._rebase_is_due(state.frames, after.frames):
            codec, decoder = self._codec.rebase(after.codec), self._decoder.rebase(after.decoder)
            after = after._replace(codec=codec, decoder=decoder)
        return heard, after

    def read(self, heard: Heard, state: EngineState) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Wait for a step: ids (n,), log probabilities (n,) and pauses (n, pause_heads)."""
        mx.eval(heard, state)
        text, log_probability, pauses = (np.array(x[0]) for x in heard)
        return text, log_probability, pauses

    def encode(self, sound: np.ndarray) -> np.ndarray:
        """Codes (n, codebooks) int32 of the whole frames in `sound` (samples,) float32."""
        frames = len(sound) // FRAME_SAMPLES
        state = self._codec.init_state(1, BLOCK)
        blocks = [np.zeros((0, self._codebooks), np.int32)]
        for start in range(0, frames, BLOCK):
            end = min(start + BLOCK, frames)
            block = sound[start * FRAME_SAMPLES : end * FRAME_SAMPLES]
            codes, state = self._encode(mx.array(block)[None, :, None], state)
            if self._rebase_is_due(start, end):
                state = self._codec.rebase(state)
            mx.eval(codes, state)
            blocks.append(np.array(codes[0]))
        return np.concatenate(blocks)

    def generate(self, codes: np.ndarray) -> np.ndarray:
        """The greedy text ids text_0 .. text_n (n + 1,) int32 of codes (n, codebooks)."""
        heard, state = self.open(temperature=0.0, seed=0)
        ids = [self.read(heard, state)[0]]
        for start in range(0, len(codes), BLOCK):
            heard, state = self._follow(mx.array(codes[start : start + BLOCK])[None], 0.0, state)
            if self._rebase_is_due(start, state.frames):
                state = state._replace(decoder=self._decoder.rebase(state.decoder))
            ids.append(self.read(heard, state)[0])
        return np.concatenate(ids)

    def forward(self, codes: np.ndarray, text: np.ndarray) -> np.ndarray:
        """Logits (n + 1, vocabulary) float32 of codes (n, codebooks) and given text ids text_0 .. text_{n-1} (n,)."""
        first_text, first_codes = self._decoder.start_ids(1)
        text_in = mx.concatenate([first_text, mx.array(text, mx.int32)[None]], axis=1)
        codes_in = mx.concatenate([first_codes, mx.array(codes, mx.int32)[None]], axis=1)
        state = self._decoder.init_state(1, _POSITIONS)
        blocks = []
        for start in range(0, text_in.shape[1], _POSITIONS):
            end = start + _POSITIONS
            hidden, state = self._hidden(text_in[:, start:end], codes_in[:, start:end], state)
            if self._rebase_is_due(start, end):
                state = self._decoder.rebase(state)
            logits = self._decoder.logits(hidden)
            mx.eval(logits, state)
            blocks.append(np.array(logits[0]))
        return np.concatenate(blocks)

    def _follow(self, codes: mx.array, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        """The positions after codes (1, n, codebooks), one after the other."""
        steps = []
        for t in range(codes.shape[1]):
            heard, state = self._position(codes[:, t : t + 1], temperature, state)
            state = state._replace(frames=state.frames + 1)
            steps.append(heard)
        return Heard(*(mx.concatenate(list(parts), axis=1) for parts in zip(*steps, strict=True))), state

    def _position(self, codes: mx.array, temperature: float, state: EngineState) -> tuple[Heard, EngineState]:
        """The next position, with codes (1, 1, codebooks)."""
        key = state.key
        if temperature == 0:
            heard, decoder = self._likeliest(state.text, codes, state.decoder)
        else:
            key, draw = mx.random.split(key)
            heard, decoder = self._drawn(state.text, codes, state.decoder, draw, mx.array(temperature))
        return heard, state._replace(decoder=decoder, text=heard.text, key=key)

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

    def _rebase_is_due(self, before: int, after: int) -> bool:
        """Whether a multiple of the rebase period lies in (before, after] frames."""
        return after // self._rebase_every > before // self._rebase_every
