"""The text formats, read back by small parsers that share no code with their writers."""

from __future__ import annotations

import html
import json
import random
import re

import pytest

from mlx_kstt.events import EndOfTurn, Gap, Partial, Pause, Word
from mlx_kstt.outputs import FinalEvents, Transcript
from mlx_kstt.subtitles import SubtitleRules

TEXTS = ["Hello,", "world.", "été", "<b>", "R&D", "-->", "a-->b", "7", "«oui»", "&amp;", "WEBVTT", "NOTE", "x" * 60]

TALK = Transcript(
    (
        Word("Good", 0.08, 0.32, 0.98765),
        Word("morning.", 0.4, 1.04, 0.5),
        Pause(2.0, (0.91234, 0.25)),
        EndOfTurn(1.6, "Good morning."),
        Gap(2.0, 3.5, "the device was unplugged"),
        Word("Bye.", 4.16, 4.4800001, 1.0),
    ),
    5.0399999,
)


def transcript(*words: Word) -> Transcript:
    return Transcript(words, words[-1].end if words else 0.0)


def random_transcript(seed: int) -> Transcript:
    draw = random.Random(seed)
    words, at = [], 0.0
    for _ in range(draw.randrange(80)):
        at += 0.08 * draw.choice([1, 2, 3, 30])
        words.append(Word(draw.choice(TEXTS), at, at + 0.08, draw.random(), draw.choice(["Ann", "Bo & <Co>"])))
    return transcript(*words)


def to_ms(clock: str) -> int:
    hours, minutes, seconds, millis = map(int, re.fullmatch(r"(\d{2,}):([0-5]\d):([0-5]\d)[.,](\d{3})", clock).groups())  # type: ignore[union-attr]
    return ((hours * 60 + minutes) * 60 + seconds) * 1000 + millis


def parse(blocks: list[str]) -> list[tuple[int, int, str]]:
    """Cues of a timing line and text lines: start, end (ms), text."""
    cues = []
    for block in blocks:
        timing, *lines = block.split("\n")
        assert lines and all(lines) and not any("-->" in line for line in lines)
        start, end = timing.split(" --> ")
        cues.append((to_ms(start), to_ms(end), "\n".join(lines)))
    return cues


def parse_srt(text: str) -> list[tuple[int, int, str]]:
    blocks = [block.split("\n", 1) for block in text.removesuffix("\n").split("\n\n")] if text else []
    assert [number for number, _ in blocks] == [str(number) for number in range(1, len(blocks) + 1)]
    return parse([rest for _, rest in blocks])


def parse_vtt(text: str) -> list[tuple[int, int, str, str]]:
    """As parse, with the voice."""
    head, *blocks = text.removesuffix("\n").split("\n\n")
    assert head == "WEBVTT"
    cues = []
    for start, end, payload in parse(blocks):
        voice, body = re.fullmatch(r"(?s)(?:<v ([^<>]+)>)?([^<>]*)", payload).groups()  # type: ignore[union-attr]
        cues.append((start, end, html.unescape(voice or ""), html.unescape(body)))
    return cues


def test_a_revised_word_takes_the_place_of_its_first_version() -> None:
    dog, dogs, bark = Word("dog", 1.0, 1.2, 0.9), Word("dogs", 1.0, 1.4, 0.8), Word("bark", 2.0, 3.0, 1.0)
    pause, turn = Pause(1.3, (0.9,)), EndOfTurn(1.2, "dog")
    final = FinalEvents()
    for events in ([dog, Partial("dog", 1.0), pause], [turn], [], [bark, dogs, Partial("b", 4.0)]):
        final.add(events)
    assert final.events == (dogs, pause, turn, bark)


def test_a_word_revises_only_its_own_lane() -> None:
    final = FinalEvents()
    final.add([Word("a", 1.0, 2.0, 1.0, "Ann"), Word("b", 1.0, 2.0, 1.0, "Bob"), Word("c", 1.0, 2.0, 1.0)])
    final.add([Word("B", 1.0, 2.5, 1.0, "Bob")])
    assert [word.text for word in final.events if isinstance(word, Word)] == ["a", "B", "c"]


