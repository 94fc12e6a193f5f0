"""What is checked and loaded before MLX is imported."""

from __future__ import annotations

import ctypes.util
import logging
import platform
import subprocess
import sys

import pytest

from mlx_kstt import openblas
from mlx_kstt.errors import UnsupportedMachineError
from mlx_kstt.machine import check_machine

HAS_OPENBLAS = sys.platform == "linux" and ctypes.util.find_library("openblas") is not None
needs_openblas = pytest.mark.skipif(not HAS_OPENBLAS, reason="OpenBLAS is not installed, or this is not Linux")

# Prints whether OpenBLAS (not the copy inside NumPy) is in the process at the moment when mlx.core is asked for.
WATCH = """
import sys
class Watch:
    def find_spec(self, name, path=None, target=None):
        if name == "mlx.core":
            print(any("/libopenblas" in line and "numpy" not in line for line in open("/proc/self/maps")))
sys.meta_path.insert(0, Watch())
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)


def pretend(monkeypatch: pytest.MonkeyPatch, *, machine: str, macos: str = "15.2", translated: str = "") -> None:
    """Be a Mac with this processor and system; `translated` is what sysctl prints."""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    monkeypatch.setattr(platform, "mac_ver", lambda: (macos, ("", "", ""), machine))

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        assert command[1:] == ["-n", "sysctl.proc_translated"]
        return subprocess.CompletedProcess(command, 0 if translated else 1, stdout=translated)

    monkeypatch.setattr(subprocess, "run", run)


@pytest.mark.parametrize("macos", ["14.0", "15.2", "26.1", "10.16", ""])
def test_apple_silicon_is_fine(monkeypatch: pytest.MonkeyPatch, macos: str) -> None:
    pretend(monkeypatch, machine="arm64", macos=macos)
    check_machine()


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_linux_is_fine(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(platform, "machine", lambda: machine)
    check_machine()


@pytest.mark.parametrize("translated", ["", "0\n"])
def test_an_intel_mac_is_refused(monkeypatch: pytest.MonkeyPatch, translated: str) -> None:
    pretend(monkeypatch, machine="x86_64", translated=translated)
    with pytest.raises(UnsupportedMachineError, match=r"^MLX needs Apple silicon .* this is an Intel Mac: "):
        check_machine()


def test_a_python_under_rosetta_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, machine="x86_64", translated="1\n")
    with pytest.raises(UnsupportedMachineError, match=r"under Rosetta.* install an arm64 Python"):
        check_machine()


@pytest.mark.parametrize("macos", ["11.0", "13.7.2"])
def test_an_old_macos_is_refused(monkeypatch: pytest.MonkeyPatch, macos: str) -> None:
    pretend(monkeypatch, machine="arm64", macos=macos)
    with pytest.raises(UnsupportedMachineError, match=rf"needs macOS 14 or later, and this is {macos}: update"):
        check_machine()


@needs_openblas
def test_openblas_is_there_before_mlx() -> None:
    assert run_python(WATCH + "import mlx.core").stdout == "False\n"
    assert run_python(WATCH + "import mlx_kstt").stdout == "True\n"


@needs_openblas
def test_mlx_imported_first_is_said_once() -> None:
    code = "import mlx.core, mlx_kstt; from mlx_kstt.openblas import load_openblas; print(load_openblas())"
    done = run_python(code)
    assert done.stdout == "False\n"
    assert done.stderr.count("import mlx_kstt first") == 1 and "libopenblas0-pthread" in done.stderr


@needs_openblas
def test_openblas_loaded_by_someone_else_is_enough() -> None:
    code = "import ctypes; ctypes.CDLL('libopenblas.so.0', mode=ctypes.RTLD_GLOBAL); import mlx.core, mlx_kstt"
    assert run_python(code).stderr == ""


def test_without_openblas_nothing_is_said(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(openblas, "LIBRARY", "libno-such-blas.so.0")
    monkeypatch.delitem(sys.modules, "mlx.core", raising=False)
    with caplog.at_level(logging.DEBUG):
        assert openblas.load_openblas.__wrapped__() is False
    assert caplog.records == []


def test_other_platforms_have_no_use_for_it(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    assert openblas.load_openblas.__wrapped__() is False
    assert caplog.records == []
