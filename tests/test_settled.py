"""Words told ahead of the text: none twice, none lost, by hand and over random scripts."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import pytest
from scripted_engine import final_words, frame, frame_by_frame, scripted_stream, silence, sound

from mlx_kstt.config import PAD
from mlx_kstt.events import EndOfTurn, Partial, Pause, Word
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.settled import Settled, admit, replace_revised, settle


def word(text: str, start: float, end: float | None = None, confidence: float = 0.5) -> Word:
    return Word(text, start, start + 0.16 if end is None else end, confidence)


def told(events: Sequence[Word | Partial], state: Settled) -> list[Word | Partial]:
    """What is new of the text's events."""
    found = []
    for event in events:
        new, state = admit(event, state)
        found += [] if new is None else [new]
    return found


AHEAD = settle((word("the", 1.0), word("old", 1.3), word("bridge", 1.6)), 2.0, Settled())


def test_text_without_words_ahead_passes_with_its_revisions() -> None:
    events = [Partial("dog", 1.0), word("dog", 1.0), word("dogs", 1.0), Partial("ran", 1.5), word("ran", 1.5)]
    assert told(events, Settled()) == events


def test_the_same_words_are_not_told_again() -> None:
    assert told([word("the", 1.0), word("old", 1.3), word("bridge", 1.6)], AHEAD) == []


def test_the_same_words_at_other_times_and_other_words_at_the_same_times_are_not_told_again() -> None:
    assert told([word("the", 0.84), word("old", 1.46), word("bridge", 1.92)], AHEAD) == []
    assert told([word("a", 1.08), word("gold", 1.22)], AHEAD) == []


def test_the_last_one_may_be_corrected_at_the_start_that_was_told() -> None:
    assert told([word("the", 1.0), word("old", 1.3), word("bridges", 1.68, 1.9)], AHEAD) == [word("bridges", 1.6, 1.9)]


def test_a_correction_is_told_once_and_may_be_corrected_itself() -> None:
    events = [word("brid", 1.52, 1.6), word("bridge", 1.52), word("bridges", 1.52, 1.9)]
    assert told(events, AHEAD) == [word("brid", 1.6, 1.6), word("bridge", 1.6, 1.68), word("bridges", 1.6, 1.9)]


def test_the_words_before_it_may_not() -> None:
    assert told([word("the", 1.0), word("gold", 1.3), word("golden", 1.3), word("bridge", 1.6)], AHEAD) == []


def test_a_word_that_was_left_out_in_the_middle_stays_out_and_a_later_one_is_new() -> None:
    assert told([word("uh", 0.7), word("the", 1.0), word("very", 1.45), word("bridge", 1.6)], AHEAD) == []
    assert told([word("bridge", 1.6), word("is", 1.85)], AHEAD) == [word("is", 1.85)]


def test_a_repeated_word_answers_to_its_own_first_version() -> None:
    twice = settle((word("no", 1.0), word("no", 1.3)), 1.5, Settled())
    assert told([word("no", 1.0), word("no", 1.3), word("no", 1.6)], twice) == [word("no", 1.6)]
    once = settle((word("no", 1.0),), 1.5, Settled())
    assert told([word("no", 1.0), word("no", 1.3)], once) == [word("no", 1.3)]


def test_unfinished_words_are_told_from_the_flush_point_on() -> None:
    assert told([Partial("the", 1.0), Partial("is", 1.95), Partial("it", 2.08)], AHEAD) == [Partial("it", 2.08)]


def test_a_word_after_the_flush_point_is_new_even_with_a_text_that_was_told() -> None:
    assert told([word("bridge", 2.08)], AHEAD) == [word("bridge", 2.08)]


def test_a_word_told_ahead_that_the_text_never_writes_is_forgotten_when_the_text_has_passed_it() -> None:
    """Else it would swallow a word of the next turn."""
    _, state = admit(word("you", 2.5), settle((word("the", 1.6),), 2.0, Settled()))
    state = settle((word("a", 5.0),), 5.5, state)
    assert told([word("the", 5.4)], state) == [word("the", 5.4)]


def test_what_has_been_settled_stays_so_though_a_later_flush_settles_less() -> None:
    """A second end of turn just after the first: its only word is still being spoken, and settles nothing."""
    state = settle((), 1.95, settle((word("school", 1.9),), 2.0, Settled()))
    assert told([word("school", 1.98)], state) == [], "the word that was told, a frame later"


def test_a_revision_takes_the_place_of_the_last_word_only() -> None:
    words = (word("the", 1.0), word("dog", 1.3))
    assert replace_revised(words, word("dogs", 1.3)) == (word("the", 1.0), word("dogs", 1.3))
    assert replace_revised(words, word("ran", 1.6)) == (*words, word("ran", 1.6))
    assert replace_revised((), word("a", 0.0)) == (word("a", 0.0),)


def talk(rng: random.Random, *, pieces: bool, spans: int = 40) -> np.ndarray:
    """Words, silences and speech in which the model believes in a pause, in any order and of any length."""
    parts: list[np.ndarray] = []
    for _ in range(spans):
        kind = rng.random()
        if kind < 0.6:
            more = [PAD, PAD, 203, 204] if pieces else [PAD]
            rest = [frame(rng.choice(more), pause=rng.random() < 0.2) for _ in range(rng.randrange(4))]
            parts += [frame(rng.randrange(4, 12)), *rest]
        elif kind < 0.8:
            parts.append(silence(rng.choice([1, 2, 3, 4, 5, 8, 12, 20, 30])))
        else:
            parts += [frame(rng.choice([PAD, PAD, PAD, 5, 6]), pause=True) for _ in range(rng.randrange(1, 12))]
    return sound(*parts)


def spans_of(words: list[Word]) -> list[tuple[str, float]]:
    return [(word.text, word.start) for word in words]


@pytest.mark.parametrize("heads", [4, 0])
@pytest.mark.parametrize("delay", [6, 31])
@pytest.mark.parametrize("pieces", [False, True])
@on_mlx_thread
def test_random_talk_is_told_word_for_word_as_without_forks(heads: int, delay: int, pieces: bool) -> None:
    for seed in range(25):
        rng = random.Random(seed)
        pcm = talk(rng, pieces=pieces)
        hold = rng.choice([0.0, 0.08, 0.16, 0.32, 1.0])
        plain = scripted_stream(heads=heads, delay=delay, turn_hold=hold, ahead=False)
        expected = spans_of(final_words([*plain.push(pcm), *plain.flush()]))
        stream = scripted_stream(heads=heads, delay=delay, turn_hold=hold)
        events = [event for _, event in frame_by_frame(stream, pcm)]
        assert spans_of(final_words(events)) == expected, f"seed {seed}, hold {hold}"
        check_turns(events, expected)


def check_turns(events: list, words: list[tuple[str, float]]) -> None:
    """Each pause once, turns in order, and as many words in the turns as there are words."""
    pauses = [event.time for event in events if isinstance(event, Pause)]
    assert pauses == sorted(set(pauses))
    turns = [event for event in events if isinstance(event, EndOfTurn)]
    assert [turn.time for turn in turns] == sorted(turn.time for turn in turns)
    assert sum(len(turn.text.split()) for turn in turns) == len(words)
    assert len(words) > 10