def test_a_revision_is_not_searched_for() -> None:
    """Searched for, as many as these would take minutes."""
    final = FinalEvents()
    final.add(Word("under", float(at), at + 0.5, 1.0) for at in range(50_000))
    final.add(Word("understand", float(at), at + 0.5, 1.0) for at in range(50_000))
    assert [word.start for word in final.events if isinstance(word, Word)] == list(range(50_000))
    assert {word.text for word in final.events if isinstance(word, Word)} == {"understand"}


def test_text_is_the_words_with_single_spaces() -> None:
    assert TALK.text == "Good morning. Bye."
    assert [word.text for word in TALK.words] == ["Good", "morning.", "Bye."]


def test_txt_begins_a_line_after_a_long_silence() -> None:
    assert TALK.to_txt() == "Good morning.\nBye.\n"
    assert TALK.to_txt(paragraph_gap=3.12) == "Good morning. Bye.\n"
    assert TALK.to_txt(paragraph_gap=float("inf")) == "Good morning. Bye.\n"


def test_txt_names_the_lanes() -> None:
    talk = transcript(
        Word("Hi", 0.0, 0.2, 1.0, "Ann"), Word("there.", 0.2, 0.4, 1.0, "Ann"), Word("Hi!", 0.6, 0.8, 1.0, "Bo")
    )
    assert talk.to_txt() == "Ann: Hi there.\nBo: Hi!\n"


def test_tsv_has_whole_milliseconds() -> None:
    assert TALK.to_tsv().splitlines() == [
        "start\tend\ttext\tconfidence",
        "80\t320\tGood\t0.9877",
        "400\t1040\tmorning.\t0.5000",
        "4160\t4480\tBye.\t1.0000",
    ]


def test_tsv_rows_survive_tabs_and_line_ends_in_a_word() -> None:
    rows = transcript(Word("a\tb\nc\r\u2028d", 0.0, 0.2, 1.0)).to_tsv()
    assert rows.splitlines()[1:] == ["0\t200\ta b c d\t1.0000"]


def test_tsv_has_a_lane_column_where_there_are_lanes() -> None:
    talk = transcript(Word("Hi.", 0.0, 0.2, 1.0, "Ann"), Word("Oh.", 0.2, 0.4, 1.0))
    assert talk.to_tsv() == "start\tend\ttext\tconfidence\tlane\n0\t200\tHi.\t1.0000\tAnn\n200\t400\tOh.\t1.0000\t\n"


def test_json_holds_everything() -> None:
    assert json.loads(TALK.to_json()) == {
        "text": "Good morning. Bye.",
        "duration": 5.04,
        "words": [
            {"text": "Good", "start": 0.08, "end": 0.32, "confidence": 0.9877},
            {"text": "morning.", "start": 0.4, "end": 1.04, "confidence": 0.5},
            {"text": "Bye.", "start": 4.16, "end": 4.48, "confidence": 1.0},
        ],
        "pauses": [{"time": 2.0, "probabilities": [0.9123, 0.25]}],
        "turns": [{"time": 1.6, "text": "Good morning."}],
        "gaps": [{"start": 2.0, "end": 3.5, "reason": "the device was unplugged"}],
    }


def test_json_names_source_lane_and_warning_where_there_are() -> None:
    talk = Transcript((Word("Hé.", 0.0, 0.2, 1.0, "Ann"),), 1.0, warning="a.mp3 breaks off at 1.0 s.")
    read = json.loads(talk.to_json(source="a.mp3"))
    assert next(iter(read)) == "source"
    assert (read["source"], read["warning"]) == ("a.mp3", "a.mp3 breaks off at 1.0 s.")
    assert read["words"] == [{"text": "Hé.", "start": 0.0, "end": 0.2, "confidence": 1.0, "lane": "Ann"}]
    assert "Hé." in talk.to_json()


def test_jsonl_has_one_event_per_line() -> None:
    lines = [json.loads(line) for line in TALK.to_jsonl().splitlines()]
    assert [line["type"] for line in lines] == ["word", "word", "pause", "end_of_turn", "gap", "word"]
    assert lines[5] == {"type": "word", "text": "Bye.", "start": 4.16, "end": 4.48, "confidence": 1.0}
    assert lines[2] == {"type": "pause", "time": 2.0, "probabilities": [0.9123, 0.25]}
    assert json.loads(TALK.to_jsonl(source="a.wav").splitlines()[3])["source"] == "a.wav"


