"""How far two models' answers are apart.

In: ids, logits and words of both. Out: shares as exact counts, divergences, word edits. Pure NumPy; knows nothing of
models, audio or files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np

_ROWS = 256
"""Distributions that are compared at once: in float64, with a vocabulary of 8000, 16 MB for each array."""
_APOSTROPHES = "'\u2019"


@dataclass(frozen=True, slots=True)
class Share:
    """So many of so many."""

    part: int
    whole: int

    @property
    def rate(self) -> float:
        """part / whole; nan where there is nothing to count."""
        return self.part / self.whole if self.whole else nan

    def __str__(self) -> str:
        rate = f"{100 * self.rate:.2f} % " if self.whole else ""
        return f"{rate}({self.part} of {self.whole})"


def equal_share(ours: np.ndarray, theirs: np.ndarray) -> Share:
    """How many entries of two arrays of one shape are equal."""
    return Share(int(np.sum(ours == theirs)), ours.size)


def kl_divergence(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    """Kullback-Leibler divergence D(source || result) in nats, position by position, in float64.

    Args:
        source, result: logits (n, vocabulary).

    Returns:
        (n,) float64: 0 where the distributions are equal.
    """
    blocks = [_kl(source[i : i + _ROWS], result[i : i + _ROWS]) for i in range(0, len(source), _ROWS)]
    return np.concatenate([np.zeros(0), *blocks])


def word_edits(said: Sequence[str], heard: Sequence[str]) -> int:
    """The fewest insertions, deletions and replacements of words that make `heard` of `said` (Levenshtein)."""
    row = np.arange(len(heard) + 1)
    steps = np.arange(len(heard) + 1)
    for word in said:
        replaced = row[:-1] + np.array([word != other for other in heard], int)
        edits = np.concatenate([row[:1] + 1, np.minimum(row[1:] + 1, replaced)])
        # Insertions go from left to right: the best of all starts, each plus its distance.
        row = np.minimum.accumulate(edits - steps) + steps
    return int(row[-1])


def plain_words(text: str) -> list[str]:
    """Words without case and punctuation: apostrophes go, other punctuation and symbols separate words."""
    kept = (c for c in unicodedata.normalize("NFKC", text).casefold() if c not in _APOSTROPHES)
    return "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in kept).split()


def _kl(source: np.ndarray, result: np.ndarray) -> np.ndarray:
    p, q = _log_softmax(source), _log_softmax(result)
    return np.maximum(np.sum(np.exp(p) * (p - q), axis=-1), 0.0)  # rounding can make it -1e-17


def _log_softmax(logits: np.ndarray) -> np.ndarray:
    x = logits.astype(np.float64)
    x -= x.max(axis=-1, keepdims=True)
    return x - np.log(np.sum(np.exp(x), axis=-1, keepdims=True))
