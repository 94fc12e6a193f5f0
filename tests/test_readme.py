"""The README's snippets run as they stand, with the bundled model and a bundled recording in place of the real ones.

The two commands with which it begins set up a machine: .ci/run runs those.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
from conftest import RECORDINGS
from pulse import Program, SoundServer, missing, wait_until

from mlx_kstt import Word
from mlx_kstt.live.journal import Journal
from mlx_kstt.live.recording import Recording, to_16_bits

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SAID = "please open the window and close the door"


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


PYTHON = snippets("python")
COMMAND, CALL = " mic", "microphone()"
"""What stands in a snippet that listens."""
BLOCKS = [block for block in snippets("sh")[2:] if COMMAND not in block]
LISTENING = [
    *[line for block in snippets("sh")[2:] if COMMAND in block for line in block.splitlines()],
    *(PYTHON_LISTENING := [snippet for snippet in PYTHON if CALL in snippet]),
]
PYTHON = [snippet for snippet in PYTHON if CALL not in snippet]


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with what the snippets speak of."""
    recording = RECORDINGS / "01_en-us+f4.flac"
    shutil.copy(recording, tmp_path / "talk.m4a")  # its content tells what it is, whatever its name
    (tmp_path / "recordings").mkdir()
    shutil.copy(recording, tmp_path / "recordings" / "door.flac")
    sound = soundfile.read(recording)[0]
    soundfile.write(tmp_path / "interview.wav", sound, 24_000)
    return tmp_path


def test_there_is_a_snippet_of_each_kind() -> None:
    assert len(PYTHON) >= 4
    assert len(BLOCKS) >= 3
    assert len(LISTENING) >= 8


@pytest.mark.parametrize("snippet", PYTHON, ids=range(len(PYTHON)))
def test_python(snippet: str, desk: Path) -> None:
    program = re.sub(r"kyutai/stt-[\w.-]+", "tiny", snippet)
    result = subprocess.run([sys.executable, "-c", program], cwd=desk, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stderr) == (0, "")
    if "talk.m4a" in snippet:
        assert result.stdout.startswith(SAID)
        assert (desk / "talk.srt").read_text("utf-8").startswith("1\n00:00:0")


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_commands(block: str, desk: Path) -> None:
    for line in block.splitlines():
        if line.startswith("ffmpeg") and not shutil.which("ffmpeg"):
            pytest.skip("ffmpeg is not installed")
        command = re.sub(r"kyutai/stt-[\w.-]+", "tiny", line)
        if "--model" not in command:
            command = command.replace(" transcribe ", " transcribe --model tiny ")
        output = shell(command, desk)
        if " transcribe " in command:
            written = [p.read_text("utf-8") for end in ("*.srt", "*.vtt", "transcripts/*") for p in desk.glob(end)]
            assert any(SAID in " ".join(text.split()) for text in [output, *written])


def shell(command: str, folder: Path) -> str:
    """Standard output of a command that ends well."""
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    bash = ["bash", "-o", "pipefail", "-c", command]
    result = subprocess.run(bash, cwd=folder, capture_output=True, text=True, timeout=120, env=environment)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    with SoundServer(tmp_path_factory.mktemp("r"), {"mic": (48_000, 2)}) as running:
        yield running


@pytest.mark.skipif(missing() is not None, reason=missing() or "")
@pytest.mark.parametrize("snippet", LISTENING, ids=range(len(LISTENING)))
def test_listening(snippet: str, desk: Path, server: SoundServer) -> None:
    """With the virtual microphone in the place of all devices; Ctrl-C ends it."""
    if "--device" in snippet and "--speakers" in snippet:
        pytest.skip("there is one virtual device; lanes of two are tested in test_microphone.py")
    program = re.sub(r"kyutai/stt-[\w.-]+", "tiny", re.sub(r'--device "[^"]+"', "--device pulse", snippet))
    if "--resume" in snippet:
        sound = soundfile.read(RECORDINGS / "01_en-us+f4.flac", dtype="float32")[0]
        with Journal.create(desk / "talk.jsonl", model="tiny", save_audio="talk.wav") as journal:
            journal.write([Word("hello", 0.5, 1.0, 1.0)])
        with Recording(desk / "talk.wav") as recording:
            recording.write(to_16_bits(sound))
    is_command = snippet not in PYTHON_LISTENING
    if is_command:
        program = "exec " + program.replace(" mic", " mic --model tiny")
        command = ["bash", "-c", program.replace("python", sys.executable)]
    else:
        command = [sys.executable, "-c", program]
    with Program(command, server.environment("mic"), desk) as listening:
        wait_until(lambda: server.recorders("mic") > 0 or not listening.is_running, "it listens")
        assert listening.is_running, listening.said
        server.play(RECORDINGS / "01_en-us+f4.flac", "mic")
        time.sleep(2.0)
        listening.interrupt()
        status = listening.wait()
    said = "".join(line.text for line in listening.output)
    said += " ".join(
        path.read_text("utf-8") for path in desk.glob("[et]*[sx]*") if path.suffix in (".jsonl", ".txt", ".srt")
    )
    for word in ("please", "open", "window", "door"):
        assert word in said, (said, listening.said)
    assert status == 0, listening.said
