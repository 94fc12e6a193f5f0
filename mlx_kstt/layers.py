"""Streaming layers: each has `init_state(batch, ...)` and a pure `step(x, state) -> (y, state)`.

In: arrays (batch, time, channels) of any length, with the state that the call before gave back. Out: the same, for as
many steps. A state is an array or a NamedTuple of states, its shapes never change, and every entry of a fresh one is
zero. Knows nothing of codecs, text or audio.

The attention window is a ring: position p lives in slot p % C, C = context + max_block - 1, so that a block of up to
max_block positions can be written before it is read and every query still finds its whole window. Masks come from
positions, never from the order of slots. Each batch row has its own position.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

import mlx.core as mx
import mlx.nn as nn
from mlx.utils import tree_map

from .config import TransformerConfig

# Rotary angles lose precision as positions grow: rows are moved back before they pass this many positions.
_REBASE_AT = 2**11
_REBASE_AT_CAPACITIES = 4

S = TypeVar("S")


def reset_rows(state: S, rows: mx.array) -> S:
    """The state with some batch rows as on the first day.

    Args:
        state: state of any layer.
        rows: (B,) bool, true where a row starts afresh.
    """

    def clear(x: mx.array) -> mx.array:
        return mx.where(rows.reshape(-1, *[1] * (x.ndim - 1)), mx.array(0, x.dtype), x)

    return tree_map(clear, state)


# MLX's own activations are compiled, which on the CPU starts a C++ compiler, and fails where it cannot write.


def elu(x: mx.array) -> mx.array:
    """x where positive, else exp(x) - 1."""
    return mx.where(x > 0, x, mx.exp(x) - 1)


def gelu(x: mx.array) -> mx.array:
    """The exact GELU."""
    return x * (1 + mx.erf(x / 2**0.5)) / 2


def silu(x: mx.array) -> mx.array:
    """x * sigmoid(x)."""
    return x * mx.sigmoid(x)


class CausalConv1d(nn.Module):
    """Convolution that sees only the past: (B, T*stride, in) -> (B, T, out), with kernel >= stride.

    The state holds the last kernel - stride inputs, zeros at first.
    """

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, bias: bool = True) -> None:
        super().__init__()
        self.weight = mx.zeros((outputs, kernel, inputs))
        if bias:
            self.bias = mx.zeros((outputs,))
        self._stride = stride

    def init_state(self, batch: int) -> mx.array:
        """(B, kernel - stride, in) float32."""
        _, kernel, inputs = self.weight.shape
        return mx.zeros((batch, kernel - self._stride, inputs))

    def step(self, x: mx.array, past: mx.array) -> tuple[mx.array, mx.array]:
        x = mx.concatenate([past, x], axis=1)
        y = mx.conv1d(x, self.weight, stride=self._stride)
        if "bias" in self:
            y = y + self.bias
        return y, x[:, x.shape[1] - past.shape[1] :]


class Ring(NamedTuple):
    """What attention remembers. Keys are stored rotated."""

    keys: mx.array  # (B, H, C, D)
    values: mx.array  # (B, H, C, D)


class Positions(NamedTuple):
    """Where a block of T positions stands; one for all layers of a step."""

    offset: mx.array  # (B,) int32: position of the block's first entry
    slots: mx.array  # (B, 1, T, 1) int32: where it is written
    mask: mx.array  # (B, 1, T, C) bool: what it sees


def positions(offset: mx.array, length: int, capacity: int, context: int) -> Positions:
    """Slots and mask of `length` new positions from `offset` (B,) on, in a ring of `capacity` slots."""
    queries = offset[:, None] + mx.arange(length)
    last = queries[:, -1:]
    keys = last - (last - mx.arange(capacity)) % capacity  # the newest position that each slot can hold
    keys, rows = keys[:, None], queries[:, :, None]
    mask = (keys <= rows) & (keys > rows - context) & (keys >= 0)
    return Positions(offset, (queries % capacity)[:, None, :, None], mask[:, None])


class Attention(nn.Module):
    """Causal multi-head attention over a sliding window, rotary in interleaved pairs: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        width = config.heads * config.head_dim
        self.qkv = nn.Linear(config.dim, 3 * width, bias=False)
        self.out = nn.Linear(width, config.dim, bias=False)
        self._config = config

    def init_state(self, batch: int, capacity: int, dtype: mx.Dtype) -> Ring:
        shape = (batch, self._config.heads, capacity, self._config.head_dim)
        return Ring(mx.zeros(shape, dtype), mx.zeros(shape, dtype))

    def step(self, x: mx.array, at: Positions, ring: Ring) -> tuple[mx.array, Ring]:
        B, T, _ = x.shape
        H, D = self._config.heads, self._config.head_dim
        qkv = self.qkv(x).reshape(B, T, 3 * H, D).transpose(0, 2, 1, 3)
        qk = self.rotate(qkv[:, : 2 * H], at.offset)
        q, k, v = qk[:, :H], qk[:, H:], qkv[:, 2 * H :]
        ring = Ring(
            mx.put_along_axis(ring.keys, at.slots, k, axis=2), mx.put_along_axis(ring.values, at.slots, v, axis=2)
        )
        y = mx.fast.scaled_dot_product_attention(q, ring.keys, ring.values, scale=D**-0.5, mask=at.mask)
        return self.out(y.transpose(0, 2, 1, 3).reshape(B, T, H * D)), ring

    def rotate(self, x: mx.array, offset: mx.array, *, backwards: bool = False) -> mx.array:
        """Rotary embedding of (B, H, T, D) at positions offset (B,) + 0..T-1."""
        # Not a negative offset: Metal's kernel counts positions without a sign.
        scale = -1.0 if backwards else 1.0
        base, dims = self._config.rope_base, self._config.head_dim
        return mx.fast.rope(x, dims, traditional=True, base=base, scale=scale, offset=offset)


