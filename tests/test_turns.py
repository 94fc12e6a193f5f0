"""Pauses and ends of turns from scripted probabilities."""

from __future__ import annotations

from mlx_kstt.events import EndOfTurn, Event, Pause, Word
from mlx_kstt.turns import TurnDetector, TurnState

HOLD = 10
"""Frames that a pause must exceed: a delay of 0.5 s is 7, and 3 PADs end a word."""


def word(text: str, start: float = 0.0) -> Word:
    return Word(text, start, start + 0.08, 1.0)


def run(probabilities: list[float], words: dict[int, Word], prefix: float = 0.0) -> list[tuple[int, Event]]:
    """Frame and event of all that a detector on head 1 says."""
    detector, state = TurnDetector(head=1, threshold=0.5, delay=0.5, prefix=prefix), TurnState()
    said: list[tuple[int, Event]] = []
    for frame, probability in enumerate(probabilities):
        events = [words[frame]] if frame in words else []
        new, state = detector.step((0.9, probability), events, state)
        said += [(frame, event) for event in new]
    return said


def test_a_pause_is_told_at_once_and_the_turn_ends_when_its_words_are_out() -> None:
    said = run([0.1] * 5 + [0.8] * 20, {3: word("hello"), 9: word("there", 0.3)})
    assert said == [(5, Pause(0.4, (0.9, 0.8))), (5 + HOLD, EndOfTurn(0.4, "hello there"))]


def test_a_hesitation_does_not_end_the_turn() -> None:
    said = run(([0.1] * 5 + [0.8] * HOLD) * 2 + [0.1], {3: word("one")})
    assert [type(event) for _, event in said] == [Pause, Pause]


def test_silence_without_words_is_neither() -> None:
    assert run([0.9] * 50, {}) == []


def test_a_pause_before_its_words_are_out_is_told_when_they_are() -> None:
    said = run([0.8] * 30, {6: word("yes")})
    assert said == [(6, Pause(0.0, (0.9, 0.8))), (HOLD, EndOfTurn(0.0, "yes"))]


def test_each_turn_has_its_own_words() -> None:
    probabilities = [0.1] * 5 + [0.8] * 15 + [0.1] * 5 + [0.8] * 15
    said = run(probabilities, {2: word("one"), 22: word("two", 1.5)})
    assert [event.text for _, event in said if isinstance(event, EndOfTurn)] == ["one", "two"]


def test_a_revised_word_stands_once() -> None:
    said = run([0.1] * 5 + [0.8] * 15, {2: word("dog"), 4: word("dogs")})
    assert [event.text for _, event in said if isinstance(event, EndOfTurn)] == ["dogs"]


def test_a_word_that_is_revised_after_its_turn_stays_out_of_the_next() -> None:
    probabilities = [0.1] * 5 + [0.8] * 15 + [0.1] * 5 + [0.8] * 15
    said = run(probabilities, {2: word("dog", 1.0), 17: word("dogs", 1.0), 22: word("bark", 2.0)})
    assert [event.text for _, event in said if isinstance(event, EndOfTurn)] == ["dog", "bark"]


def test_the_prefix_is_not_the_users_time() -> None:
    said = run([0.1] * 20 + [0.8] * 15, {15: word("hello")}, prefix=1.0)
    assert [event.time for _, event in said if isinstance(event, Pause | EndOfTurn)] == [0.6, 0.6]
