"""The README's snippets run as they stand, with the bundled model and a bundled recording in place of the real ones.

The two commands with which it begins set up a machine: .ci/run runs those.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
from conftest import RECORDINGS

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
SAID = "please open the window and close the door"


def snippets(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


PYTHON = snippets("python")
BLOCKS = snippets("sh")[2:]


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
