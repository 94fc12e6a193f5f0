"""The encoder half of the Mimi codec: sound to codes.

In: float32 sound (B, n * 1920, 1) at 24 kHz. Out: int32 codes (B, n, codebooks), the semantic one first. Knows
nothing of text, files or threads. Always float32: in bfloat16 many codes change (facts sheet 10.17).

Source: facts sheet 3; Défossez et al., "Moshi: a speech-text foundation model for real-time dialogue", 2024, section
3.3.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import mlx.nn as nn

from .config import MimiConfig, TransformerConfig
from .layers import CausalConv1d, Transformer, TransformerState, elu, gelu

POSITIONS_PER_FRAME = 2
"""The transformer runs at 25 Hz; a last convolution halves that."""


class Residual(nn.Module):
    """x + wide(elu(narrow(elu(x)))): (B, T, channels) -> (B, T, channels)."""

    def __init__(self, channels: int, config: MimiConfig) -> None:
        super().__init__()
        self.narrow = CausalConv1d(channels, channels // config.compress, config.residual_kernel)
        self.wide = nn.Linear(channels // config.compress, channels)

    def step(self, x: mx.array, past: mx.array) -> tuple[mx.array, mx.array]:
        y, past = self.narrow.step(elu(x), past)
        return x + self.wide(elu(y)), past


class StageState(NamedTuple):
    residual: mx.array  # (B, residual_kernel - 1, channels)
    downsample: mx.array  # (B, ratio, channels)


class Stage(nn.Module):
    """A residual unit and a strided convolution: (B, T*ratio, channels) -> (B, T, 2*channels)."""

    def __init__(self, channels: int, ratio: int, config: MimiConfig) -> None:
        super().__init__()
        self.residual = Residual(channels, config)
        self.downsample = CausalConv1d(channels, 2 * channels, 2 * ratio, ratio)

    def init_state(self, batch: int) -> StageState:
        return StageState(self.residual.narrow.init_state(batch), self.downsample.init_state(batch))

    def step(self, x: mx.array, state: StageState) -> tuple[mx.array, StageState]:
        x, residual = self.residual.step(x, state.residual)
        x, downsample = self.downsample.step(elu(x), state.downsample)
        return x, StageState(residual, downsample)


class EncoderState(NamedTuple):
    first: mx.array  # (B, kernel - 1, 1)
    stages: tuple[StageState, ...]
    last: mx.array  # (B, last_kernel - 1, channels)


class Encoder(nn.Module):
    """The convolutional front (SEANet): (B, T*960, 1) -> (B, T, dim)."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        channels = config.filters
        self.first = CausalConv1d(1, channels, config.kernel)
        self.stages = []
        for ratio in config.ratios:
            self.stages.append(Stage(channels, ratio, config))
            channels *= 2
        self.last = CausalConv1d(channels, config.transformer.dim, config.last_kernel)

    def init_state(self, batch: int) -> EncoderState:
        stages = tuple(stage.init_state(batch) for stage in self.stages)
        return EncoderState(self.first.init_state(batch), stages, self.last.init_state(batch))

    def step(self, x: mx.array, state: EncoderState) -> tuple[mx.array, EncoderState]:
        x, first = self.first.step(x, state.first)
        stages = []
        for stage, past in zip(self.stages, state.stages, strict=True):
            x, past = stage.step(x, past)
            stages.append(past)
        x, last = self.last.step(elu(x), state.last)
        return x, EncoderState(first, tuple(stages), last)


class FeedForward(nn.Module):
    """down(gelu(up(x))), the exact GELU: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.up = nn.Linear(config.dim, config.ffn, bias=False)
        self.down = nn.Linear(config.ffn, config.dim, bias=False)

    def __call__(self, x: mx.array) -> mx.array:
        return self.down(gelu(self.up(x)))


class Codebook(nn.Module):
    """Nearest entry: the largest of r.e - |e|^2/2, where `weight` holds the e and `bias` the -|e|^2/2."""

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        self.weight = mx.zeros((size, dim))
        self.bias = mx.zeros((size,))

    def __call__(self, x: mx.array) -> mx.array:
        """(B, T, dim) -> (B, T) ids."""
        return mx.argmax(mx.addmm(self.bias, x, self.weight.T), axis=-1)


class ResidualQuantizer(nn.Module):
    """Codes of a latent, each codebook coding what the ones before left: (B, T, dim) -> K times (B, T)."""

    def __init__(self, dim: int, codebooks: int, config: MimiConfig) -> None:
        super().__init__()
        self.projection = nn.Linear(dim, config.codebook_dim, bias=False)
        self.codebooks = [Codebook(config.codebook_size, config.codebook_dim) for _ in range(codebooks)]

    def __call__(self, x: mx.array) -> list[mx.array]:
        rest = self.projection(x)
        codes = []
        for codebook in self.codebooks:
            codes.append(codebook(rest))
            rest = rest - codebook.weight[codes[-1]]
        return codes


class MimiState(NamedTuple):
    encoder: EncoderState
    transformer: TransformerState
    downsample: mx.array  # (B, 2, dim)


class Mimi(nn.Module):
    """Sound to codes: (B, n * 1920, 1) -> (B, n, codebooks)."""

    def __init__(self, config: MimiConfig) -> None:
        super().__init__()
        inner = config.transformer
        self.encoder = Encoder(config)
        self.transformer = Transformer(
            inner, lambda: nn.LayerNorm(inner.dim, eps=inner.norm_eps), lambda: FeedForward(inner)
        )
        self.downsample = CausalConv1d(inner.dim, inner.dim, 2 * POSITIONS_PER_FRAME, POSITIONS_PER_FRAME, bias=False)
        self.semantic = ResidualQuantizer(inner.dim, 1, config)
        self.acoustic = ResidualQuantizer(inner.dim, config.codebooks - 1, config)

    def init_state(self, batch: int, max_block: int) -> MimiState:
        """A state for blocks of up to `max_block` frames."""
        transformer = self.transformer.init_state(batch, POSITIONS_PER_FRAME * max_block)
        return MimiState(self.encoder.init_state(batch), transformer, self.downsample.init_state(batch))

    def step(self, sound: mx.array, state: MimiState) -> tuple[mx.array, MimiState]:
        """Codes of the next frames, int32."""
        x, encoder = self.encoder.step(sound, state.encoder)
        is_first = state.transformer.offset == 0
        x, transformer = self.transformer.step(x, state.transformer)
        # Only here the codec starts on copies of its first input instead of zeros (facts sheet 3.4).
        past = mx.where(is_first[:, None, None], x[:, :1], state.downsample)
        x, downsample = self.downsample.step(x, past)
        # Both quantisers code the same latent (facts sheet 3.5).
        codes = mx.stack([*self.semantic(x), *self.acoustic(x)], axis=-1)
        return codes.astype(mx.int32), MimiState(encoder, transformer, downsample)

    def rebase(self, state: MimiState) -> MimiState:
        """See `Transformer.rebase`."""
        return state._replace(transformer=self.transformer.rebase(state.transformer))
