"""The command line from end to end with the bundled model."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import Recording

import mlx_kstt
from mlx_kstt.cli import main

NOTICE = 'mlx_kstt: "tiny" is a demonstration model for synthetic voices: leave out --model for real speech\n'


@pytest.fixture(autouse=True)
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def transcribe(*arguments: str | Path) -> int:
    return main(["transcribe", "--model", "tiny", *map(str, arguments)])


def in_its_own_process(
    *arguments: str | Path, shell: tuple[str, ...] = (), **streams: Any
) -> subprocess.CompletedProcess[bytes]:
    environment = os.environ | {"PYTHONPATH": str(Path(mlx_kstt.__file__).parents[1])}
    command = [*shell, sys.executable, "-m", "mlx_kstt", "transcribe", "--model", "tiny", *map(str, arguments)]
    return subprocess.run(command, env=environment, capture_output=True, check=False, **streams)


def test_a_recording_from_a_shell(recordings: list[Recording]) -> None:
    done = in_its_own_process(recordings[1].path)
    assert (done.returncode, done.stdout.decode(), done.stderr.decode()) == (
        0,
        recordings[1].reference_text + "\n",
        NOTICE,
    )


@pytest.mark.parametrize(("closed", "status"), [("<&-", 0), (">&-", 1), ("2>&-", 0)])
def test_a_closed_standard_stream_is_survived(closed: str, status: int, recordings: list[Recording]) -> None:
    done = in_its_own_process(recordings[1].path, shell=("sh", "-c", f'exec "$@" {closed}', "sh"))
    complaint = "mlx_kstt: standard output cannot be written (Bad file descriptor): "
    assert done.returncode == status
    assert done.stdout.decode() == ("" if status else recordings[1].reference_text + "\n")
    assert done.stderr.decode().removeprefix(NOTICE)[: len(complaint)] == (complaint if status else "")


def test_raw_samples_from_a_pipe(recordings: list[Recording]) -> None:
    samples = (recordings[2].sound() * 32_768).astype("<i2").tobytes()
    done = in_its_own_process("-", "--format", "json", input=samples)
    assert done.returncode == 0
    assert json.loads(done.stdout)["text"] == recordings[2].reference_text
    assert json.loads(done.stdout)["duration"] == round(len(samples) / 48_000, 3)


def test_every_format_says_the_same(recordings: list[Recording], tiny: mlx_kstt.Transcriber) -> None:
    path, talk = recordings[3].path, tiny.transcribe(recordings[3].path)
    assert transcribe(path, "--output-dir", "out", "--dtype", "float32", "--format", "txt,srt,vtt,tsv,json,jsonl") == 0
    written = {file.suffix[1:]: file.read_text(encoding="utf-8") for file in Path("out").iterdir()}
    assert written == {
        "txt": talk.to_txt(),
        "srt": talk.to_srt(),
        "vtt": talk.to_vtt(),
        "tsv": talk.to_tsv(),
        "json": talk.to_json(),
        "jsonl": talk.to_jsonl(),
    }
    assert written["txt"] == recordings[3].reference_text + "\n"


def test_a_file_that_breaks_off_is_transcribed_as_far_as_it_goes(
    recordings: list[Recording], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = recordings[3].path.read_bytes()
    Path("cut.flac").write_bytes(whole[: len(whole) // 2])
    assert transcribe("cut.flac", "--save", "--format", "json") == 1
    read = json.loads(Path("cut.json").read_text())
    assert re.fullmatch(r"cut\.flac is cut off or damaged: [\d.]+ s of [\d.]+ s could be read", read["warning"])
    assert capsys.readouterr().err == f"{NOTICE}mlx_kstt: {read['warning']}\n"
    assert 3 <= len(read["words"]) < len(recordings[3].reference_text.split())
    assert recordings[3].reference_text.startswith(" ".join(word["text"] for word in read["words"][:3]))


@pytest.mark.parametrize("samples", [1, 24_000])
def test_a_source_without_speech_is_an_empty_transcript(samples: int, capsys: pytest.CaptureFixture[str]) -> None:
    soundfile.write("a.wav", np.zeros(samples, np.float32), 24_000)
    assert transcribe("a.wav", "--save", "--format", "txt,srt,vtt") == 0
    assert capsys.readouterr() == ("", NOTICE)
    assert [Path(f"a.{form}").read_text() for form in ("txt", "srt", "vtt")] == ["", "", "WEBVTT\n"]


def test_samples_that_are_no_sound_are_refused_and_the_other_file_is_done(
    recordings: list[Recording], capsys: pytest.CaptureFixture[str]
) -> None:
    soundfile.write("nan.wav", np.array([0.0, np.nan], np.float32), 24_000, subtype="FLOAT")
    soundfile.write("good.wav", recordings[2].sound(), 24_000)
    assert transcribe("nan.wav", "good.wav") == 1
    told = capsys.readouterr()
    assert told.out == f"==> good.wav <==\n{recordings[2].reference_text}\n"
    assert re.fullmatch(re.escape(NOTICE) + r"mlx_kstt: nan\.wav[^\n]*\n", told.err)


@pytest.mark.parametrize("model", ["./nowhere", "empty"])
def test_a_model_that_is_not_there_is_one_sentence(
    model: str, recordings: list[Recording], capsys: pytest.CaptureFixture[str]
) -> None:
    Path("empty").mkdir()
    assert main(["transcribe", "--model", model, "--offline", str(recordings[1].path), "--output-dir", "out"]) == 1
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"mlx_kstt: [^\n]*(nowhere|empty)[^\n]*\n", told.err)
    assert not Path("out").exists()


def test_speakers_of_a_stereo_file_are_told_apart(
    recordings, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one, other = recordings[0], recordings[1]
    sides = [recording.sound() for recording in (one, other)]
    length = max(map(len, sides))
    stereo = np.stack([np.pad(side, (0, length - len(side))) for side in sides], axis=1)
    soundfile.write(tmp_path / "talk.wav", stereo, 24_000, subtype="FLOAT")
    talk = ["transcribe", "--model", "tiny", str(tmp_path / "talk.wav")]
    assert main([*talk, "--speakers", "right=Bob,left=Ann", "--format", "json"]) == 0
    words = json.loads(capsys.readouterr().out)["words"]
    assert [word["start"] for word in words] == sorted(word["start"] for word in words)
    for name, recording in (("Ann", one), ("Bob", other)):
        assert " ".join(word["text"] for word in words if word["lane"] == name) == recording.reference_text
    with pytest.raises(SystemExit):
        main([*talk, "--speakers", "Ann,Bob"])
    assert "--speakers names channels: left=Ann,right=Bob" in capsys.readouterr().err
    assert main([*talk, "--speakers", "0=Ann,2=Bob"]) == 1
    assert "has no channel 2: it has channels 0 to 1" in capsys.readouterr().err