def test_srt_exactly() -> None:
    assert TALK.to_srt() == (
        "1\n00:00:00,080 --> 00:00:01,080\nGood morning.\n\n2\n00:00:04,160 --> 00:00:05,160\nBye.\n"
    )


def test_vtt_exactly() -> None:
    assert TALK.to_vtt() == (
        "WEBVTT\n\n00:00:00.080 --> 00:00:01.080\nGood morning.\n\n00:00:04.160 --> 00:00:05.160\nBye.\n"
    )


def test_subtitles_follow_the_given_rules() -> None:
    rules = SubtitleRules(max_line_length=5)
    assert parse_srt(TALK.to_srt(rules))[0][2] == "Good\nmorning."
    assert parse_vtt(TALK.to_vtt(rules))[0][3] == "Good\nmorning."


@pytest.mark.parametrize(
    ("seconds", "clock"),
    [
        (59.9996, "00:01:00,000"),
        (59.9994, "00:00:59,999"),
        (3599.9999, "01:00:00,000"),
        (0.0004, "00:00:00,000"),
        (86_399.9996, "24:00:00,000"),
        (360_000.08, "100:00:00,080"),
        (0.07999999999999996, "00:00:00,080"),
    ],
)
def test_a_time_is_rounded_before_it_is_split(seconds: float, clock: str) -> None:
    talk = transcript(Word("now", seconds, seconds + 2, 1.0))
    assert talk.to_srt().splitlines()[1].startswith(f"{clock} --> ")
    assert talk.to_vtt().splitlines()[2].startswith(f"{clock.replace(',', '.')} --> ")


def test_lanes_are_labels_in_srt_and_voices_in_vtt() -> None:
    talk = transcript(Word("Hi.", 0.0, 0.4, 1.0, "Ann"), Word("Oh.", 0.4, 0.8, 1.0, "R&D <1>"))
    assert [cue[2] for cue in parse_srt(talk.to_srt())] == ["Ann: Hi.", "R&D <1>: Oh."]
    assert [cue[2:] for cue in parse_vtt(talk.to_vtt())] == [("Ann", "Hi."), ("R&D <1>", "Oh.")]


def test_text_cannot_break_the_syntax() -> None:
    talk = transcript(Word("1", 0.0, 0.2, 1.0), Word("-->", 0.2, 0.4, 1.0), Word("<i>&\n\n2", 0.4, 0.6, 1.0))
    assert parse_srt(talk.to_srt()) == [(0, 1000, "1 → <i>& 2")]
    assert parse_vtt(talk.to_vtt()) == [(0, 1000, "", "1 --> <i>& 2")]


@pytest.mark.parametrize("seed", range(30))
def test_subtitles_read_back(seed: int) -> None:
    talk, rules = random_transcript(seed), SubtitleRules(max_line_length=30, max_gap=2.0)
    srt, vtt = parse_srt(talk.to_srt(rules)), parse_vtt(talk.to_vtt(rules))
    assert [cue[:2] for cue in srt] == [cue[:2] for cue in vtt]
    assert [f"{voice}: {body}".replace("-->", "→") for _, _, voice, body in vtt] == [text for _, _, text in srt]
    assert " ".join(body for _, _, _, body in vtt).split() == [word.text for word in talk.words]
    assert [voice for _, _, voice, body in vtt for _ in body.split()] == [word.lane for word in talk.words]
    assert all(
        len(line) <= 30 or " " not in line.removeprefix("Ann: ").removeprefix("Bo & <Co>: ")
        for _, _, text in srt
        for line in text.split("\n")
    )


def test_an_empty_transcript_is_valid_in_every_format() -> None:
    empty = Transcript((), 0.0)
    assert (empty.text, empty.to_txt(), empty.to_srt(), empty.to_jsonl()) == ("", "", "", "")
    assert empty.to_vtt() == "WEBVTT\n"
    assert empty.to_tsv() == "start\tend\ttext\tconfidence\n"
    assert json.loads(empty.to_json()) == {
        "text": "",
        "duration": 0.0,
        "words": [],
        "pauses": [],
        "turns": [],
        "gaps": [],
    }
