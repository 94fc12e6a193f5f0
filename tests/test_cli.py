"""The command line around a model that only tells how much it has heard: outputs, complaints, exit status."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_model import FakeTranscriber, fake_load
from limits import files_of_at_most, plain_user

import mlx_kstt
from mlx_kstt.cli import main
from mlx_kstt.events import Word
from mlx_kstt.subtitles import SubtitleRules
from mlx_kstt.transcriber import Transcriber

FAKE = [sys.executable, str(Path(__file__).parent / "fake_model.py"), "transcribe"]
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(mlx_kstt.__file__).parents[1])}


class Loads:
    """Stands in for `mlx_kstt.load`, and remembers how it was called."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, model: str, **options: Any) -> FakeTranscriber:
        self.calls.append((model, options))
        return fake_load(model, **options)


@pytest.fixture(autouse=True)
def loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Loads:
    """A fake model, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    fake = Loads()
    monkeypatch.setattr(mlx_kstt, "load", fake)
    return fake


def sound(name: str, seconds: float = 0.5) -> str:
    Path(name).parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(name, np.full(round(24_000 * seconds), 0.1, np.float32), 24_000)
    return name


def transcribe(*arguments: str) -> int:
    return main(["transcribe", *arguments])


def files() -> list[str]:
    return sorted(str(path) for path in Path().rglob("*") if path.is_file() and path.suffix not in (".wav", ".flac"))


def refused(arguments: Sequence[str], capsys: pytest.CaptureFixture[str]) -> str:
    """What wrong usage says."""
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    return told.err.splitlines()[-1]


def test_without_a_command_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("usage: mlx_kstt") and "transcribe" in told.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert (ended.value.code, capsys.readouterr().out) == (0, f"mlx_kstt {mlx_kstt.__version__}\n")


def test_a_transcript_goes_to_standard_output_and_nothing_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(sound("talk.wav")) == 0
    assert capsys.readouterr() == ("heard 0.50 s\n", "")
    assert files() == []


def test_options_reach_the_model(loads: Loads, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []

    def remember(
        self: FakeTranscriber, source: Any, *, temperature: float, seed: int, lanes: Any, progress: Any
    ) -> Any:
        heard.append((temperature, seed, np.concatenate(list(source.blocks()))[:4].tolist()))
        return mlx_kstt.Transcript((), 0.0)

    monkeypatch.setattr(FakeTranscriber, "transcribe", remember)
    soundfile.write("stereo.wav", np.tile(np.array([[0.5, -0.25]], np.float32), (2400, 1)), 24_000, subtype="FLOAT")
    choice = ["--model", "some/repo", "--dtype", "float16", "--revision", "v2", "--offline", "--delay", "2.5"]
    assert (
        transcribe("stereo.wav", *choice, "--prefix", "0", "--temperature", "0.25", "--seed", "7", "--channel", "1")
        == 0
    )
    options = {"dtype": "float16", "revision": "v2", "offline": True, "delay": 2.5, "prefix": 0.0}
    assert loads.calls == [("some/repo", options)]
    assert heard == [(0.25, 7, [-0.25] * 4)]


def test_the_fake_takes_what_the_real_one_takes() -> None:
    real = Transcriber.transcribe.__annotations__
    fake = FakeTranscriber.transcribe.__annotations__
    assert fake.keys() <= real.keys()
    assert fake["progress"] in real["progress"] and "Audio" in real["source"]


def test_the_default_model_is_the_published_one(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(sound("talk.wav")) == 0
    defaults = {"dtype": None, "revision": None, "offline": False, "delay": None, "prefix": None}
    assert loads.calls == [("kyutai/stt-1b-en_fr-candle", defaults)]


def test_the_demonstration_model_says_once_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe("--model", "tiny", sound("a.wav"), sound("b.wav")) == 0
    assert capsys.readouterr().err == (
        'mlx_kstt: "tiny" is a demonstration model for synthetic voices: leave out --model for real speech\n'
    )
    Path("tiny").mkdir()
    assert transcribe("--model", "tiny", "a.wav") == 0
    assert capsys.readouterr().err == ""


def test_several_sources_as_txt(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(sound("a.wav"), sound("b.wav", 1.0)) == 0
    assert capsys.readouterr().out == "==> a.wav <==\nheard 0.50 s\n\n==> b.wav <==\nheard 1.00 s\n"


@pytest.mark.parametrize("seconds", [[0.5], [0.5, 1.0]])
def test_a_folder_as_json_is_an_array_whatever_is_in_it(
    seconds: list[float], capsys: pytest.CaptureFixture[str]
) -> None:
    names = [sound(f"talks/{number}.wav", length) for number, length in enumerate(seconds)]
    assert transcribe("talks", "--format", "json") == 0
    items = json.loads(capsys.readouterr().out)
    assert [(item["source"], item["duration"]) for item in items] == list(zip(names, seconds, strict=True))


def test_jsonl_of_several_sources(capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(sound("a.wav"), sound("b.wav", 1.0), "--format", "jsonl") == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(line["source"], line["text"]) for line in lines][1:5:3] == [("a.wav", "0.50"), ("b.wav", "1.00")]


def test_files_go_beside_their_sources_in_every_format(capsys: pytest.CaptureFixture[str]) -> None:
    sound("talks/a.wav")
    assert (
        transcribe("talks", sound("b.wav"), "--save", "--format", "txt,srt", "--format", "json", "--format", "txt") == 0
    )
    assert capsys.readouterr() == ("", "")
    assert files() == ["b.json", "b.srt", "b.txt", "talks/a.json", "talks/a.srt", "talks/a.txt"]
    assert Path("b.txt").read_text() == "heard 0.50 s\n"
    assert json.loads(Path("b.json").read_text())["text"] == "heard 0.50 s"
    assert Path("b.srt").read_text() == "1\n00:00:00,000 --> 00:00:01,000\nheard 0.50 s\n"


def test_files_go_to_the_output_folder_and_clashing_names_stay_apart() -> None:
    sound("talks/2024/a.wav")
    assert transcribe("talks", sound("talk.wav"), sound("talk.flac", 1.0), "--output-dir", "out") == 0
    assert files() == ["out/2024/a.txt", "out/talk.flac.txt", "out/talk.wav.txt"]
    assert Path("out/talk.flac.txt").read_text() == "heard 1.00 s\n"


def test_existing_files_are_overwritten_unless_skipped(loads: Loads) -> None:
    Path("b.txt").write_text("old")
    assert transcribe(sound("a.wav"), sound("b.wav"), "--save", "--skip-existing") == 0
    assert (Path("a.txt").read_text(), Path("b.txt").read_text()) == ("heard 0.50 s\n", "old")
    assert transcribe("a.wav", "b.wav", "--save", "--skip-existing") == 0
    assert len(loads.calls) == 1
    assert transcribe("a.wav", "b.wav", "--save") == 0
    assert Path("b.txt").read_text() == "heard 0.50 s\n"


def test_subtitle_and_paragraph_options_reach_the_files() -> None:
    options = ["--max-line-length", "6", "--max-lines", "1", "--min-duration", "0.08", "--paragraph-gap", "0"]
    assert transcribe(sound("a.wav"), "--save", "--format", "vtt,txt", *options, "--min-gap", "0") == 0
    assert Path("a.vtt").read_text().split("\n\n")[1:] == [
        "00:00:00.000 --> 00:00:00.080\nheard",
        "00:00:00.080 --> 00:00:00.240\n0.50 s\n",
    ]


@pytest.mark.parametrize(
    ("options", "samples"),
    [
        ([], np.zeros(12_000, "<i2")),
        (["--rate", "8000"], np.zeros(4_000, "<i2")),
        (["--encoding", "f32le"], np.zeros(12_000, "<f4")),
    ],
)
def test_raw_samples_come_from_standard_input(
    options: list[str], samples: np.ndarray, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(samples.tobytes())))
    assert transcribe("-", *options) == 0
    assert capsys.readouterr().out == "heard 0.50 s\n"


def test_standard_input_can_go_to_a_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(bytes(48_000))))
    assert transcribe("-", "--output-dir", "out") == 0
    assert Path("out/stdin.txt").read_text() == "heard 1.00 s\n"


def test_a_failed_source_does_not_stop_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.wav").write_text("not sound, but quite some text all the same\n" * 50)
    Path("empty.wav").touch()
    Path("folder").mkdir()
    sources = ["text.wav", "none.wav", "empty.wav", "folder", sound("good.wav")]
    assert transcribe(*sources, "--save") == 1
    complaints = capsys.readouterr().err.splitlines()
    assert len(complaints) == 4
    assert all(line.startswith("mlx_kstt: ") for line in complaints)
    assert all(sum(name in line for line in complaints) == 1 for name in sources[:4])
    assert files() == ["good.txt"]


def test_nothing_is_loaded_when_nothing_can_be_done(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe("none.wav") == 1
    Path("file").touch()
    assert transcribe(sound("a.wav"), "--output-dir", "file") == 1
    assert capsys.readouterr().err.splitlines()[1] == (
        "mlx_kstt: a.wav: nothing can be written in file: name another --output-dir"
    )
    assert loads.calls == []


def test_a_model_that_cannot_be_loaded_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(model: str, **options: Any) -> None:
        raise mlx_kstt.CheckpointError(f"{model} lacks the tensor x: download it again")

    monkeypatch.setattr(mlx_kstt, "load", fail)
    assert transcribe(sound("a.wav"), "--model", "here", "--output-dir", "out") == 1
    assert capsys.readouterr() == ("", "mlx_kstt: here lacks the tensor x: download it again\n")
    assert files() == []


def test_a_source_that_breaks_off_is_written_and_complained_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(self: FakeTranscriber, source: Any, **options: Any) -> Any:
        return mlx_kstt.Transcript((Word("So", 0.0, 0.2, 1.0),), 1.0, f"{source.name} is cut off: 1.00 s could be read")

    monkeypatch.setattr(FakeTranscriber, "transcribe", broken)
    assert transcribe(sound("a.wav"), "--save", "--format", "json") == 1
    assert capsys.readouterr().err == "mlx_kstt: a.wav is cut off: 1.00 s could be read\n"
    assert json.loads(Path("a.json").read_text())["warning"] == "a.wav is cut off: 1.00 s could be read"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (mlx_kstt.AudioError("sample 7 is NaN"), "a.wav: sample 7 is NaN"),
        (OSError(5, "Input/output error"), "a.wav cannot be read (Input/output error): check the disk that it is on"),
    ],
)
def test_what_fails_midway_is_named_and_writes_nothing(
    error: Exception, told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(self: FakeTranscriber, source: Any, **options: Any) -> Any:
        raise error

    monkeypatch.setattr(FakeTranscriber, "transcribe", fail)
    assert transcribe(sound("a.wav"), "--save") == 1
    assert capsys.readouterr().err == f"mlx_kstt: {told}\n"
    assert files() == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["a.wav", "--format", "txt,doc"], "'doc' is none of txt, srt, vtt, tsv, json, jsonl"),
        (["a.wav", "--format", "srt,txt"], "several formats need --output-dir or --save"),
        (["a.wav", "b.wav", "--format", "srt"], "srt of several sources needs --output-dir or --save"),
        (["folder", "--format", "tsv"], "tsv of several sources needs --output-dir or --save"),
        (["a.wav", "--skip-existing"], "--skip-existing needs --output-dir or --save"),
        (["-", "--save"], 'there is no place beside "-": use --output-dir'),
        (["a.wav", "--save", "--output-dir", "out"], "not allowed with argument --save"),
        (["a.wav", "--rate", "8000"], '--rate is for raw PCM from "-" only'),
        (["a.wav", "--encoding", "f32le"], '--encoding is for raw PCM from "-" only'),
        (["-", "--rate", "7"], "7 is not a sampling rate from 1000 to 768000 Hz"),
        (["-", "--encoding", "mp3"], "invalid choice: 'mp3'"),
        (["a.wav", "--channel", "-1"], "-1 is not a channel: they are counted from 0"),
        (["a.wav", "--temperature", "-1"], "-1 is not a number of at least 0"),
        (["a.wav", "--temperature", "nan"], "nan is not a number of at least 0"),
        (["a.wav", "--temperature", "hot"], "hot is not a number of at least 0"),
        (["-", "--rate", "fast"], "fast is not a sampling rate from 1000"),
        (["a.wav", "--channel", "left"], "left is not a channel: they are counted from 0"),
        (["a.wav", "--format", "srt", "--paragraph-gap", "1"], "--paragraph-gap is for the format txt only"),
        (["a.wav", "--max-lines", "1"], "--max-lines is for the formats srt and vtt only"),
        ([], "the following arguments are required: SOURCE"),
    ],
)
def test_wrong_usage_is_refused(
    arguments: list[str], told: str, loads: Loads, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("folder").mkdir()
    assert told in refused(["transcribe", *arguments], capsys)
    assert loads.calls == []


def test_a_rule_out_of_range_is_wrong_usage(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    assert transcribe(sound("a.wav"), "--format", "srt", "--max-lines", "0") == 2
    assert capsys.readouterr().err == "mlx_kstt: max_lines is 0, and must be a number of at least 1\n"
    assert loads.calls == []


def test_every_rule_has_an_option() -> None:
    options = [f"--{name.replace('_', '-')}=9" for name in SubtitleRules.__slots__]
    assert transcribe(sound("a.wav"), "--format", "srt", *options) == 0


def test_an_interruption_ends_with_its_own_status_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(self: FakeTranscriber, source: Any, **options: Any) -> None:
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(FakeTranscriber, "transcribe", interrupt)
    assert transcribe(sound("a.wav"), "--save") == 130
    assert capsys.readouterr() == ("", "")
    assert files() == []


def test_rights_are_respected_before_any_work(
    loads: Loads, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with plain_user() as folder:
        monkeypatch.chdir(folder)
        Path("locked").mkdir()
        for name in ("secret.wav", "locked/a.wav"):
            Path(name).write_bytes(b"sound")
        Path("secret.wav").chmod(0)
        Path("locked").chmod(0o555)
        assert transcribe("secret.wav", "locked", "--save") == 1
        Path("locked").chmod(0o700)
    assert capsys.readouterr().err.splitlines() == [
        "mlx_kstt: secret.wav cannot be read (Permission denied): check the path and its permissions",
        "mlx_kstt: locked/a.wav: nothing can be written in locked: name another --output-dir",
    ]
    assert loads.calls == []


def test_a_full_disk_is_one_sentence_and_the_other_files_are_written(capsys: pytest.CaptureFixture[str]) -> None:
    sound("a.wav")
    with files_of_at_most(100):
        assert transcribe("a.wav", "--save", "--format", "json,txt") == 1
    assert capsys.readouterr().err == (
        "mlx_kstt: a.json cannot be written (File too large): check the disk's space and the folder's permissions, "
        "or write elsewhere\n"
    )
    assert files() == ["a.txt"]


def in_its_own_process(*arguments: str, **streams: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*FAKE, *arguments], env=ENVIRONMENT, text=True, check=False, **streams)


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    read, write = os.pipe()
    os.close(read)
    done = in_its_own_process(sound("a.wav"), stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_a_full_standard_output_is_one_sentence() -> None:
    with open("/dev/full", "w") as full:
        done = in_its_own_process(sound("a.wav"), "--format", "json", stdout=full, stderr=subprocess.PIPE)
    assert done.returncode == 1
    assert done.stderr == (
        "mlx_kstt: standard output cannot be written (No space left on device): "
        "check the disk's space, or write to a file elsewhere\n"
    )


def test_a_terminal_shows_progress_and_standard_output_stays_clean(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"TERM": "xterm", "COLUMNS": "100", "NO_COLOR": "1"}.items():
        monkeypatch.setitem(ENVIRONMENT, name, value)
    keyboard, terminal = pty.openpty()
    done = in_its_own_process(sound("a.wav", 75.0), stdout=subprocess.PIPE, stderr=terminal)
    shown = os.read(keyboard, 65_536).decode()
    os.close(terminal)
    os.close(keyboard)
    assert (done.returncode, done.stdout) == (0, "heard 75.00 s\n")
    assert re.search(r"a\.wav .* 1:15/1:15  \d+\.\d x real time", shown)
    assert "\x1b[3" not in shown