class Block(nn.Module):
    """A pre-norm transformer block: (B, T, dim) -> (B, T, dim)."""

    def __init__(self, attention: Attention, norm: Callable[[], nn.Module], mlp: nn.Module) -> None:
        super().__init__()
        self.norm1 = norm()
        self.attention = attention
        self.norm2 = norm()
        self.mlp = mlp

    def step(self, x: mx.array, at: Positions, ring: Ring) -> tuple[mx.array, Ring]:
        y, ring = self.attention.step(self.norm1(x), at, ring)
        x = x + y
        return x + self.mlp(self.norm2(x)), ring


class TransformerState(NamedTuple):
    """Where each row stands and what each layer remembers."""

    offset: mx.array  # (B,) int32: positions seen so far
    rings: tuple[Ring, ...]


class Transformer(nn.Module):
    """Causal transformer with a sliding window: (B, T, dim) -> (B, T, dim), T <= max_block."""

    def __init__(self, config: TransformerConfig, norm: Callable[[], nn.Module], mlp: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.layers = [Block(Attention(config), norm, mlp()) for _ in range(config.layers)]
        self._config = config

    def init_state(self, batch: int, max_block: int, dtype: mx.Dtype = mx.float32) -> TransformerState:
        """A state for blocks of up to `max_block` positions; the rings have the dtype of the activations."""
        capacity = self._config.context + max_block - 1
        rings = tuple(layer.attention.init_state(batch, capacity, dtype) for layer in self.layers)
        return TransformerState(mx.zeros((batch,), mx.int32), rings)

    def step(self, x: mx.array, state: TransformerState) -> tuple[mx.array, TransformerState]:
        """One block.

        Raises:
            ValueError: the block is longer than the max_block of the state.
        """
        capacity, longest = self._capacity(state), self._max_block(state)
        if x.shape[1] > longest:
            raise ValueError(f"a block of {x.shape[1]} positions, but the state was opened for at most {longest}")
        at = positions(state.offset, x.shape[1], capacity, self._config.context)
        rings = []
        for layer, ring in zip(self.layers, state.rings, strict=True):
            x, ring = layer.step(x, at, ring)
            rings.append(ring)
        return x, TransformerState(state.offset + x.shape[1], tuple(rings))

    def rebase_period(self, state: TransformerState) -> int:
        """Positions after which `rebase` must be called again: more than a window, so that no key is moved twice."""
        return max(_REBASE_AT, _REBASE_AT_CAPACITIES * self._capacity(state)) // 2

    def rebase(self, state: TransformerState) -> TransformerState:
        """Move rows that have come far back towards zero: equal answers, small rotary angles.

        The shift is a multiple of the ring's capacity, so that slots stay where they are, and each key is rotated back
        by as much. A row that has not come far is left alone; a shifted one stays past its first lap, so no mask
        changes.
        """
        capacity = self._capacity(state)
        laps = mx.maximum(state.offset // capacity - 1, 0)
        shift = mx.where(state.offset >= self.rebase_period(state), laps * capacity, 0)
        rings = tuple(
            Ring(self._rotate_back(layer.attention, ring.keys, shift), ring.values)
            for layer, ring in zip(self.layers, state.rings, strict=True)
        )
        return TransformerState(state.offset - shift, rings)

    def _rotate_back(self, attention: Attention, keys: mx.array, shift: mx.array) -> mx.array:
        B, H, C, D = keys.shape
        return attention.rotate(keys.reshape(B, H * C, 1, D), shift, backwards=True).reshape(B, H, C, D)

    def _capacity(self, state: TransformerState) -> int:
        return state.rings[0].keys.shape[2]

    def _max_block(self, state: TransformerState) -> int:
        return self._capacity(state) - self._config.context + 1
