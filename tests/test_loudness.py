"""Levels of sound against numbers worked out by hand, and what stands out of which background."""

from __future__ import annotations

from math import log10

import numpy as np
import pytest

from mlx_kstt.loudness import SILENCE, Background, level_of, stands_out

FRAME = 1_920


def loud_frames(levels: list[float], background: Background | None = None) -> list[int]:
    """The frames that stand out."""
    at, found = background or Background(), []
    for frame, level in enumerate(levels):
        loud, at = stands_out(level, at)
        found += [frame] * loud
    return found


def test_levels_are_decibels_below_full_scale() -> None:
    assert level_of(np.ones(FRAME, np.float32)) == pytest.approx(0.0)
    assert level_of(np.full(FRAME, -0.1, np.float32)) == pytest.approx(-20.0, abs=1e-4)
    sine = np.sin(2 * np.pi * np.arange(FRAME) / 96).astype(np.float32)
    assert level_of(sine) == pytest.approx(10 * log10(0.5), abs=1e-4)


@pytest.mark.parametrize("sound", [np.zeros(FRAME), np.zeros(0), np.full(FRAME, 1e-30)])
def test_silence_has_a_level_too(sound: np.ndarray) -> None:
    assert level_of(sound.astype(np.float32)) == SILENCE


def test_a_column_of_a_wider_array_has_the_same_level() -> None:
    both = np.random.default_rng(1).normal(0, 0.1, (FRAME, 2)).astype(np.float32)
    assert level_of(both.T[1]) == pytest.approx(level_of(both[:, 1].copy()), abs=1e-4)


def test_speech_stands_out_of_silence_from_the_first_frame_on() -> None:
    assert loud_frames([-30.0] * 5) == [0, 1, 2, 3, 4]
    assert loud_frames([SILENCE] * 20) == []


def test_speech_stands_out_as_long_as_it_dips_between_syllables() -> None:
    syllables = ([-25.0] * 3 + [-60.0]) * 1000
    assert loud_frames(syllables) == [frame for frame in range(4000) if frame % 4 != 3]


def test_steady_noise_becomes_background_within_its_distance_in_seconds() -> None:
    found = loud_frames([-40.0] * 1000)
    assert found == list(range(len(found)))
    assert len(found) / 12.5 == pytest.approx(-40 - 10 + 55, abs=0.1), "1 dB per second up to 10 dB below it"


def test_speech_stands_out_of_noise_that_is_ten_decibels_below() -> None:
    noise = [-45.0] * 500
    assert loud_frames([*noise, -36.0, -34.0])[-1] == 501
    assert 500 not in loud_frames([*noise, -36.0, -34.0])


def test_after_noise_has_stopped_quiet_speech_stands_out_within_half_a_second() -> None:
    assert loud_frames([-38.0] * 1000 + [-70.0] * 6 + [-50.0])[-1] == 1006


def test_the_background_has_limits() -> None:
    """Digital silence does not make a breath stand out, and loud music does not hide loud speech."""
    assert loud_frames([SILENCE] * 1000 + [-61.0, -59.0]) == [1001]
    assert len(loud_frames([-10.0] * 5000)) == 5000
