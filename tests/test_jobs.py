"""Planning: every source once, every output for one source only, and never a source as an output."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mlx_kstt.cli.jobs import Job, Source, find_sources, plan_outputs, without_existing, without_unwritable


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(b"sound")


def named(*arguments: str) -> list[str]:
    sources, problems = find_sources(arguments)
    assert problems == []
    return [source.name for source in sources]


def planned(arguments: list[str], *formats: str, folder: str | None = None) -> tuple[dict[str, list[str]], list[str]]:
    """Output files by source, and what could not be planned."""
    sources, problems = find_sources(arguments)
    assert problems == []
    jobs, problems = plan_outputs(sources, formats or ("srt",), None if folder is None else Path(folder))
    return {job.source.name: [str(path) for _, path in job.outputs] for job in jobs}, problems


def test_a_folder_is_searched_at_any_depth() -> None:
    touch("talks/b.wav", "talks/2024/a.mp3", "talks/notes.txt", "talks/.hidden.wav")
    assert named("talks") == ["talks/2024/a.mp3", "talks/b.wav"]


def test_a_file_named_twice_is_one_source() -> None:
    touch("talks/a.wav")
    Path("link.wav").symlink_to("talks/a.wav")
    assert named("talks/a.wav", "./talks/../talks/a.wav", "talks", "link.wav") == ["talks/a.wav"]


def test_hard_links_are_two_sources() -> None:
    touch("a.wav")
    os.link("a.wav", "b.wav")
    assert named("a.wav", "b.wav") == ["a.wav", "b.wav"]


def test_standard_input_is_one_source() -> None:
    assert find_sources(["-", "-"]) == ([Source("<stdin>", None, Path("stdin"))], [])


def test_what_cannot_be_a_source_is_told_and_the_rest_kept() -> None:
    touch("a.wav", "notes/readme.txt")
    Path("talks").mkdir()
    Path("talks/broken.wav").symlink_to("nowhere")
    touch("talks/whole.wav")
    sources, problems = find_sources(["none.wav", "notes", "talks", "a.wav", "a.wav/b.wav"])
    assert [source.name for source in sources] == ["talks/whole.wav", "a.wav"]
    assert problems == [
        "none.wav cannot be read (No such file or directory): check the path and its permissions",
        "notes is a folder without audio files: name another one, or the files themselves",
        "talks/broken.wav cannot be read (No such file or directory): check the path and its permissions",
        "a.wav/b.wav cannot be read (Not a directory): check the path and its permissions",
    ]


def test_outputs_go_beside_the_sources() -> None:
    touch("talk.v2.wav", "talks/b.wav")
    assert planned(["talk.v2.wav", "talks"], "srt", "json") == (
        {"talk.v2.wav": ["talk.v2.srt", "talk.v2.json"], "talks/b.wav": ["talks/b.srt", "talks/b.json"]},
        [],
    )


def test_outputs_keep_their_path_below_a_folder() -> None:
    touch("talks/2024/a.wav", "talks/b.wav", "deep/down/c.wav")
    outputs, _ = planned(["talks", "deep/down/c.wav", "-"], folder="out")
    assert outputs == {
        "talks/2024/a.wav": ["out/2024/a.srt"],
        "talks/b.wav": ["out/b.srt"],
        "deep/down/c.wav": ["out/c.srt"],
        "<stdin>": ["out/stdin.srt"],
    }


@pytest.mark.parametrize("folder", [None, "out"])
def test_clashing_names_keep_their_suffix(folder: str | None) -> None:
    touch("talk.wav", "talk.mp3", "other.wav")
    place = "" if folder is None else "out/"
    assert planned(["talk.wav", "talk.mp3", "other.wav"], folder=folder) == (
        {
            "talk.wav": [f"{place}talk.wav.srt"],
            "talk.mp3": [f"{place}talk.mp3.srt"],
            "other.wav": [f"{place}other.srt"],
        },
        [],
    )


def test_letter_case_and_composition_do_not_make_a_name_another() -> None:
    touch("Talk.wav", "talk.mp3", "caf\u00e9.wav", "cafe\u0301.mp3")
    outputs, problems = planned(["Talk.wav", "talk.mp3", "caf\u00e9.wav", "cafe\u0301.mp3"])
    assert list(outputs.values()) == [["Talk.wav.srt"], ["talk.mp3.srt"], ["caf\u00e9.wav.srt"], ["cafe\u0301.mp3.srt"]]
    assert problems == []


def test_a_full_name_that_clashes_in_turn_gives_way() -> None:
    touch("talk.wav", "talk.mp3", "talk.wav.flac")
    outputs, problems = planned(["talk.wav", "talk.mp3", "talk.wav.flac"])
    assert list(outputs.values()) == [["talk.wav.srt"], ["talk.mp3.srt"], ["talk.wav.flac.srt"]]
    assert problems == []


def test_two_sources_that_share_even_the_full_name_are_not_both_done() -> None:
    touch("a/talk.wav", "b/talk.wav", "c/TALK.WAV")
    problem = "its output would overwrite that of a/talk.wav: use --save, or another --output-dir for one of them"
    assert planned(["a/talk.wav", "b/talk.wav", "c/TALK.WAV"], folder="out") == (
        {"a/talk.wav": ["out/talk.srt"]},
        [f"b/talk.wav: {problem}", f"c/TALK.WAV: {problem}"],
    )


def test_an_output_never_overwrites_a_source() -> None:
    touch("notes.txt", "song.json")
    assert planned(["notes.txt", "song.json"], "txt", "json") == (
        {"notes.txt": ["notes.txt.txt", "notes.txt.json"], "song.json": ["song.json.txt", "song.json.json"]},
        [],
    )
    touch("Notes.txt.TXT")
    assert planned(["notes.txt", "Notes.txt.TXT"], "txt") == (
        {"Notes.txt.TXT": ["Notes.txt.TXT.txt"]},
        ["notes.txt: its output would overwrite a source: name another --output-dir"],
    )


def test_an_output_folder_that_is_the_sources_own_is_seen_through() -> None:
    touch("talks/notes.txt")
    Path("out").symlink_to("talks")
    assert planned(["talks/notes.txt"], "txt", folder="out") == ({"talks/notes.txt": ["out/notes.txt.txt"]}, [])


def test_what_exists_is_skipped_file_by_file() -> None:
    touch("a.wav", "b.wav", "a.srt", "b.srt", "b.json")
    sources, _ = find_sources(["a.wav", "b.wav"])
    jobs, _ = plan_outputs(sources, ("srt", "json"), None)
    assert without_existing(jobs) == [Job(sources[0], (("json", Path("a.json")),))]


def test_an_output_folder_that_is_a_file_is_told_before_any_work() -> None:
    touch("a.wav", "b.wav", "file")
    sources, _ = find_sources(["a.wav"])
    blocked, _ = plan_outputs(sources, ("srt",), Path("file/deeper"))
    free, _ = plan_outputs(sources, ("srt",), Path("new/deeper"))
    assert without_unwritable([*blocked, *free]) == (
        free,
        ["a.wav: nothing can be written in file: name another --output-dir"],
    )
