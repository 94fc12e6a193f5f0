"""How close to the reference is close enough.

In: our arrays and the reference's. Out: an AssertionError that says how far they are apart.
"""

from __future__ import annotations

import numpy as np


def assert_same_codes(ours: np.ndarray, theirs: np.ndarray) -> None:
    """At least 99.9 % of codes are equal: sums in another order decide a near-tie differently."""
    assert ours.shape == theirs.shape, f"{ours.shape} codes instead of {theirs.shape}"
    equal = np.mean(ours == theirs)
    assert equal >= 0.999, (
        f"only {equal:.2%} of codes are equal, first not in frame {np.argmax((ours != theirs).any(1))}"
    )


def assert_same_logits(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Within 1e-4 of the largest logit."""
    assert ours.shape == theirs.shape, f"{ours.shape} logits instead of {theirs.shape}"
    difference = np.max(np.abs(ours - theirs), axis=1) / np.max(np.abs(theirs))
    worst = np.argmax(difference)
    assert difference[worst] <= 1e-4, f"logits differ by {difference[worst]:.1e} of the largest at position {worst}"
