"""Chips by name."""

from __future__ import annotations

import pytest

from mlx_kstt.chips import CHIPS, find_chip
from mlx_kstt.errors import OptionError


@pytest.mark.parametrize(
    ("name", "bandwidth"),
    [
        ("M1", 68),
        ("m3 max", 400),
        ("M3 Max 30-core", 300),
        ("m3  max 30 core", 300),
        ("Apple M4 Max", 546),
        ("M4 Max 32-core", 410),
        ("M3 ULTRA", 819),
        ("iphone 16 pro", 60),
        ("M5", 153),
    ],
)
def test_chips_by_name(name: str, bandwidth: float) -> None:
    assert find_chip(name).bandwidth == bandwidth


def test_every_chip_is_found_by_its_own_name() -> None:
    assert [find_chip(chip.name) for chip in CHIPS] == list(CHIPS)


def test_a_chip_like_no_other() -> None:
    with pytest.raises(OptionError) as caught:
        find_chip("Pentium")
    assert "known are M1, M1 Pro, " in str(caught.value)
