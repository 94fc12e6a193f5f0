"""The commands `mic` and `devices` around a scripted microphone: options, files, interruptions, exit statuses."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fake_session import FakeMicrophone, FakeModel, Item, seconds_of
from limits import files_of_at_most, plain_user

import mlx_kstt
from mlx_kstt.audio.lost import Lost
from mlx_kstt.cli import main
from mlx_kstt.cli.turn_command import TurnCommand
from mlx_kstt.errors import AudioError, CheckpointError
from mlx_kstt.events import Refresh
from mlx_kstt.live.growing_files import opened as opened_file
from mlx_kstt.live.past_sessions import read_journal, read_past
from mlx_kstt.live.recording import Recording
from mlx_kstt.microphone import devices as sound_devices
from mlx_kstt.microphone.devices import Device

DEVICES = [
    Device(0, "Built-in Microphone", 1, 48_000, False),
    Device(3, "BlackHole 2ch", 2, 44_100, True),
    Device(4, "USB Microphone", 2, 16_000, False),
]
TWO = [seconds_of(0.1), seconds_of(0.2)]


class Studio:
    """A machine with some devices, a model, and what the microphone will give."""

    def __init__(self) -> None:
        self.devices = DEVICES
        self.items: Sequence[Item | Callable[[], object]] = TWO
        self.model = FakeModel()
        self.loads: list[tuple[str, dict[str, Any]]] = []
        self.opened: list[tuple[Any, dict[str, Any]]] = []
        self.microphone = FakeMicrophone([])

    def load(self, model: str, **options: Any) -> FakeModel:
        self.loads.append((model, options))
        return self.model

    def open_microphone(self, device: Any, *, on_news: Callable[[str], object], **options: Any) -> FakeMicrophone:
        channels = options["channels"]
        lanes = len(device) if isinstance(device, tuple) else len(channels) if isinstance(channels, tuple) else 1
        self.opened.append((device, options))
        self.microphone = FakeMicrophone(self.items, lanes)
        self.microphone.on_news = on_news
        return self.microphone


@pytest.fixture(autouse=True)
def studio(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Studio:
    """All fakes in place, in an empty folder."""
    studio = Studio()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(mlx_kstt, "load", studio.load)
    monkeypatch.setattr("mlx_kstt.cli.mic.microphone", studio.open_microphone)
    monkeypatch.setattr("mlx_kstt.cli.mic_inputs.input_devices", lambda: studio.devices)
    monkeypatch.setattr("mlx_kstt.cli.devices.input_devices", lambda: studio.devices)
    return studio


def mic(*arguments: str) -> int:
    return main(["mic", "--model", "tiny", "--allow-sleep", *arguments])


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What wrong usage says."""
    with pytest.raises(SystemExit) as ended:
        mic(*arguments)
    assert ended.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("mlx_kstt mic: error: ")


def send(number: int = signal.SIGINT) -> Callable[[], None]:
    return lambda: os.kill(os.getpid(), number)


def test_what_is_said_is_printed_and_the_news_go_elsewhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert mic() == 0
    said = capsys.readouterr()
    assert said.out == "100 200\n"
    assert said.err.splitlines()[1:] == ["mlx_kstt: listening to Fake (48000 Hz)"]
    assert "demonstration model" in said.err.splitlines()[0]


