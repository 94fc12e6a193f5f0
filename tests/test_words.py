"""Words, times and confidence from ids, by the rules of words.py, with a vocabulary written down here."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
import tokenizers
from tokenizers import decoders, models

import mlx_kstt
from mlx_kstt.events import Event, Partial, Word
from mlx_kstt.tokenizer import JsonTokenizer, Tokenizer
from mlx_kstt.words import WordBuilder, WordState

PIECES = ["<unk>", "<s>", "</s>", "<pad>", "▁the", "▁dog", "s", "▁", "▁caf", "<0xC3>", "<0xA9>", "ing", "▁a"]
THE, DOG, S, LONE, CAF, C3, A9, ING, A = range(4, 13)
PAD, MARK = 3, 0


class FakeTokenizer:
    """SentencePiece's decoding rules for PIECES."""

    size = len(PIECES)

    def piece(self, id: int) -> str:
        return PIECES[id]

    def decode(self, ids) -> str:
        raw = b""
        for id in ids:
            piece = PIECES[id]
            raw += bytes([int(piece[3:5], 16)]) if piece.startswith("<0x") else piece.replace("▁", " ").encode()
        text = raw.decode("utf-8", "replace")
        return text[1:] if text.startswith(" ") else text

    def encode(self, text: str) -> list[int]:
        raise AssertionError("words never encode")


def events_of(
    ids: list[int], delay: float = 0.0, prefix: float = 0.0, tokenizer: Tokenizer | None = None
) -> list[Event]:
    builder, state = WordBuilder(tokenizer or FakeTokenizer(), delay, prefix), WordState()
    events: list[Event] = []
    for id in ids:
        new, state = builder.step(id, math.log(0.5), state)
        events += new
    return events + builder.flush(state)[0]


def words_of(ids: list[int], delay: float = 0.0, prefix: float = 0.0, tokenizer: Tokenizer | None = None) -> list[Word]:
    """Final words: a later one with the same start replaces the earlier."""
    words: dict[float, Word] = {}
    for event in events_of(ids, delay, prefix, tokenizer):
        if isinstance(event, Word):
            words[event.start] = event
    return list(words.values())


def spans(ids: list[int], delay: float = 0.0, prefix: float = 0.0) -> list[tuple[str, float, float]]:
    return [(word.text, word.start, word.end) for word in words_of(ids, delay, prefix)]


def test_a_word_starts_at_its_marker_and_ends_a_frame_past_its_last_piece() -> None:
    assert spans([PAD, MARK, THE, PAD, PAD, MARK, DOG, S, PAD]) == [("the", 0.08, 0.24), ("dogs", 0.40, 0.64)]


def test_without_a_marker_a_word_starts_a_frame_before_its_first_piece() -> None:
    assert spans([PAD, PAD, THE, DOG, PAD]) == [("the", 0.08, 0.16), ("dog", 0.16, 0.32)]


def test_the_last_of_several_markers_counts_and_a_marker_waits_for_its_piece() -> None:
    assert spans([MARK, MARK, PAD, THE]) == [("the", 0.08, 0.32)]


def test_delay_and_prefix_are_subtracted_and_the_grid_is_exact() -> None:
    ids = [PAD] * 50 + [MARK, THE]
    assert spans(ids, delay=2.5, prefix=1.0) == [("the", 0.5, 0.66)]


def test_times_are_never_negative_and_two_words_never_share_a_start() -> None:
    ids = [MARK, THE, MARK, DOG, MARK, THE]
    assert spans(ids, delay=2.5, prefix=1.0) == [("the", 0.0, 0.0), ("dog", 0.08, 0.08), ("the", 0.16, 0.16)]


def test_confidence_is_the_geometric_mean_over_the_pieces() -> None:
    builder, state = WordBuilder(FakeTokenizer(), 0, 0), WordState()
    for id, probability in ((MARK, 0.01), (DOG, 0.9), (PAD, 0.01), (S, 0.4)):
        _, state = builder.step(id, math.log(probability), state)
    ((word,), _) = builder.flush(state)
    assert isinstance(word, Word)
    assert word.confidence == pytest.approx(math.sqrt(0.9 * 0.4))


def test_a_word_comes_out_at_the_next_marker_or_after_three_pads_and_once() -> None:
    builder, state = WordBuilder(FakeTokenizer(), 0, 0), WordState()
    told: list[list[str]] = []
    for id in [MARK, THE, MARK, DOG, PAD, PAD, PAD, PAD, MARK, PAD, PAD, PAD]:
        events, state = builder.step(id, 0.0, state)
        told.append([event.text for event in events if isinstance(event, Word)])
    assert told == [[], [], ["the"], [], [], [], ["dog"], [], [], [], [], []]
    assert builder.flush(state)[0] == []


