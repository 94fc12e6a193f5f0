"""Shares, divergences and word edits, against formulas that are written out and texts that are counted by hand."""

from __future__ import annotations

from math import exp, fsum, isnan, log

import numpy as np
import pytest

from mlx_kstt.distances import Share, equal_share, kl_divergence, plain_words, word_edits


def kl_written_out(source: list[float], result: list[float]) -> float:
    """The definition: sum of p ln(p / q), in exact sums."""
    p, q = ([exp(x - max(side)) for x in side] for side in (source, result))
    return fsum(a / fsum(p) * log((a / fsum(p)) / (b / fsum(q))) for a, b in zip(p, q, strict=True))


def test_divergence_is_the_definitions() -> None:
    random = np.random.default_rng(3)
    source, result = (random.normal(0, 3, (600, 37)).astype(np.float32) for _ in range(2))
    expected = [kl_written_out(p.tolist(), q.tolist()) for p, q in zip(source, result, strict=True)]
    assert kl_divergence(source, result) == pytest.approx(expected, rel=1e-12)
    assert min(expected) > 0.1


def test_divergence_of_known_coins() -> None:
    """A fair coin from one that falls on heads three times of four: ln 2 - ln 3 / 2, and the other way round."""
    fair, bent = np.zeros((1, 2)), np.log([[3.0, 1.0]])
    assert kl_divergence(fair, bent)[0] == pytest.approx(log(2) - log(3) / 2, abs=1e-15)
    assert kl_divergence(bent, fair)[0] == pytest.approx(0.75 * log(3) - log(2), abs=1e-15)


def test_divergence_is_0_of_equals_and_finite_of_opposites() -> None:
    """Logits hundreds apart would be 0 and infinite as probabilities; a shift of all logits says nothing."""
    logits = np.array([[300.0, -300.0, 0.0], [1.0, 2.0, 3.0]], np.float32)
    assert kl_divergence(logits, logits).tolist() == [0, 0]
    assert kl_divergence(logits, logits + 1000).tolist() == [0, 0]
    assert kl_divergence(logits[:1], -logits[:1]).tolist() == [600]


@pytest.mark.parametrize(
    ("said", "heard", "edits"),
    [
        ("", "", 0),
        ("", "one two", 2),
        ("one two", "", 2),
        ("the cat sat", "the cat sat", 0),
        ("the cat sat", "the bat sat", 1),
        ("the cat sat", "cat sat down", 2),
        ("the cat sat on the mat", "the cat the mat", 2),
        ("a b c d", "b c d a", 2),
        ("a b c d", "d c b a", 4),
        ("one", "two three four", 3),
    ],
)
def test_word_edits_are_those_counted_by_hand(said: str, heard: str, edits: int) -> None:
    assert word_edits(said.split(), heard.split()) == edits
    assert word_edits(heard.split(), said.split()) == edits


def test_plain_words_have_neither_case_nor_punctuation() -> None:
    text = "It\u2019s 8 o'clock \u2013 \u00bbGUTEN Tag\u00ab, said M\u00fcller (twenty-one)\u2026 100% na\u00efve?!"
    words = ["its", "8", "oclock", "guten", "tag", "said", "m\u00fcller", "twenty", "one", "100", "na\u00efve"]
    assert plain_words(text) == words
    assert plain_words(" \u2026 -- ") == []


def test_shares_say_what_they_count() -> None:
    share = equal_share(np.array([[1, 2], [3, 4]]), np.array([[1, 2], [4, 3]]))
    assert (share, share.rate, str(share)) == (Share(2, 4), 0.5, "50.00 % (2 of 4)")
    assert str(Share(3, 0)) == "(3 of 0)" and isnan(Share(3, 0).rate)
