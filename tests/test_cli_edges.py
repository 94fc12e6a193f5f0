"""Corners of the command line that people have cut themselves on."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RECORDINGS
from limits import plain_user
from test_cli import ENVIRONMENT, FAKE, Loads, loads, sound, transcribe

import mlx_kstt
from mlx_kstt.audio import open_audio

__all__ = ["loads"]  # the fake model, for every test here


def test_a_bad_file_needs_no_model(loads: Loads, capsys: pytest.CaptureFixture[str]) -> None:
    Path("text.wav").write_text("no sound")
    assert transcribe("text.wav") == 1
    assert loads.calls == []
    assert transcribe("text.wav", sound("good.wav"), sound("other.wav")) == 1
    assert len(loads.calls) == 1, "and the model is loaded once"


@pytest.mark.parametrize("arguments", [[""], ["a.wav", "--output-dir", ""], ["a.wav", "--model", ""]])
def test_an_empty_name_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    sound("a.wav")
    with pytest.raises(SystemExit) as caught:
        transcribe(*arguments)
    assert caught.value.code == 2
    assert "the name is empty" in capsys.readouterr().err


def test_a_channel_of_raw_pcm_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        transcribe("-", "--channel", "1")
    assert 'raw PCM from "-" has one channel: leave --channel out' in capsys.readouterr().err


def test_a_subfolder_that_cannot_be_read_is_complained_about(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with plain_user() as home:
        monkeypatch.chdir(home)
        sound("tree/a/one.wav")
        sound("tree/b/two.wav")
        os.chmod("tree/b", 0)
        status = transcribe("tree")
        os.chmod("tree/b", 0o755)
    said = capsys.readouterr()
    assert (status, "heard 0.50 s" in said.out) == (1, True)
    assert said.err == "mlx_kstt: tree/b cannot be read (Permission denied): check the path and its permissions\n"


def test_json_is_utf_8_wherever_it_goes() -> None:
    sound("über 日本.wav")
    sound("b.wav")
    command = [*FAKE, "über 日本.wav", "b.wav", "--format", "json"]
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    result = subprocess.run(command, capture_output=True, env=environment, timeout=60)
    assert json.loads(result.stdout.decode("utf-8"))[0]["source"] == "über 日本.wav"


def test_messages_that_cannot_be_written_cost_no_transcript() -> None:
    Path("text.wav").write_text("no sound")
    with open("/dev/full", "w") as full:
        command = [*FAKE, "text.wav", sound("good.wav")]
        result = subprocess.run(command, stdout=subprocess.PIPE, stderr=full, env=ENVIRONMENT, timeout=60)
    assert (result.returncode, b"heard 0.50 s" in result.stdout) == (1, True)


def test_a_header_with_a_thousand_channels_takes_no_gigabytes() -> None:
    soundfile.write("wide.wav", np.zeros((40, 1024), np.float32), 768_000)
    with open_audio("wide.wav") as audio:
        assert sum(map(len, audio.blocks())) == 1
    from tracemalloc import get_traced_memory, start, stop

    start()
    with open_audio("wide.wav") as audio:
        list(audio.blocks())
    peak = get_traced_memory()[1]
    stop()
    assert peak < 100_000_000


def test_pressing_ctrl_c_again_and_again_is_no_crash(tmp_path: Path) -> None:
    """In the middle of real work, where MLX used to be torn down under the running step."""
    sounds = [soundfile.read(path)[0] for path in sorted(RECORDINGS.glob("*.flac"))]
    soundfile.write("long.wav", np.tile(np.concatenate(sounds), 10), 24_000)
    command = [sys.executable, "-m", "mlx_kstt", "transcribe", "--model", "tiny", "long.wav"]
    for pause in (0.0, 0.01, 0.03, 0.1):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT, text=True)
        assert process.stderr is not None
        process.stderr.readline()  # the model is about to be loaded
        time.sleep(1.0)
        for _ in range(3):
            process.send_signal(signal.SIGINT)
            time.sleep(pause)
        out, errors = process.communicate(timeout=30)
        assert (process.returncode, out, errors) == (130, "", "")


def test_calls_after_the_end_of_the_process_are_refused() -> None:
    program = """
import atexit
def late():
    try:
        stream.flush()
    except mlx_kstt.KsttError as error:
        print(error)
atexit.register(late)
import mlx_kstt
stream = mlx_kstt.load("tiny").open()
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout == "MLX does not survive a fork or the end of the process: start processes with spawn\n"


def test_no_compiler_is_started_on_the_cpu(tmp_path: Path) -> None:
    """A temporary folder that cannot be written to is no obstacle."""
    environment = ENVIRONMENT | {"TMPDIR": str(tmp_path / "nowhere")}
    path = str(RECORDINGS / "01_en-us+f4.flac")
    command = [sys.executable, "-m", "mlx_kstt", "transcribe", "--model", "tiny", path]
    result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60)
    assert (result.returncode, result.stdout) == (0, "please open the window and close the door\n")
    assert mlx_kstt.__file__
