"""Files are whole or not there; standard output stays readable by machines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from limits import files_of_at_most

from mlx_kstt.cli.delivery import FORMATS, Printer, Style, complain, render, write_whole
from mlx_kstt.errors import KsttError
from mlx_kstt.events import Word
from mlx_kstt.outputs import Transcript
from mlx_kstt.subtitles import SubtitleRules

TALK = Transcript((Word("Good", 0.0, 0.4, 1.0), Word("day.", 3.4, 3.8, 1.0)), 4.0)


def test_every_format_is_rendered_by_its_own_writer() -> None:
    style = Style(SubtitleRules(max_gap=5.0), paragraph_gap=1.0)
    assert {form: render(TALK, form, style) for form in FORMATS} == {
        "txt": "Good\nday.\n",
        "srt": "1\n00:00:00,000 --> 00:00:03,800\nGood day.\n",
        "vtt": "WEBVTT\n\n00:00:00.000 --> 00:00:03.800\nGood day.\n",
        "tsv": TALK.to_tsv(),
        "json": TALK.to_json(),
        "jsonl": TALK.to_jsonl(),
    }


def test_a_file_is_written_with_its_folders_and_the_usual_rights(tmp_path: Path) -> None:
    path = tmp_path / "new" / "deeper" / "talk.txt"
    write_whole(path, "été → ok\n")
    assert path.read_bytes() == "été → ok\n".encode()
    mask = os.umask(0)
    os.umask(mask)
    assert path.stat().st_mode & 0o777 == 0o666 & ~mask
    assert [entry.name for entry in path.parent.iterdir()] == ["talk.txt"]


def test_a_file_that_is_there_is_replaced_not_written_into(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("old")
    os.link(tmp_path / "kept.txt", tmp_path / "talk.txt")
    write_whole(tmp_path / "talk.txt", "new")
    assert [(tmp_path / name).read_text() for name in ("kept.txt", "talk.txt")] == ["old", "new"]


def test_a_link_is_replaced_and_what_it_points_to_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "talk.wav").write_bytes(b"sound")
    (tmp_path / "talk.txt").symlink_to("talk.wav")
    write_whole(tmp_path / "talk.txt", "text")
    assert (tmp_path / "talk.wav").read_bytes() == b"sound"


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "talk.txt"
    path.write_text("old")
    with (
        files_of_at_most(1000),
        pytest.raises(KsttError, match=r"talk\.txt cannot be written \(File too large\): check"),
    ):
        write_whole(path, "x" * 5000)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interruption_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_whole(tmp_path / "talk.txt", "text")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("name", "reason"), [("taken", "Is a directory"), ("x" * 300, "File name too long")])
def test_a_name_that_cannot_be_a_file_is_told(tmp_path: Path, name: str, reason: str) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(KsttError, match=reason):
        write_whole(tmp_path / name, "text")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_one_source_is_printed_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer("json", Style(), several=False) as printer:
        printer.print("a.wav", TALK)
    assert capsys.readouterr().out == TALK.to_json()


def test_txt_of_several_sources_is_headed_by_their_names(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer("txt", Style(), several=True) as printer:
        printer.print("a.wav", TALK)
        printer.print("b\n\x1b[1m.wav", Transcript((), 0.0))
    assert capsys.readouterr().out == "==> a.wav <==\nGood\nday.\n\n==> b \N{REPLACEMENT CHARACTER}[1m.wav <==\n"


def test_json_of_several_sources_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer("json", Style(), several=True) as printer:
        printer.print("a.wav", TALK)
        printer.print("b\n.wav", Transcript((), 1.0, "broke off"))
    items = json.loads(capsys.readouterr().out)
    assert [(item["source"], item["text"]) for item in items] == [("a.wav", "Good day."), ("b\n.wav", "")]
    assert items[1]["warning"] == "broke off"


def test_the_array_is_complete_also_when_nothing_came_or_the_user_interrupts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with Printer("json", Style(), several=True):
        pass
    assert json.loads(capsys.readouterr().out) == []
    with pytest.raises(KeyboardInterrupt), Printer("json", Style(), several=True) as printer:
        printer.print("a.wav", TALK)
        raise KeyboardInterrupt
    assert [item["source"] for item in json.loads(capsys.readouterr().out)] == ["a.wav"]


def test_jsonl_of_several_sources_names_them_in_every_line(capsys: pytest.CaptureFixture[str]) -> None:
    with Printer("jsonl", Style(), several=True) as printer:
        printer.print("a.wav", TALK)
        printer.print("\udcff.wav", TALK)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["source"], line["text"]) for line in lines] == [
        ("a.wav", "Good"),
        ("a.wav", "day."),
        ("\udcff.wav", "Good"),
        ("\udcff.wav", "day."),
    ]


def test_a_complaint_is_one_line_without_control_characters(capsys: pytest.CaptureFixture[str]) -> None:
    complain("a\n\x1b[2J\udcff.wav is empty")
    assert capsys.readouterr().err == "mlx_kstt: a \N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}.wav is empty\n"
