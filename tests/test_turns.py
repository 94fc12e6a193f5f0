"""Pauses and ends of turns from scripted frames: by a pause head, and by the sound."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from mlx_kstt.turns import HOLD, TurnDetector, TurnState

LIKELY, UNLIKELY = (0.9, 0.6), (0.9, 0.1)
"""Probabilities of two heads; the second one decides."""


class Heard(NamedTuple):
    pauses: list[tuple[int, int]]  # frame at which a pause is told, and frames since it began
    ends: list[tuple[int, int]]  # the same of turns


def run(detector: TurnDetector, script: str) -> Heard:
    """A letter per frame: "." nothing, "p" the model feels a pause, "s" sound, "P" both; "w" text, "t" text in a felt
    pause, "W" text and sound.
    """
    state, heard = TurnState(), Heard([], [])
    for frame, letter in enumerate(script):
        probabilities = LIKELY if letter in "pPt" else UNLIKELY
        state = detector.step(probabilities, letter in "sPW", letter in "wtW", state)
        if detector.begins_pause(state):
            heard.pauses.append((frame, detector.began(state)))
            state = state._replace(told=True)
        if detector.ends_turn(state):
            heard.ends.append((frame, detector.began(state)))
            state = state._replace(loud=0, text=False, told=True, over=True)
    return heard


def by_head(hold: float = HOLD) -> TurnDetector:
    return TurnDetector(head=1, threshold=0.5, hold=hold)


def by_sound(hold: float = HOLD) -> TurnDetector:
    return TurnDetector(head=None, threshold=0.5, hold=hold)


def test_a_pause_is_told_at_once_and_ends_the_turn_after_the_hold() -> None:
    assert run(by_head(), "ssWsspppppppp") == ([(5, 1)], [(8, 4)])


def test_in_the_sound_a_pause_begins_with_the_silence() -> None:
    """Told after 0.8 s in which nothing stood out; the hold comes on top."""
    assert run(by_sound(), "ssWs" + "." * 30) == ([(13, 10)], [(16, 13)])


def test_the_other_head_and_its_probability_do_not_matter() -> None:
    assert run(TurnDetector(head=0, threshold=0.5, hold=HOLD), "ssW......") == ([(2, 3)], [(3, 4)])
    assert run(TurnDetector(head=1, threshold=0.6, hold=HOLD), "ssWpppppp") == ([], []), "above, not at the threshold"


@pytest.mark.parametrize(("hold", "frames"), [(0.0, 1), (0.08, 1), (0.16, 2), (0.32, 4), (0.5, 7), (1.0, 13)])
def test_the_hold_is_so_many_whole_frames(hold: float, frames: int) -> None:
    assert run(by_head(hold), "sWs" + "p" * 30).ends == [(2 + frames, frames)]
    assert run(by_sound(hold), "sWs" + "." * 40).ends == [(2 + 9 + frames, 9 + frames)]


def test_dictated_digits_are_one_turn() -> None:
    """0.24 s of silence between digits, against a hold of 0.32 s."""
    digits = "sWsppp" * 10
    assert len(run(by_head(), digits).pauses) == 10
    assert run(by_head(), digits + "ppp").ends == [(60, 4)]
    assert run(by_sound(), "sWs........." * 10 + "....").ends == [(123, 13)]


@pytest.mark.parametrize("detector", [by_head(), by_sound()])
def test_silence_before_anybody_has_spoken_is_neither(detector: TurnDetector) -> None:
    assert run(detector, "p" * 200) == ([], [])


def test_a_click_is_no_speech_but_speech_without_text_may_yet_have_been_said() -> None:
    assert run(by_head(), "ss" + "p" * 20) == ([], [])
    assert run(by_head(), "sss" + "p" * 20) == ([], [(6, 4)])
    assert run(by_sound(), "sss" + "." * 20) == ([], [(15, 13)])


def test_text_that_comes_in_the_pause_tells_it_late_and_the_turn_ends_once() -> None:
    assert run(by_head(), "sssppppppt" + "p" * 20) == ([], [(6, 4)]), "the turn is over: the pause has been told"
    assert run(by_head(), "..pPpPtpppp") == ([(6, 5)], [(6, 5)])


def test_each_pause_is_told_once_however_long() -> None:
    assert run(by_head(1.0), "Wppp.pppp.pp" + "." * 5 + "p" * 12).pauses == [(1, 1), (5, 1), (10, 1), (17, 1)]


def test_the_next_turn_needs_speech_of_its_own() -> None:
    assert run(by_head(), "Wpppppp...ppppp").ends == [(4, 4)]
    assert run(by_head(), "Wpppppp.s.ppppp").ends == [(4, 4)]
    assert run(by_head(), "Wpppppp.W.ppppp") == ([(1, 1), (10, 1)], [(4, 4), (13, 4)])


def test_speech_that_goes_on_ends_no_turn_though_the_model_feels_a_pause() -> None:
    """The head decides, but a hesitation shorter than the hold does not."""
    assert run(by_head(), "WsPPPsPPPsPPP").ends == []
    assert run(by_sound(), "WPPPPPPPPPPPPPPPP") == ([], []), "without heads only the sound counts"
