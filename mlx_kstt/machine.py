"""Refuse a machine on which MLX cannot run, before `import mlx` fails with a message that says nothing.

In: the platform. Out: nothing, or one sentence with the way out. Knows nothing of the rest of the package.
"""

from __future__ import annotations

import platform
import subprocess
import sys

from .errors import UnsupportedMachineError

MACOS_MAJOR = 14
"""The oldest macOS that MLX's wheels are built for (their tag is macosx_14_0_arm64)."""

_INTEL = (
    "MLX needs Apple silicon (M1 or later), and this is an Intel Mac: run mlx_kstt on an Apple silicon Mac or on Linux"
)
_ROSETTA = (
    "This Python is an Intel (x86_64) one under Rosetta, and MLX needs a native one: install an arm64 Python, "
    "for example from python.org, and make a new virtual environment with it"
)


def check_machine() -> None:
    """Does nothing where MLX can run.

    Raises:
        UnsupportedMachineError: on an Intel Mac, in an Intel Python on Apple silicon, and before macOS 14.
    """
    if sys.platform != "darwin":
        return
    if platform.machine() != "arm64":
        raise UnsupportedMachineError(_ROSETTA if _under_rosetta() else _INTEL)
    version = platform.mac_ver()[0]
    # Below 11 there is no Apple silicon: 10.16 is what a newer macOS tells programs built for an old one.
    if 11 <= int(version.partition(".")[0] or 0) < MACOS_MAJOR:
        raise UnsupportedMachineError(f"MLX needs macOS {MACOS_MAJOR} or later, and this is {version}: update macOS")


def _under_rosetta() -> bool:
    """True where an Intel process is translated on Apple silicon; an Intel Mac does not know the question."""
    command = ["/usr/sbin/sysctl", "-n", "sysctl.proc_translated"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() == "1"
