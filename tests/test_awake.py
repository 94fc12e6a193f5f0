"""The machine is kept awake by the system's own command, which ends when the listening ends."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlx_kstt.live.awake import kept_awake

PROGRAM = """#!/bin/sh
echo "$@" >arguments
read line
echo "input: ${line:-ended}" >>arguments
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where commands are looked for, and whatever they write goes."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command(folder: Path, name: str, script: str) -> None:
    (folder / "bin" / name).write_text(script)
    (folder / "bin" / name).chmod(0o755)


def wait_for(path: Path) -> None:
    subprocess.run(["sh", "-c", f"until [ -s {path} ]; do :; done"], check=True, timeout=20)


@pytest.mark.parametrize(
    ("platform", "name", "arguments"),
    [
        ("darwin", "caffeinate", f"-i -w {os.getpid()}"),
        ("linux", "systemd-inhibit", "--what=sleep:idle --who=mlx_kstt --why=listening --mode=block cat"),
    ],
)
def test_the_command_of_the_system_runs_as_long_as_it_is_needed(
    folder: Path, monkeypatch: pytest.MonkeyPatch, platform: str, name: str, arguments: str
) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    command(folder, name, f"#!/bin/sh\ntrap 'exit 0' TERM\necho $$ >process\n{PROGRAM.partition(chr(10))[2]}")
    with kept_awake():
        wait_for(folder / "arguments")
        process = int((folder / "process").read_text())
        os.kill(process, 0)
    assert (folder / "arguments").read_text().splitlines()[0] == arguments
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


def test_what_runs_in_it_ends_with_our_end_of_its_input(folder: Path) -> None:
    """Also when this process is killed, which closes it."""
    command(folder, "systemd-inhibit", PROGRAM)
    script = "import os, signal\nfrom mlx_kstt.live.awake import kept_awake\n"
    script += "with kept_awake():\n    input()\n    os.kill(os.getpid(), signal.SIGKILL)\n"
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}
    process = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, env=environment)
    wait_for(folder / "arguments")
    process.communicate(b"\n", timeout=60)
    subprocess.run(["sh", "-c", "until grep -q 'input: ended' arguments; do :; done"], check=True, timeout=20)
    assert process.returncode == -9


def test_without_such_a_command_nothing_happens(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for platform, path in (("linux", str(folder)), ("win32", os.environ["PATH"])):
        monkeypatch.setattr(sys, "platform", platform)
        monkeypatch.setenv("PATH", path)
        before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
        with kept_awake():
            during = os.listdir("/proc/self/fd") if before else []
        assert during == before


def test_a_command_that_cannot_run_costs_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    command(folder, "systemd-inhibit", "#!/no/such/shell\n")
    entered = False
    with kept_awake():
        entered = True
    assert entered


def test_a_command_that_does_not_end_is_killed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr("mlx_kstt.live.awake._PATIENCE", 0.1)
    command(folder, "systemd-inhibit", "#!/bin/sh\ntrap '' TERM\necho $$ >process\nwhile :; do sleep 0.05; done\n")
    with kept_awake():
        wait_for(folder / "process")
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "process").read_text()), 0)