def test_jsonl_is_valid_at_every_line(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    studio.items = [*TWO, Lost(1.5, "gone")]
    assert mic("--format", "jsonl") == 0
    said = capsys.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert [line["type"] for line in lines] == ["word", "word", "end_of_turn", "gap"]
    assert lines[1] == {"type": "word", "text": "200", "start": 1.0, "end": 2.0, "confidence": 0.5}
    assert "mlx_kstt: at 0:00:02.0 1.5 s were lost: gone" in said.err


def test_options_reach_the_microphone_the_model_and_the_stream(studio: Studio) -> None:
    options = ["--device", "usb", "--channel", "1", "--gain", "2.5", "--queue", "30", "--temperature", "0.25", "--seed"]
    options += ["7", "--turn-hold", "0.4", "--pause-head", "1", "--pause-threshold", "0.6", "--refresh", "5"]
    options += ["--rescue", "0", "--dtype", "float32", "--delay", "1", "--prefix", "0", "--revision", "x", "--offline"]
    assert mic(*options) == 0
    assert studio.opened == [("usb", {"channels": 1, "gain": 2.5, "queue_seconds": 30.0})]
    loaded = {"dtype": "float32", "revision": "x", "offline": True, "delay": 1.0, "prefix": 0.0}
    assert studio.loads == [("tiny", loaded)]
    assert studio.model.opened == [
        {
            "temperature": 0.25,
            "seed": 7,
            "turn_hold": 0.4,
            "pause_head": 1,
            "pause_threshold": 0.6,
            "refresh": 300.0,
            "rescue": None,
            "lanes": (),
            "start": 0.0,
        }
    ]


def test_by_default_the_decoder_is_refreshed_and_rescued(studio: Studio) -> None:
    assert mic() == 0
    assert studio.opened == [(None, {"channels": None, "gain": 1.0, "queue_seconds": 120.0})]
    assert studio.model.opened[0] == {
        "temperature": 0.0,
        "seed": 0,
        "refresh": 600.0,
        "rescue": 10.0,
        "lanes": (),
        "start": 0.0,
    }


@pytest.mark.parametrize(
    ("options", "device", "channels", "lanes"),
    [
        (["--speakers", "left=Ann,right=Bob"], None, (0, 1), ("Ann", "Bob")),
        (["--device", "4", "--speakers", " 1 = Ann "], 4, (1,), ("Ann",)),
        (["--device", "0", "--device", "hole"], (0, "hole"), None, ("Built-in Microphone", "BlackHole 2ch")),
        (["--device", "0", "--device", "3", "--speakers", "Ann,Bob", "--channel", "0"], (0, 3), 0, ("Ann", "Bob")),
    ],
)
def test_speakers_are_channels_or_devices(
    studio: Studio, options: list[str], device: Any, channels: Any, lanes: tuple[str, ...]
) -> None:
    studio.items = []
    assert mic(*options) == 0
    assert (studio.opened[0][0], studio.opened[0][1]["channels"]) == (device, channels)
    assert studio.model.opened[0]["lanes"] == lanes


def test_devices_of_one_name_are_told_apart(studio: Studio) -> None:
    studio.devices = [Device(number, "Mic", 1, 48_000, False) for number in (1, 2)]
    studio.items = []
    assert mic("--device", "1", "--device", "2") == 0
    assert studio.model.opened[0]["lanes"] == ("Mic 1", "Mic 2")


def test_lanes_and_times_stand_before_each_line(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    studio.items = [np.stack([block, block], 1) for block in TWO]
    assert mic("--speakers", "left=Ann,right=Bob", "--timestamps", "--plain") == 0
    assert capsys.readouterr().out == "[0:00:00.0] Ann: 100 200\n"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--format", "jsonl", "--plain"], "--plain is for the format txt only"),
        (["--format", "jsonl", "--timestamps"], "--timestamps is for the format txt only: jsonl has all times"),
        (["--format", "srt"], "argument --format: invalid choice: 'srt' (choose from"),
        (["--gain", "0"], "--gain must be above 0 and at most 1000"),
        (["--gain", "2000"], "--gain must be above 0 and at most 1000"),
        (["--queue", "0.5"], "--queue must be 1 to 3600 seconds"),
        (["--channel", "1", "--speakers", "left=A,right=B"], "--speakers names the channels: leave --channel out"),
        (["--speakers", "Ann,Bob"], "--speakers with one --device names its channels: left=Ann,right=Bob"),
        (["--device", "0", "--device", "3", "--speakers", "left=A"], "--speakers with several --device is one name"),
        (["--device", "0", "--device", "3", "--speakers", "A"], "--speakers has 1 name(s) for 2 devices: give one for"),
        (["--speakers", "left=Ann,Bob"], "argument --speakers: left=Ann,Bob: name a channel for each speaker, or for"),
        (["--speakers", "left=Ann,0=Bob"], "argument --speakers: left=Ann,0=Bob: two speakers share the channel 0"),
        (["--speakers", "left=A,right=A"], "argument --speakers: left=A,right=A: two speakers share the name A"),
        (["--speakers", "left=,right=B"], "argument --speakers: 'left=' names no speaker: left=Ann,right=Bob"),
        (["--speakers", "middle=Ann"], "argument --speakers: 'middle' is no channel: left, right, or a number from 0"),
        (["--device", ""], "argument --device: the name is empty"),
        (["--channel", "-1"], "argument --channel: "),
        (["--save-audio", "talk.mp3"], "argument --save-audio: talk.mp3 does not end in .wav"),
        (["--output", "talk.docx"], "argument --output: talk.docx ends in none of .txt, .srt, .vtt, .tsv, .json, .js"),
        (["--output", "talk"], "argument --output: talk ends in none of"),
        (["--journal", "a", "--resume", "b"], "argument --resume: not allowed with argument --journal"),
        (["--journal", "a.txt", "--output", "./a.txt"], "{}/a.txt is named twice: each file holds one thing"),
    ],
)
def test_wrong_usage_is_refused(
    capsys: pytest.CaptureFixture[str], studio: Studio, tmp_path: Path, options: list[str], message: str
) -> None:
    assert refused(capsys, *options).startswith(message.format(tmp_path))
    assert (studio.opened, studio.loads) == ([], [])


