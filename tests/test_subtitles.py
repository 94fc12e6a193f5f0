"""Words to cues: the limits hold for any words, and the cuts fall where a reader wants them."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from mlx_kstt.errors import OptionError
from mlx_kstt.events import Word
from mlx_kstt.subtitles import Cue, SubtitleRules, make_cues

PIECES = [
    "a",
    "I",
    "we",
    "said",
    "yes.",
    "no,",
    "because",
    "understandable",
    "Donaudampfschifffahrtsgesellschaftskapitän!",
]


def spoken(sentence: str, *, start: float = 0.0, step: float = 0.32, lane: str | None = None) -> list[Word]:
    """The sentence at a steady pace."""
    times = [start + step * number for number in range(len(sentence.split()))]
    return [Word(text, at, at + step, 0.9, lane) for text, at in zip(sentence.split(), times, strict=True)]


def random_words(seed: int, *, lanes: tuple[str | None, ...] = (None,), crowded: bool = False) -> list[Word]:
    """Words on the 80 ms grid, with silences, and with starts that coincide where `crowded`."""
    draw = random.Random(seed)
    words, at = [], 0.08 * draw.randrange(100)
    for _ in range(draw.randrange(1, 120)):
        end = at + 0.08 * draw.choice([1, 1, 2, 4, 120])
        words.append(Word(draw.choice(PIECES), at, end, 0.5, draw.choice(lanes)))
        at = at + 0.08 * draw.randrange(3) if crowded else end + draw.choice([0, 0, 0, 0.08, 0.64, 3.2])
    return words


def random_rules(seed: int) -> SubtitleRules:
    draw = random.Random(seed)
    return SubtitleRules(
        max_line_length=draw.choice([8, 20, 42]),
        max_lines=draw.choice([1, 2, 3]),
        max_gap=draw.choice([0.0, 0.5, 1.0, 10.0]),
        min_duration=draw.choice([0.08, 1.0, 2.0]),
        max_duration=draw.choice([2.0, 7.0]),
        min_gap=draw.choice([0.0, 0.08, 0.5]),
    )


def texts(cues: list[Cue]) -> list[str]:
    return [" ".join(cue.lines) for cue in cues]


@pytest.mark.parametrize("crowded", [False, True])
@pytest.mark.parametrize("lanes", [(None,), ("Ann", "Bo")])
@pytest.mark.parametrize("seed", range(40))
def test_any_words_keep_every_limit(seed: int, lanes: tuple[str | None, ...], crowded: bool) -> None:
    words, rules = random_words(seed, lanes=lanes, crowded=crowded), random_rules(seed)
    cues = make_cues(words, rules)
    shown = [(text, cue.lane) for cue in cues for text in " ".join(cue.lines).split()]
    assert shown == [(word.text, word.lane) for word in words]
    assert all(cue.end - cue.start >= 80 for cue in cues)
    assert all(cue.end - cue.start <= 1000 * rules.max_duration for cue in cues)
    assert all(before.end <= after.start for before, after in pairwise(cues))
    for cue in cues:
        assert len(cue.lines) <= rules.max_lines
        room = rules.max_line_length - (len(f"{cue.lane}: ") if cue.lane else 0)
        assert all(len(line) <= rules.max_line_length or " " not in line for line in cue.lines)
        assert len(cue.lines[0]) <= room or " " not in cue.lines[0]


@pytest.mark.parametrize("seed", range(40))
def test_cues_follow_the_words_and_leave_the_gap(seed: int) -> None:
    words, rules = random_words(seed), random_rules(seed)
    starts = {round(word.start * 1000) for word in words}
    cues = make_cues(words, rules)
    assert {cue.start for cue in cues} <= starts
    assert cues[0].start == min(starts)
    for before, after in pairwise(cues):
        assert after.start - before.end >= 1000 * rules.min_gap or before.end - before.start == 80


@pytest.mark.parametrize("seed", range(40))
def test_no_cue_spans_a_long_silence(seed: int) -> None:
    words, rules = random_words(seed), random_rules(seed)
    left = iter(words)
    for cue in make_cues(words, rules):
        inside = [next(left) for _ in " ".join(cue.lines).split()]
        assert all(after.start - before.end <= rules.max_gap + 1e-6 for before, after in pairwise(inside))


def test_a_cue_ends_with_its_sentence() -> None:
    words = spoken("We had to leave the old house in the spring. Nobody knew when the family would come back to it.")
    assert texts(make_cues(words, SubtitleRules())) == [
        "We had to leave the old house in the spring.",
        "Nobody knew when the family would come back to it.",
    ]


def test_a_cue_ends_with_its_clause_where_no_sentence_ends() -> None:
    words = spoken(
        "when the long summer was over and the last of the boats had gone, we closed the doors for the winter"
    )
    assert texts(make_cues(words, SubtitleRules())) == [
        "when the long summer was over and the last of the boats had gone,",
        "we closed the doors for the winter",
    ]


def test_short_sentences_share_a_cue() -> None:
    assert texts(make_cues(spoken("Yes. I know. Go on."), SubtitleRules())) == ["Yes. I know. Go on."]


def test_a_sentence_of_three_cues_leaves_no_orphan() -> None:
    words = spoken(" ".join(["house"] * 29), step=0.2)
    assert [len(text.split()) for text in texts(make_cues(words, SubtitleRules()))] == [9, 10, 10]


def test_a_closing_quote_still_ends_the_sentence() -> None:
    words = spoken(
        'He turned to the crowd and said "we are never going back." Then all of them went home without a word.'
    )
    assert texts(make_cues(words, SubtitleRules()))[0].endswith('back."')


def test_lines_are_balanced_and_as_few_as_can_be() -> None:
    (cue,) = make_cues(spoken("one two three four five six seven eight nine ten", step=0.2), SubtitleRules())
    assert cue.lines == ("one two three four five", "six seven eight nine ten")
    (cue,) = make_cues(spoken("one two three four five six seven eight"), SubtitleRules())
    assert cue.lines == ("one two three four five six seven eight",)


def test_a_word_longer_than_a_line_stays_whole() -> None:
    (cue,) = make_cues(spoken("der Donaudampfschifffahrtsgesellschaftskapitän"), SubtitleRules(max_line_length=10))
    assert cue.lines == ("der", "Donaudampfschifffahrtsgesellschaftskapitän")


def test_a_silence_longer_than_the_limit_begins_a_cue() -> None:
    words = [Word("one", 0.0, 0.4, 1.0), Word("two", 1.4, 1.8, 1.0), Word("three", 2.84, 3.2, 1.0)]
    assert texts(make_cues(words, SubtitleRules(max_gap=1.0))) == ["one two", "three"]


def test_a_short_cue_stays_on_screen_until_the_next_one_needs_it() -> None:
    alone = [Word("Yes.", 2.0, 2.08, 1.0)]
    assert make_cues(alone, SubtitleRules()) == [Cue(2000, 3000, None, ("Yes.",))]
    followed = [*alone, Word("No.", 2.56, 2.64, 1.0)]
    assert make_cues(followed, SubtitleRules(max_gap=0.1)) == [
        Cue(2000, 2480, None, ("Yes.",)),
        Cue(2560, 3560, None, ("No.",)),
    ]


def test_the_gap_is_given_up_before_a_cue_vanishes() -> None:
    words = [
        Word("Yes.", 2.0, 2.08, 1.0, "Ann"),
        Word("No.", 2.08, 2.16, 1.0, "Bo"),
        Word("Oh.", 2.08, 2.4, 1.0, "Ann"),
    ]
    times = [(cue.start, cue.end) for cue in make_cues(words, SubtitleRules())]
    assert times == [(2000, 2080), (2080, 2160), (2160, 3160)]


def test_words_of_two_lanes_never_share_a_cue() -> None:
    words = [*spoken("How are you?", lane="Ann"), *spoken("Well, thanks.", start=0.96, lane="Bo")]
    cues = make_cues(words, SubtitleRules())
    assert [(cue.lane, " ".join(cue.lines)) for cue in cues] == [("Ann", "How are you?"), ("Bo", "Well, thanks.")]


def test_the_label_takes_its_room_in_the_first_line() -> None:
    words = spoken("one two three four", lane="Annabel", step=0.2)
    (cue,) = make_cues(words, SubtitleRules(max_line_length=16))
    assert cue.lines == ("one", "two three four")


def test_white_space_in_a_word_is_reduced_and_a_word_without_text_is_left_out() -> None:
    words = [Word("a\n\nb\tc", 0.0, 0.4, 1.0), Word(" ", 0.4, 0.5, 1.0), Word("d\u2028e", 0.5, 0.8, 1.0)]
    assert texts(make_cues(words, SubtitleRules())) == ["a b c d e"]


def test_no_words_make_no_cues() -> None:
    assert make_cues([], SubtitleRules()) == []


@pytest.mark.parametrize(
    ("name", "value", "least"),
    [
        ("max_line_length", 0, "1"),
        ("max_lines", 0, "1"),
        ("max_gap", -0.1, "0"),
        ("min_duration", 0.0, "0.08"),
        ("max_duration", 0.5, "1.0"),
        ("max_duration", float("inf"), "1.0"),
        ("min_gap", float("nan"), "0"),
    ],
)
def test_a_rule_out_of_range_is_refused(name: str, value: float, least: str) -> None:
    with pytest.raises(OptionError, match=f"{name} is {value}, and must be a number of at least {least}"):
        SubtitleRules(**{name: value})  # type: ignore[arg-type]