def test_a_late_piece_revises_the_word_that_is_out() -> None:
    events = [event for event in events_of([MARK, DOG, PAD, PAD, PAD, S, MARK, THE]) if isinstance(event, Word)]
    assert [(event.text, event.start, event.end) for event in events] == [
        ("dog", 0.0, 0.16),
        ("dogs", 0.0, 0.48),
        ("the", 0.48, 0.64),
    ]


def test_partials_grow_and_hold_back_half_characters() -> None:
    events = events_of([MARK, CAF, C3, A9, S])
    assert [event.text for event in events if isinstance(event, Partial)] == ["caf", "caf", "café", "cafés"]
    assert words_of([MARK, CAF, C3, A9])[0].text == "café"


def write_json_tokenizer(path: Path) -> JsonTokenizer:
    """PIECES as a tokenizer.json with byte fallback."""
    vocabulary = [(piece, -float(id)) for id, piece in enumerate(PIECES)]
    model = tokenizers.Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=True))
    replace, strip = decoders.Replace("▁", " "), decoders.Strip(" ", 1, 0)
    model.decoder = decoders.Sequence([replace, decoders.ByteFallback(), decoders.Fuse(), strip])
    model.save(str(path))
    return JsonTokenizer(path)


@pytest.mark.parametrize("kind", ["sentencepiece", "json"])
def test_partials_only_grow_through_several_characters_of_bytes(kind: str, tmp_path: Path) -> None:
    tokenizer = FakeTokenizer() if kind == "sentencepiece" else write_json_tokenizer(tmp_path / "tokenizer.json")
    events = events_of([MARK, CAF, C3, A9, C3, A9, S], tokenizer=tokenizer)
    texts = [event.text for event in events if isinstance(event, Partial)]
    assert texts == ["caf", "caf", "café", "café", "caféé", "caféés"]


def test_a_lone_mark_joins_the_piece_after_it_and_says_nothing_alone() -> None:
    assert spans([MARK, LONE, ING]) == [("ing", 0.0, 0.24)]
    assert spans([MARK, LONE, PAD, PAD, PAD, MARK, THE]) == [("the", 0.4, 0.56)]


def test_control_ids_are_no_text() -> None:
    assert spans([MARK, THE, 1, 2, S]) == [("thes", 0.0, 0.4)]


def random_ids(seed: int, size: int) -> list[int]:
    rng = random.Random(seed)
    return [rng.choice([PAD, PAD, MARK, rng.randrange(4, size), rng.randrange(size)]) for _ in range(200)]


def check_invariants(ids: list[int], tokenizer: Tokenizer) -> None:
    words = words_of(ids, 0.5, 0.0, tokenizer)
    joined = " ".join(word.text for word in words)
    # A lone word mark is a space in the tokenizer's text and no word here: compare with runs of spaces as one.
    assert joined.split(" ") == [part for part in tokenizer.decode(i for i in ids if i > PAD).split(" ") if part]
    starts = [word.start for word in words]
    assert starts == sorted(set(starts))
    assert all(word.end >= word.start >= 0 for word in words)
    assert all(abs(word.start * 1000 - round(word.start * 1000)) < 1e-9 for word in words)


@pytest.mark.parametrize("seed", range(30))
def test_joined_words_are_the_tokenizers_own_text(seed: int) -> None:
    tokenizer = FakeTokenizer()
    check_invariants(random_ids(seed, tokenizer.size), tokenizer)


@pytest.mark.parametrize("seed", range(10))
def test_joined_words_are_the_bundled_tokenizers_own_text(tiny: mlx_kstt.Transcriber, seed: int) -> None:
    check_invariants(random_ids(seed, tiny.tokenizer.size), tiny.tokenizer)


def test_both_kinds_of_tokenizer_agree(tmp_path: Path) -> None:
    """A tokenizer.json with byte fallback, against the same rules written down above."""
    tokenizer = write_json_tokenizer(tmp_path / "tokenizer.json")
    for seed in range(10):
        check_invariants(random_ids(seed, tokenizer.size), tokenizer)
        # Where bytes are no UTF-8 the two libraries write different numbers of replacement characters.
        whole = [part for id in random_ids(seed, tokenizer.size) for part in ((C3, A9) if id in (C3, A9) else (id,))]
        assert words_of(whole, tokenizer=tokenizer) == words_of(whole)