@pytest.mark.parametrize(
    ("options", "status", "message"),
    [
        (["--device", "none"], 1, "there is no sound input 'none', only 0 (Built-in Microphone), 3 (BlackHole 2ch), 4"),
        (["--device", "micro"], 2, "'micro' fits several sound inputs, 0 (Built-in Microphone), 4 (USB Microphone):"),
        (["--device", "4", "--device", "usb"], 2, "two --device name USB Microphone: for two speakers on one device"),
        (["--pause-threshold", "1.5"], 2, "pause_threshold is 1.5; it must be between 0 and 1"),
        (["--rescue", "0.5"], 2, "rescue is 0.5; it must be between 1 and 30 seconds"),
        (["--journal", "there"], 2, "there exists: name another file, or go on with it by --resume"),
        (["--save-audio", "there.wav"], 2, "there.wav exists: name another file, or go on with it by --resume"),
        (["--save-audio", "folder.wav"], 2, "folder.wav is a folder: name a file"),
        (["--resume", "there"], 2, "there is no journal of mlx_kstt (line 1 does not begin a session): name another"),
        (["--resume", "missing"], 2, "there is no journal 'missing': check the path"),
        (["--output", "there/talk.txt"], 1, "nothing can be written in {}/there, where talk.txt was to go: name ano"),
        (["--output", "there.txt"], 2, "there.txt exists: name another file, or --resume its session, which replaces"),
        (["--on-turn", ""], 2, "--on-turn names no program: give one, or leave it out"),
        (["--on-turn", "./there"], 2, "--on-turn ./there is no program that may be run: chmod +x makes a file one"),
        (["--on-turn", "no-such-program"], 2, "--on-turn no-such-program: there is no such program: check its name,"),
        (["--on-turn", "'"], 2, "--on-turn ' cannot be split into words (no closing quotation): close every quote"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence_before_listening(
    capsys: pytest.CaptureFixture[str],
    studio: Studio,
    tmp_path: Path,
    options: list[str],
    status: int,
    message: str,
) -> None:
    for name in ("there", "there.wav", "there.txt"):
        Path(name).write_text("something")
    Path("folder.wav").mkdir()
    assert mic(*options) == status
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n")) == ("", 1)
    assert said.err.startswith("mlx_kstt: " + message.format(tmp_path))
    assert (studio.opened, studio.loads) == ([], [])
    assert sorted(os.listdir()) == ["folder.wav", "there", "there.txt", "there.wav"]
    assert {Path(name).read_text() for name in ("there", "there.wav", "there.txt")} == {"something"}


def test_a_folder_that_may_not_be_written_is_found_before_listening(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with plain_user() as home:
        monkeypatch.chdir(home)
        (home / "locked").mkdir(mode=0o555)
        statuses = [mic("--output", "locked/a.srt"), mic("--journal", "locked/deeper/j")]
    assert statuses == [1, 1]
    assert capsys.readouterr().err.count("nothing can be written in") == 2


def test_a_pause_head_that_the_model_lacks_leaves_no_files(capsys: pytest.CaptureFixture[str]) -> None:
    assert mic("--pause-head", "4", "--journal", "j", "--save-audio", "a.wav") == 2
    assert "pause_head is 4; this checkpoint has heads 0 to 3" in capsys.readouterr().err
    assert os.listdir() == []


def test_a_model_that_is_missing_is_told_before_the_microphone_is_opened(
    capsys: pytest.CaptureFixture[str], studio: Studio
) -> None:
    assert main(["mic", "--model", "./no-model", "--allow-sleep"]) == 1
    assert (studio.opened, capsys.readouterr().err.count("\n")) == ([], 1)


def test_recording_journal_and_outputs_hold_the_session(studio: Studio) -> None:
    studio.items = [*TWO, Lost(1.0, "gone"), seconds_of(0.3)]
    outputs = [option for form in ("txt", "srt", "json", "jsonl") for option in ("--output", f"new/talk.{form}")]
    assert mic("--save-audio", "new/a.wav", "--journal", "new/j", *outputs) == 0
    assert Path("new/talk.txt").read_text() == "100 200 300\n"
    assert Path("new/talk.srt").read_text() == "1\n00:00:00,000 --> 00:00:04,000\n100 200 300\n"
    talk = json.loads(Path("new/talk.json").read_text())
    assert (talk["duration"], talk["gaps"]) == (4.0, [{"start": 2.0, "end": 3.0, "reason": "gone"}])
    saved = soundfile.read("new/a.wav", dtype="float32")[0]
    assert saved[::24_000].tolist() == pytest.approx([0.1, 0.2, 0.0, 0.3], abs=1e-4)
    assert (read_past("new/j").words, read_past("new/j").save_audio) == (3, "new/a.wav")


def test_outputs_without_a_journal_hold_the_same(studio: Studio) -> None:
    assert mic("--output", "with.jsonl", "--journal", "j") == mic("--output", "without.jsonl") == 0
    assert Path("with.jsonl").read_text() == Path("without.jsonl").read_text()
    assert Path("with.jsonl").read_text().count("\n") == 3


def test_a_journal_that_fails_takes_no_output_with_it(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    studio.items = [seconds_of(value / 1000) for value in range(100, 120)]
    with files_of_at_most(700):
        assert mic("--journal", "j", "--output", "talk.txt") == 1
    words = " ".join(map(str, range(100, 120)))
    assert (capsys.readouterr().out, Path("talk.txt").read_text()) == (f"{words}\n", f"{words}\n")
    assert 0 < len(read_journal("j")) < 10


@pytest.mark.parametrize("options", [["--journal", "j"], ["--resume", "old"]])
def test_a_journal_that_is_gone_or_damaged_takes_no_output_with_it(studio: Studio, options: list[str]) -> None:
    studio.items = [seconds_of(0.05)]
    assert mic("--journal", "old") == 0
    before = "50 " * (options[0] == "--resume")
    for ruin in (os.remove, lambda path: Path(path).write_bytes(b"mine")):
        studio.items = [*TWO, lambda ruin=ruin: ruin(options[1]), seconds_of(0.3)]
        copy = Path("old").read_bytes()
        assert mic(*options, "--output", "talk.txt") == 0
        assert Path("talk.txt").read_text() == f"{before}100 200 300\n"
        Path("talk.txt").unlink()
        Path("old").write_bytes(copy)
        Path("j").unlink(missing_ok=True)


def test_the_events_of_both_sessions_are_in_the_outputs_of_a_resumed_one(studio: Studio) -> None:
    studio.items = [*TWO, Lost(1.5, "gone")]
    assert mic("--journal", "j") == 0
    studio.items = [seconds_of(0.3)]
    assert mic("--resume", "j", "--output", "talk.json") == 0
    talk = json.loads(Path("talk.json").read_text())
    assert [(word["text"], word["start"]) for word in talk["words"]] == [("100", 0.0), ("200", 1.0), ("300", 3.5)]
    assert [turn["text"] for turn in talk["turns"]] == ["100 200", "300"]
    assert talk["gaps"] == [{"start": 2.0, "end": 3.5, "reason": "gone"}]
    assert talk["duration"] == 4.5


def test_a_journal_is_resumed_with_its_numbers_and_times(studio: Studio) -> None:
    assert mic("--save-audio", "a.wav", "--journal", "j") == 0
    studio.items = [seconds_of(0.3)]
    assert mic("--save-audio", "a.wav", "--resume", "j", "--output", "talk.txt", "--output", "talk.json") == 0
    words = [json.loads(line) for line in Path("j").read_text().splitlines() if '"word"' in line]
    assert [(word["number"], word["start"]) for word in words] == [(1, 0.0), (2, 1.0), (3, 2.0)]
    assert soundfile.read("a.wav", dtype="float32")[0][::24_000].tolist() == pytest.approx([0.1, 0.2, 0.3], abs=1e-4)
    assert Path("talk.txt").read_text() == "100 200 300\n"
    assert json.loads(Path("talk.json").read_text())["duration"] == 3.0


def test_a_resumed_session_replaces_its_output(studio: Studio) -> None:
    assert mic("--journal", "j", "--output", "talk.txt") == 0
    studio.items = [seconds_of(0.3)]
    assert mic("--resume", "j", "--output", "talk.txt") == 0
    assert Path("talk.txt").read_text() == "100 200 300\n"
    Path("empty.txt").touch()
    assert mic("--output", "empty.txt") == 0


@pytest.mark.parametrize("name", ["j", "a.wav"])
def test_what_another_session_writes_is_refused_before_listening(
    capsys: pytest.CaptureFixture[str], studio: Studio, name: str
) -> None:
    assert mic("--save-audio", "a.wav", "--journal", "j") == 0
    opened, data = len(studio.opened), (Path("j").read_bytes(), Path("a.wav").read_bytes())
    capsys.readouterr()
    with opened_file(Path(name), create=False):
        assert mic("--save-audio", "a.wav", "--resume", "j") == 2
    assert capsys.readouterr().err == f"mlx_kstt: another session writes {name}: end that one, or name another file\n"
    assert (len(studio.opened), Path("j").read_bytes(), Path("a.wav").read_bytes()) == (opened, *data)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--save-audio", "a.wav"], None),
        ([], "the sound is recorded no more: it went to a.wav, which --save-audio would go on with"),
        (["--save-audio", "b.wav"], "the sound goes to b.wav from now on: until now it went to a.wav"),
        (["--save-audio", "b.wav"], "b.wav is new: 2.0 s of silence are put in, so that times stay true"),
        (
            ["--save-audio", "short.wav"],
            "short.wav ends before the journal: 1.5 s of silence are put in, so that times",
        ),
    ],
)
def test_what_a_resumed_session_does_not_record_is_said(
    capsys: pytest.CaptureFixture[str], studio: Studio, options: list[str], message: str | None
) -> None:
    assert mic("--save-audio", "a.wav", "--journal", "j") == 0
    with Recording("short.wav") as recording:
        recording.write(seconds_of(0.1, 0.5))
    capsys.readouterr()
    assert mic("--resume", "j", *options) == 0
    said = capsys.readouterr().err
    if message is None:
        assert [line for line in said.splitlines() if "Fake" not in line and "demonstration" not in line] == []
    else:
        assert f"mlx_kstt: {message}" in said


@pytest.mark.parametrize("content", ["", '{"type": "sess'])
def test_an_empty_journal_begins_anew_and_says_so(capsys: pytest.CaptureFixture[str], content: str) -> None:
    Path("j").write_text(content)
    assert mic("--resume", "j") == 0
    assert capsys.readouterr().err.startswith("mlx_kstt: j holds nothing: it begins anew\n")
    assert (read_past("j").words, read_past("j").seconds) == (2, 2.0)


def test_a_recording_that_begins_with_a_resumed_journal_shares_its_clock(studio: Studio) -> None:
    assert mic("--journal", "j") == 0
    studio.items = [seconds_of(0.3)]
    assert mic("--save-audio", "a.wav", "--resume", "j") == 0
    saved = soundfile.read("a.wav", dtype="float32")[0]
    assert saved[::24_000].tolist() == pytest.approx([0.0, 0.0, 0.3], abs=1e-4)
    assert [word.start for word in read_journal("j") if isinstance(word, mlx_kstt.Word)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_ends_the_session_properly(
    capsys: pytest.CaptureFixture[str], studio: Studio, number: int
) -> None:
    before = signal.getsignal(number)
    studio.items = [seconds_of(0.1), send(number), seconds_of(0.2)]
    assert mic("--journal", "j", "--output", "talk.txt") == 0
    assert (capsys.readouterr().out, Path("talk.txt").read_text()) == ("100\n", "100\n")
    assert studio.microphone.is_stopped and studio.microphone.is_closed
    assert '"type": "end"' in Path("j").read_text()
    assert signal.getsignal(number) == before


def test_the_second_signal_ends_it_at_once(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    studio.items = [*TWO, lambda: (send()(), send()()), seconds_of(0.3)]
    assert mic("--journal", "j", "--save-audio", "a.wav", "--output", "talk.txt") == 130
    said = capsys.readouterr()
    assert said.out == "100\n", "the line is ended"
    last = "mlx_kstt: ended at once: the last words were not decoded, and nothing was written to talk.txt"
    assert said.err.splitlines()[-1] == last
    assert (len(read_journal("j")), len(soundfile.read("a.wav")[0])) == (1, 48_000)
    assert not Path("talk.txt").exists()


def test_an_end_while_the_outputs_are_written_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mlx_kstt.cli.kept.render", lambda *arguments: (send()(), send()()))
    assert mic("--output", "talk.txt", "--output", "talk.srt") == 130
    last = "mlx_kstt: ended at once: not all of talk.txt, talk.srt is written"
    assert (capsys.readouterr().err.splitlines()[-1], os.listdir()) == (last, [])


def test_an_ignored_signal_stays_ignored(studio: Studio) -> None:
    """As under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        studio.items = [seconds_of(0.1), send(signal.SIGHUP), seconds_of(0.2)]
        assert mic("--output", "talk.txt") == 0
    finally:
        signal.signal(signal.SIGHUP, before)
    assert Path("talk.txt").read_text() == "100 200\n"


def test_an_interruption_while_the_model_loads_is_quiet(
    capsys: pytest.CaptureFixture[str], studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: str, **options: Any) -> None:
        send()()

    monkeypatch.setattr(mlx_kstt, "load", load)
    assert mic("--journal", "j") == 130
    assert studio.microphone.is_closed and not Path("j").exists()
    assert capsys.readouterr().err.count("\n") == 1, "nothing but the note about the demonstration model"


def test_a_model_that_fails_to_load_closes_the_microphone(
    capsys: pytest.CaptureFixture[str], studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load(model: str, **options: Any) -> None:
        raise CheckpointError("it is damaged")

    monkeypatch.setattr(mlx_kstt, "load", load)
    assert mic() == 1
    assert studio.microphone.is_closed
    assert capsys.readouterr().err.endswith("mlx_kstt: it is damaged\n")


class Closed(io.StringIO):
    """Standard output whose reader goes after a few lines."""

    def write(self, text: str) -> int:
        if self.getvalue().count("\n") >= 2:
            raise BrokenPipeError(32, "Broken pipe")
        return super().write(text)

    def fileno(self) -> int:
        return os.open(os.devnull, os.O_WRONLY)


def test_a_reader_that_goes_ends_the_session_properly(
    capsys: pytest.CaptureFixture[str], studio: Studio, monkeypatch: pytest.MonkeyPatch
) -> None:
    studio.items = [seconds_of(value / 1000) for value in range(100, 110)]
    monkeypatch.setattr(sys, "stdout", Closed())
    assert mic("--format", "jsonl", "--journal", "j", "--output", "talk.txt") == 1
    assert studio.microphone.is_stopped
    assert Path("talk.txt").read_text() == "100 101 102 103\n", "also what was heard and not yet told"
    assert '"type": "end"' in Path("j").read_text()
    assert "Broken" not in capsys.readouterr().err


def test_head_ends_it_without_a_traceback(tmp_path: Path) -> None:
    """In a process of its own: the interpreter must not fail when it ends."""
    script = (
        "import sys; sys.path.insert(0, sys.argv[1])\n"
        "import test_mic_command as t, mlx_kstt, mlx_kstt.cli.mic as mic, mlx_kstt.cli.mic_inputs as inputs\n"
        "studio = t.Studio(); studio.items = [t.seconds_of(0.1, 0.01)] * 20000\n"
        "mlx_kstt.load = studio.load; mic.microphone = studio.open_microphone\n"
        "inputs.input_devices = lambda: studio.devices\n"
        "sys.exit(t.mic('--format', 'jsonl', '--journal', 'j', '--save-audio', 'a.wav'))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(mlx_kstt.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parent)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
    )
    assert process.stdout is not None and process.stderr is not None
    first = json.loads(process.stdout.readline())
    process.stdout.close()
    with process.stderr:
        said = process.stderr.read().decode()
    assert (process.wait(60), first["text"]) == (1, "100")
    assert [line for line in said.splitlines() if "Fake" not in line and "demonstration" not in line] == []
    assert '"type": "end"' in Path("j").read_text()
    assert soundfile.read("a.wav")[0].size > 0


def test_an_output_that_fails_in_the_end_is_told(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    studio.items = [lambda: Path("talk.txt").mkdir(), *TWO]
    assert mic("--output", "talk.txt", "--output", "talk.srt") == 1
    assert "talk.txt cannot be written (Is a directory)" in capsys.readouterr().err
    assert Path("talk.srt").read_text().endswith("100 200\n")


def test_a_full_disk_costs_the_recording_and_not_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    with files_of_at_most(60_000):
        assert mic("--save-audio", "a.wav") == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("a.wav cannot be written (File too large)")) == ("100 200\n", 1)
    assert "listening and the other files go on, and from 0:00:01 on the recording is silent" in said.err


def test_a_source_that_breaks_leaves_what_was_heard(capsys: pytest.CaptureFixture[str], studio: Studio) -> None:
    def fail() -> None:
        raise AudioError("the device is on fire")

    studio.items = [*TWO, fail]
    assert mic("--output", "talk.txt") == 1
    assert Path("talk.txt").read_text() == "100 200\n"
    assert "mlx_kstt: the device is on fire" in capsys.readouterr().err


def test_every_turn_runs_the_command_also_the_last_one(studio: Studio) -> None:
    studio.items = [seconds_of(0.1), Lost(1.0, "gone"), seconds_of(0.2), send()]
    assert mic("--on-turn", "tee -a heard") == 0
    assert Path("heard").read_text() == "100\n200\n"


def test_a_command_that_fails_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert mic("--on-turn", "false") == 1
    assert "--on-turn false failed (exit status 1)" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_first_signal_after_a_session_that_ended_by_itself_abandons_the_command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    finish = TurnCommand.finish

    def finish_and_interrupt(turns: TurnCommand) -> None:
        watch = threading.Thread(target=send_when, args=(lambda: Path("begun").exists(), number))
        watch.start()
        try:
            finish(turns)
        finally:
            watch.join()

    monkeypatch.setattr(TurnCommand, "finish", finish_and_interrupt)
    Path("endless.py").write_text("import time\nopen('begun', 'w').close()\ntime.sleep(20)\nopen('done', 'w')")
    before = signal.getsignal(number)
    assert mic("--on-turn", f"{sys.executable} endless.py", "--output", "talk.txt") == 130
    assert (Path("talk.txt").read_text(), Path("done").exists()) == ("100 200\n", False)
    assert "failed" not in capsys.readouterr().err
    assert signal.getsignal(number) == before


def send_when(is_time: Callable[[], bool], number: int) -> None:
    while not is_time():
        time.sleep(0.01)
    os.kill(os.getpid(), number)


def test_a_refresh_is_told(capsys: pytest.CaptureFixture[str], studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fake_session.CountingStream.flush", lambda self: [Refresh(61.25, "10 minutes have passed")])
    assert mic() == 0
    assert "mlx_kstt: at 0:01:01.2 the decoder was started afresh: 10 minutes have passed" in capsys.readouterr().err


def test_the_machine_is_kept_awake_unless_it_may_sleep(studio: Studio, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkdir("bin")
    Path("bin/systemd-inhibit").write_text("#!/bin/sh\necho $@ >inhibited\n")
    Path("bin/systemd-inhibit").chmod(0o755)
    monkeypatch.setenv("PATH", f"{os.getcwd()}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(sys, "platform", "linux")

    def wait_for_it() -> None:
        subprocess.run(["sh", "-c", "until [ -s inhibited ]; do :; done"], check=True, timeout=20)

    studio.items = TWO
    assert mic() == 0
    assert not Path("inhibited").exists()
    studio.items = [wait_for_it, *TWO]
    assert main(["mic", "--model", "tiny"]) == 0
    assert Path("inhibited").read_text().startswith("--what=sleep:idle")


def test_devices_are_listed_with_the_default_marked(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices"]) == 0
    assert capsys.readouterr().out == (
        "  0  Built-in Microphone  1 channel   48000 Hz\n"
        "* 3  BlackHole 2ch        2 channels  44100 Hz\n"
        "  4  USB Microphone       2 channels  16000 Hz\n"
    )


def test_devices_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["devices", "--format", "json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert listed[1] == {"number": 3, "name": "BlackHole 2ch", "channels": 2, "rate": 44100, "is_default": True}
    assert len(listed) == 3


@pytest.mark.parametrize("form", ["txt", "json"])
def test_no_device_is_one_sentence(capsys: pytest.CaptureFixture[str], studio: Studio, form: str) -> None:
    studio.devices = []
    assert main(["devices", "--format", form]) == 1
    said = capsys.readouterr()
    assert (said.out, said.err.count("\n"), "there is no sound input" in said.err) == ("", 1, True)
    assert mic() == 1
    assert "there is no sound input: plug a microphone in" in capsys.readouterr().err


def test_a_machine_without_portaudio_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise AudioError("a microphone needs the library PortAudio, which is missing: apt install libportaudio2")

    monkeypatch.setattr(sound_devices, "portaudio", missing)
    monkeypatch.setattr("mlx_kstt.cli.devices.input_devices", sound_devices.input_devices)
    assert main(["devices"]) == 1
    assert capsys.readouterr().err == (
        "mlx_kstt: a microphone needs the library PortAudio, which is missing: apt install libportaudio2\n"
    )


def test_the_live_words_are_those_of_the_file(
    studio: Studio, monkeypatch: pytest.MonkeyPatch, tiny: Any, recordings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the bundled model: what the recording of the session holds is what was heard."""
    sound = np.concatenate([recording.sound() for recording in recordings[:2]])
    studio.items = [sound[at : at + 1000] for at in range(0, len(sound), 1000)]
    monkeypatch.setattr(studio, "model", tiny)
    assert mic("--save-audio", "a.wav", "--output", "live.json") == 0
    live = json.loads(Path("live.json").read_text())["words"]
    assert live == json.loads(tiny.transcribe("a.wav").to_json())["words"]
    assert len(live) > 10
