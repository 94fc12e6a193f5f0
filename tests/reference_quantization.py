"""What stored bytes stand for, by the definitions of the formats, in NumPy float64.

In: the arrays of a quantised layer as they are stored. Out: its weights. An independent reference: MLX takes no part.
Sources: MLX's documentation of `quantize`; OCP Microscaling Formats (MX) 1.0.
"""

from __future__ import annotations

import numpy as np

FP4 = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
"""Magnitudes of E2M1."""


def unpack(packed: np.ndarray, bits: int) -> np.ndarray:
    """(rows, words) uint32 to (rows, words * 32 / bits) integers: a stream of bits, lowest first."""
    stream = np.unpackbits(np.ascontiguousarray(packed).view(np.uint8), axis=1, bitorder="little")
    fields = stream.reshape(len(packed), -1, bits)
    return fields @ (1 << np.arange(bits))


def fp4(codes: np.ndarray) -> np.ndarray:
    return np.where(codes & 8, -1, 1) * FP4[codes & 7]


def fp8(codes: np.ndarray) -> np.ndarray:
    """E4M3 without infinities."""
    exponent, mantissa = (codes >> 3) & 15, codes & 7
    normal = (1 + mantissa / 8) * 2.0 ** (exponent - 7.0)
    return np.where(codes & 128, -1, 1) * np.where(exponent, normal, mantissa / 8 * 2.0**-6)


def dequantize(mode: str, bits: int, group_size: int, *parts: np.ndarray) -> np.ndarray:
    """(rows, inputs) float64 of weight, scales and (affine) biases."""
    packed, scales, *biases = parts
    codes = unpack(packed, bits)
    if mode == "affine":
        spread = np.repeat(scales.astype(np.float64), group_size, axis=1)
        return codes * spread + np.repeat(biases[0].astype(np.float64), group_size, axis=1)
    values = fp8(codes) if mode == "mxfp8" else fp4(codes)
    factors = fp8(scales) if mode == "nvfp4" else 2.0 ** (scales.astype(np.float64) - 127)
    return values * np.repeat(factors, group_size, axis=1)
