"""The journal holds every word that was shown, whatever happened to the session."""

from __future__ import annotations

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from mlx_kstt import KsttError, OptionError
from mlx_kstt.events import EndOfTurn, Event, Gap, Partial, Pause, Refresh, Word
from mlx_kstt.live import journal as journals
from mlx_kstt.live.journal import Journal
from mlx_kstt.live.past_sessions import Past, read_journal, read_past

TALK: list[Event] = [
    Word("Grüße,", 0.08, 0.32, 0.9877),
    Partial("ev", 0.4),
    Word("everyone.", 0.4, 1.04, 0.5, "Ann"),
    Pause(2.0, (0.9, 0.25)),
    EndOfTurn(1.6, 'Grüße,\n"everyone".'),
    Gap(2.0, 3.5, "the device was unplugged", "Bo & Co"),
    Refresh(4.0, "a long pause"),
    Word("Bye.", 4.16, 4.48, 1.0),
]
KEPT = [event for event in TALK if not isinstance(event, (Partial, Pause))]


def begin(path: Path, **options: Any) -> Journal:
    return Journal.create(path, model="tiny", **options)


def records(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def numbers(path: Path) -> list[tuple[int, str]]:
    return [(record["number"], record["text"]) for record in records(path) if record["type"] == "word"]


def word(text: str, start: float, lane: str | None = None) -> Word:
    return Word(text, start, start + 0.08, 0.5, lane)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "talk.jsonl"
    journal = begin(path, lanes=("Ann", "Bo & Co"), save_audio="talk.wav")
    for event in TALK:
        journal.write([event])
    journal.close(5.0)
    assert read_journal(path) == KEPT
    assert read_past(path) == Past(3, 5.0, path.stat().st_size, "tiny", ("Ann", "Bo & Co"), "talk.wav")


def test_the_lines_of_a_session(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write(TALK)
        journal.close(5.00049)
    first, *rest = records(path)
    started = datetime.fromisoformat(first.pop("started"))
    assert started.tzinfo is not None
    assert abs(datetime.now().astimezone() - started).total_seconds() < 60
    assert first == {"type": "session", "version": 1, "offset": 0.0, "model": "tiny", "lanes": [], "save_audio": None}
    assert rest == [
        {"type": "word", "number": 1, "text": "Grüße,", "start": 0.08, "end": 0.32, "confidence": 0.9877},
        {
            "type": "word",
            "number": 2,
            "text": "everyone.",
            "start": 0.4,
            "end": 1.04,
            "confidence": 0.5,
            "lane": "Ann",
        },
        {"type": "end_of_turn", "time": 1.6, "text": 'Grüße,\n"everyone".'},
        {"type": "gap", "start": 2.0, "end": 3.5, "reason": "the device was unplugged", "lane": "Bo & Co"},
        {"type": "refresh", "time": 4.0, "reason": "a long pause"},
        {"type": "word", "number": 3, "text": "Bye.", "start": 4.16, "end": 4.48, "confidence": 1.0},
        {"type": "end", "time": 5.0},
    ]
    assert "Grüße" in path.read_text("utf-8"), "UTF-8, not escapes"


def test_times_are_whole_milliseconds(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([Word("a", 0.1600001, 0.2399996, 0.987654321)])
    assert read_journal(path) == [Word("a", 0.16, 0.24, 0.9877)]


def test_a_revision_keeps_its_number_and_its_place(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([word("to", 0.08), word("to", 0.08, "Ann"), word("go", 0.16)])
        journal.write([EndOfTurn(0.4, "to go"), word("today", 0.08), word("tomorrow", 0.08, "Ann")])
        journal.write([word("on", 0.24)])
    expected = [(1, "to"), (2, "to"), (3, "go"), (1, "today"), (2, "tomorrow"), (4, "on")]
    assert numbers(path) == expected
    words = [word("today", 0.08), word("tomorrow", 0.08, "Ann"), word("go", 0.16)]
    assert read_journal(path) == [*words, EndOfTurn(0.4, "to go"), word("on", 0.24)]


def test_a_quiet_lane_is_revised_after_many_words_of_another(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([word("hm", 0.08, "Ann")])
        journal.write(word(f"w{i}", 0.08 * i, "Bob") for i in range(1, 500))
        journal.write([word("hmm", 0.08, "Ann")])
        kept = sum(map(len, journal._recent.values()))
    assert numbers(path)[-2:] == [(500, "w499"), (1, "hmm")]
    assert read_journal(path)[0] == word("hmm", 0.08, "Ann")
    assert kept == 17, "what numbering keeps must not grow with the session"


def test_resume_continues_numbers_and_time(tmp_path: Path) -> None:
    path, events = tmp_path / "talk.jsonl", []
    for session in range(4):
        journal = begin(path) if not session else Journal.resume(path, model=f"m{session}", save_audio=f"{session}.wav")
        assert journal.offset == 2.5 * session
        told = [word("a", journal.offset + 0.08), word("b", journal.offset + 0.16)]
        journal.write(told)
        journal.close(journal.offset + 2.5)
        events += told
    assert numbers(path) == [(i + 1, "ab"[i % 2]) for i in range(8)]
    assert read_journal(path) == events
    assert [record["offset"] for record in records(path) if record["type"] == "session"] == [0, 2.5, 5, 7.5]
    assert read_past(path) == Past(8, 10.0, path.stat().st_size, "m3", (), "3.wav")


def test_the_first_word_of_a_new_session_revises_none_of_the_last(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([Word("a", 1.0, 1.0, 0.5)])
    with Journal.resume(path, model="tiny") as journal:
        journal.write([Word("b", 1.0, 1.08, 0.5)])
    assert read_journal(path) == [Word("a", 1.0, 1.0, 0.5), Word("b", 1.0, 1.08, 0.5)]


@pytest.mark.parametrize(
    ("last", "offset"),
    [
        (Word("a", 7.0, 7.25, 0.5), 7.25),
        (EndOfTurn(7.5, "a"), 7.5),
        (Gap(7.0, 9.125, "asleep"), 9.125),
        (Refresh(6.5, "a long pause"), 6.5),
    ],
)
def test_the_clock_goes_on_at_the_latest_time_that_is_known(tmp_path: Path, last: Event, offset: float) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([last, Word("early", 1.0, 1.5, 0.5)])
    for seconds, expected in ((0.0, offset), (offset - 1, offset), (offset + 3, offset + 3)):
        with Journal.resume(path, model="tiny", seconds=seconds) as journal:
            assert journal.offset == expected


def test_the_clock_begins_at_a_whole_millisecond_not_before_the_saved_sound(tmp_path: Path) -> None:
    for samples, offset in ((24_000, 1.0), (24_001, 1.001), (24_024, 1.001), (2_400_000_023, 100_000.001)):
        begin(path := tmp_path / f"{samples}.jsonl").close()
        with Journal.resume(path, model="tiny", seconds=samples / 24_000) as journal:
            assert journal.offset == offset
            assert 0 <= round(offset * 24_000) - samples < 24
        assert records(path)[-1]["offset"] == offset


def test_time_is_noted_every_10_s_of_silence(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        for tenth in range(400):
            journal.note_time(tenth / 10)
            if tenth == 125:
                journal.write([word("a", 12.0)])
    assert [record["time"] for record in records(path) if record["type"] == "time"] == [10.0, 22.1, 32.1]
    assert read_journal(path) == [word("a", 12.0)]
    assert read_past(path).seconds == 32.1


def test_a_journal_that_was_begun_and_got_no_further(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    begin(path).close()
    first = path.read_bytes()
    for length in range(len(first) - 1):
        path.write_bytes(first[:length])
        assert read_journal(path) == []
        with Journal.resume(path, model="tiny", seconds=3.0) as journal:
            journal.write([word("a", 3.0)])
        assert [record["type"] for record in records(path)] == ["session", "word"]
        assert numbers(path) == [(1, "a")]


def test_a_last_line_torn_anywhere_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([word("a", 0.08)])
        whole = path.stat().st_size
        journal.write([word("«é»\n", 0.16)])
    data = path.read_bytes()
    for length in range(whole, len(data) + 1):
        path.write_bytes(data[:length])
        is_whole = length >= len(data) - 1  # only the line's end is missing
        words = [word("a", 0.08), word("«é»\n", 0.16)][: 1 + is_whole]
        assert read_journal(path) == words
        assert path.read_bytes() == data[:length], "reading changes nothing"
        with Journal.resume(path, model="tiny") as journal:
            assert journal.offset == words[-1].end
            journal.write([word("on", 1.0)])
        assert read_journal(path) == [*words, word("on", 1.0)]
        assert numbers(path)[-1] == (len(words) + 1, "on")


def test_zeros_that_a_power_cut_left_are_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    with begin(path) as journal:
        journal.write([word("a", 0.08)])
    path.write_bytes(path.read_bytes() + bytes(5_000))
    with Journal.resume(path, model="tiny") as journal:
        journal.write([word("b", 1.0)])
    assert read_journal(path) == [word("a", 0.08), word("b", 1.0)]


SESSION = (
    b'{"type": "session", "version": 1, "started": "2025-01-01T00:00:00+00:00", "offset": 0.0, "model": "tiny", '
    b'"lanes": [], "save_audio": null}\n'
)
FOREIGN = {
    "text": (b"Dear diary\n", r"\(line 1 does not begin a session\): name another file"),
    "a word": (b'{"type": "word"}\n', r"\(line 1 does not begin a session\)"),
    "zeros": (bytes(100_000), r"\(line 1 does not begin a session\)"),
    "later": (SESSION.replace(b": 1,", b": 2,"), r"line 1 of .* is of version 2; this is version 1: update mlx_kstt"),
    "later on": (SESSION * 2 + SESSION.replace(b": 1,", b': "x",'), r"line 3 of .* is of version 'x'"),
    "no offset": (SESSION.replace(b'"offset": 0.0, ', b""), r"line 1 of .* has a field 'offset' that does not fit"),
    "infinity": (SESSION + b'{"type": "end", "time": Infinity}\n', r"line 2 of .* has a field 'time'"),
    "nan": (SESSION + b'{"type": "end", "time": NaN}\n', r"line 2 of .* has a field 'time'"),
    "1e999": (SESSION + b'{"type": "end", "time": 1e999}\n', r"line 2 of .* has a field 'time'"),
    "googol": (SESSION + b'{"type": "end", "time": 1' + b"0" * 400 + b"}\n", r"line 2 of .* has a field 'time'"),
    "digits": (SESSION + b'{"type": "end", "time": 1' + b"0" * 9_000 + b"}\n", r"line 2 of .* (is no JSON|'time')"),
    "true": (SESSION + b'{"type": "end", "time": true}\n', r"line 2 of .* has a field 'time'"),
    "more": (SESSION + b'{"type": "end", "time": 1, "x": 2}\n', r"line 2 of .* has a field 'x' that does not fit"),
    "lane": (SESSION + b'{"type": "refresh", "time": 1, "reason": "", "lane": 2}\n', r"line 2 of .* 'lane'"),
    "deep": (SESSION + b"[" * 100_000 + b"\n", r"line 2 of .* is no JSON"),
    "list": (SESSION + b"[]\n", r"line 2 of .* is of no type that a journal has: repair it, or name another"),
    "type": (SESSION + b'{"type": ["word"]}\n', r"line 2 of .* is of no type"),
    "unknown": (SESSION + b'{"type": "smell"}', r"line 2 of .* is of no type"),
    "middle": (SESSION + b'{"type": "end", "ti\n' + SESSION, r"line 2 of .* is no JSON"),
    "latin": (SESSION + b'{"type": "refresh", "reason": "\xe9"}\n', r"line 2 of .* is no JSON"),
}


@pytest.mark.parametrize("kind", FOREIGN)
def test_what_is_no_journal_is_refused_and_left_as_it_is(tmp_path: Path, kind: str) -> None:
    data, message = FOREIGN[kind]
    path = tmp_path / "talk.jsonl"
    path.write_bytes(data)
    for read in (read_journal, read_past, lambda path: Journal.resume(path, model="tiny")):
        with pytest.raises(OptionError, match=message):
            read(path)
    assert path.read_bytes() == data


def test_a_file_that_exists_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    path.write_bytes(b"mine")
    with pytest.raises(OptionError, match=r"talk\.jsonl exists: name another file, or go on with it by --resume"):
        begin(path)
    assert path.read_bytes() == b"mine"
    path.write_bytes(b"")
    with begin(path) as journal:
        journal.write([word("a", 0.08)])
    assert read_journal(path) == [word("a", 0.08)]


def test_a_journal_is_for_one_session_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    journal = begin(path)
    journal.write([word("a", 0.08)])
    data = path.read_bytes()
    for opening in (lambda: Journal.resume(path, model="tiny"), lambda: begin(path)):
        with pytest.raises(OptionError, match=r"another session writes .*talk\.jsonl: end that one, or name another"):
            opening()
    assert path.read_bytes() == data
    assert read_journal(path) == [word("a", 0.08)], "reading it is free"
    journal.close(1.0)
    with Journal.resume(path, model="tiny") as journal:
        journal.write([word("b", 1.0)])
    assert numbers(path) == [(1, "a"), (2, "b")]


def test_what_another_session_writes_before_the_lock_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "talk.jsonl"
    begin(path).close(1.0)
    opened = journals.opened

    def opened_late(path: Path, **options: bool) -> Any:
        monkeypatch.undo()
        with Journal.resume(path, model="tiny") as other:
            other.write([word("a", 1.0)])
        return opened(path, **options)

    monkeypatch.setattr(journals, "opened", opened_late)
    with Journal.resume(path, model="tiny") as journal:
        journal.write([word("b", 2.0)])
    assert numbers(path) == [(1, "a"), (2, "b")]


def test_a_file_system_without_locks_is_no_obstacle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(file: object, operation: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    monkeypatch.setattr("fcntl.flock", refuse)
    with begin(tmp_path / "talk.jsonl") as journal:
        journal.write([word("a", 0.08)])
    assert numbers(tmp_path / "talk.jsonl") == [(1, "a")]


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(OptionError, match=r"there is no journal '.*none': check the path"):
        Journal.resume(tmp_path / "none", model="tiny")
    with pytest.raises(KsttError, match=r"cannot be read \(Is a directory\)"):
        Journal.resume(tmp_path, model="tiny")
    with pytest.raises(KsttError, match=r"cannot be written \(Is a directory\)"):
        begin(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(KsttError, match=r"cannot be written \(Not a directory\)"):
        begin(tmp_path / "file" / "talk.jsonl")


def test_a_name_that_is_no_text_is_kept(tmp_path: Path) -> None:
    path, name = tmp_path / "talk.jsonl", os.fsdecode(b"talk-\xe9.wav")
    begin(path, save_audio=name).close(1.0)
    path.read_bytes().decode("utf-8")
    assert read_past(path).save_audio == name


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="this system has no /dev/full")
def test_a_device_that_is_full() -> None:
    with pytest.raises(KsttError, match=r"/dev/full cannot be written \(No space left on device\): check the disk"):
        begin(Path("/dev/full"))


def test_a_full_disk_is_told_once_and_what_was_written_stays_whole(tmp_path: Path) -> None:
    path = tmp_path / "talk.jsonl"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    journal = begin(path)
    journal.write([word("a", 0.08)])
    whole = path.read_bytes()
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 150, hard))
    try:
        with pytest.raises(KsttError, match=r"talk\.jsonl cannot be written \(File too large\)"):
            journal.write([word("b", 0.16), word("c", 0.24)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    journal.write([word("d", 0.32), EndOfTurn(1.0, "a b c d")])
    journal.note_time(100.0)
    journal.close(200.0)
    assert path.read_bytes() == whole, "no hole: nothing is written after a failure"


def test_a_line_that_the_system_takes_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda file, data: write(file, data[:7]))
    with begin(tmp_path / "talk.jsonl") as journal:
        journal.write(TALK)
    assert read_journal(tmp_path / "talk.jsonl") == KEPT


def test_turns_and_the_end_are_made_durable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    path = tmp_path / "talk.jsonl"
    journal, sizes = begin(path), [path.stat().st_size]
    journal.write([word("a", 0.08)])
    journal.write([word("b", 0.16), EndOfTurn(1.0, "a b")])
    sizes.append(path.stat().st_size)
    journal.write([word("c", 1.16)])
    journal.close(2.0)
    journal.close(2.0)
    assert synced == [*sizes, path.stat().st_size]


def test_a_disk_that_fails_at_a_turn_keeps_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    journal = begin(tmp_path / "talk.jsonl")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(KsttError, match="Input/output error"):
        journal.write([word("a", 0.08), EndOfTurn(1.0, "a")])
    journal.close(2.0)
    assert read_journal(tmp_path / "talk.jsonl") == [word("a", 0.08), EndOfTurn(1.0, "a")]


WRITER = """
import os, sys
from mlx_kstt.events import Word
from mlx_kstt.live import journal as journals
from mlx_kstt.live.journal import Journal
from mlx_kstt.live.past_sessions import read_past
path = sys.argv[1]
journal = Journal.resume(path, model="tiny")
number = read_past(path).words
while True:
    number += 1
    start = journal.offset + number * 0.08
    journal.write([Word(f"wörd{number}", start, start + 0.08, 0.5)])
    print(number, f"wörd{number}", flush=True)
"""


def test_a_kill_at_any_moment_loses_no_word_that_was_shown(tmp_path: Path) -> None:
    draw = random.Random(5)
    path, shown = tmp_path / "talk.jsonl", []
    begin(path).close()
    for _ in range(20):
        writer = subprocess.Popen(
            [sys.executable, "-X", "utf8", "-c", WRITER, str(path)], stdout=subprocess.PIPE, encoding="utf-8"
        )
        assert writer.stdout
        lines = [writer.stdout.readline() for _ in range(draw.randrange(1, 50))]
        for _ in range(draw.randrange(50_000)):
            pass  # anywhere between two lines
        writer.send_signal(signal.SIGKILL)
        lines += writer.communicate()[0].splitlines(keepends=True)
        assert writer.returncode == -signal.SIGKILL
        shown += [line.split() for line in lines if line.endswith("\n")]
        words = [event.text for event in read_journal(path) if isinstance(event, Word)]
        assert words == [f"wörd{number}" for number in range(1, len(words) + 1)]
        assert all(words[int(number) - 1] == text for number, text in shown)
    assert len(shown) > 200
