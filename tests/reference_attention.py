"""Attention and convolution as their definitions say, in NumPy float64, for the whole input at once.

In: arrays and weights. Out: arrays. An independent reference for the streaming layers: no rings, no blocks, no state.
"""

from __future__ import annotations

import numpy as np


def causal_conv(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, stride: int) -> np.ndarray:
    """(T*stride, in) -> (T, out) with kernel - stride zeros on the left; weight (out, kernel, in)."""
    kernel = weight.shape[1]
    padded = np.concatenate([np.zeros((kernel - stride, x.shape[1])), x])
    starts = range(0, len(padded) - kernel + 1, stride)
    return np.stack([np.einsum("ki,oki->o", padded[start : start + kernel], weight) + bias for start in starts])


def rotate_pairs(x: np.ndarray, base: float) -> np.ndarray:
    """Rotary embedding of (T, H, D) at positions 0..T-1, in interleaved pairs."""
    T, _, D = x.shape
    angles = np.arange(T)[:, None] * base ** (-np.arange(0, D, 2) / D)
    turned = (x[..., 0::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def windowed_attention(
    x: np.ndarray, qkv: np.ndarray, out: np.ndarray, heads: int, context: int, base: float
) -> np.ndarray:
    """(T, dim) -> (T, dim): position i sees positions i - context + 1 .. i."""
    T = len(x)
    q, k, v = (part.reshape(T, heads, -1) for part in np.split(x @ qkv.T, 3, axis=1))
    scores = np.einsum("ihd,jhd->hij", rotate_pairs(q, base), rotate_pairs(k, base)) / np.sqrt(q.shape[-1])
    distance = np.arange(T)[:, None] - np.arange(T)
    scores = np.where((distance >= 0) & (distance < context), scores, -np.inf)
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    weights /= weights.sum(axis=-1, keepdims=True)
    return np.einsum("hij,jhd->ihd", weights, v).reshape(T, -1) @ out.T
