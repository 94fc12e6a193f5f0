"""A sound server of the tests' own: what is played into it comes out of a virtual microphone.

In: recordings to play, programs to run. Out: the environment in which PortAudio finds the microphone; what a program
writes, with the time at which it came. Knows nothing of the package.

The server is PulseAudio with null sinks; a sink's monitor is the microphone. While nothing plays, a monitor gives exact
zeros. PortAudio reaches it through ALSA's plugin `pulse`. Nothing of the user's own sound server or configuration is
read or written, and no D-Bus is needed.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import IO

_ALSA = """
pcm.pulse { type pulse hint { show on description "PulseAudio Sound Server" } }
ctl.pulse { type pulse }
pcm.!default { type pulse }
ctl.!default { type pulse }
"""
_PLUGIN = "libasound_module_pcm_pulse.so"
_OLDEST = (15, 99)
"""Of PulseAudio: from then on a null sink can do without rewinds. One with them delivers its first sound 2 s late."""
_PATIENCE = 20.0
"""Seconds in which anything that is waited for must have happened."""


def missing() -> str | None:
    """What this machine lacks for a sound server of its own; None where nothing is missing."""
    if not sys.platform.startswith("linux"):
        return "the virtual microphone needs PulseAudio on Linux"
    lacking = [name for name in ("pulseaudio", "pactl", "paplay") if shutil.which(name) is None]
    if "pulseaudio" not in lacking and _version() < _OLDEST:
        lacking.append(f"pulseaudio {'.'.join(map(str, _OLDEST))} or newer")
    if not any(Path("/usr").glob(f"lib*/**/alsa-lib/{_PLUGIN}")):
        lacking.append(f"ALSA's plugin {_PLUGIN}")
    if find_library("portaudio") is None:
        lacking.append("PortAudio")
    return f"the virtual microphone needs {', '.join(lacking)}" if lacking else None


def _version() -> tuple[int, ...]:
    said = subprocess.run(["pulseaudio", "--version"], capture_output=True, text=True, timeout=10).stdout
    return tuple(map(int, re.findall(r"\d+", said)[:2]))


def wait_until(condition: Callable[[], bool], what: str, seconds: float = _PATIENCE) -> float:
    """Wait for the condition. Returns the time (monotonic) at which it was found true.

    Raises:
        TimeoutError: it did not come true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s: {what}")
        time.sleep(0.05)
    return time.monotonic()


class SoundServer:
    """PulseAudio with a null sink per microphone: `with SoundServer(folder, {"mono": (48_000, 1)}) as server: ...`.

    Args:
        folder: everything that it writes; the path must be short, since it holds a socket.
        sinks: the name of each sink, its rate (Hz) and its channels.
    """

    def __init__(self, folder: Path, sinks: dict[str, tuple[int, int]]) -> None:
        self._folder = folder
        self._sinks = sinks
        self._server: subprocess.Popen[bytes] | None = None
        self._socket = folder / "native"
        self._alsa = folder / "asound.conf"
        self._alsa.write_text(_ALSA, "utf-8")

    def __enter__(self) -> SoundServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def environment(self, sink: str) -> dict[str, str]:
        """This process's environment, with the sink's monitor as the microphone, and the sink as the loudspeaker."""
        client = {"PULSE_SERVER": f"unix:{self._socket}", "PULSE_SOURCE": f"{sink}.monitor", "PULSE_SINK": sink}
        return self._surroundings() | client

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        modules = [f"module-native-protocol-unix socket={self._socket} auth-anonymous=1 auth-cookie-enabled=0"]
        for name, (rate, channels) in self._sinks.items():
            modules.append(f"module-null-sink sink_name={name} rate={rate} channels={channels} norewinds=1")
        command = ["pulseaudio", "-n", "--daemonize=no", "--use-pid-file=no", "--exit-idle-time=-1", "--disallow-exit"]
        command += ["--disable-shm=yes", f"--log-target=newfile:{self._folder / 'log'}"]
        command += [f"--load={module}" for module in modules]
        self._server = subprocess.Popen(command, env=self._surroundings(), stdin=subprocess.DEVNULL)
        # The protocol is loaded first, and answers before the sinks are there.
        wait_until(lambda: self._has_socket() and len(self._list("sinks")) == len(self._sinks), "PulseAudio starts")

    def kill(self) -> None:
        """Kill the server as a crash would: nothing is told to those who are connected."""
        assert self._server is not None
        self._server.kill()
        self._server.wait()

    def play(self, path: Path, sink: str) -> float:
        """Play a recording to its end. Returns the time (monotonic) at which it began."""
        begin = time.monotonic()
        subprocess.run(["paplay", str(path)], env=self.environment(sink), check=True, timeout=120)
        return begin

    def play_in_background(self, path: Path, sink: str) -> subprocess.Popen[bytes]:
        """Begin to play a recording; kill what is returned to end it."""
        return subprocess.Popen(["paplay", str(path)], env=self.environment(sink), stderr=subprocess.DEVNULL)

    def recorders(self, sink: str) -> int:
        """How many programs are listening to the sink's monitor."""
        numbers = [fields[0] for fields in self._list("sources") if fields[1] == f"{sink}.monitor"]
        return sum(fields[1] in numbers for fields in self._list("source-outputs"))

    def _surroundings(self) -> dict[str, str]:
        """This process's environment without any sound server."""
        folders = ("PULSE_RUNTIME_PATH", "PULSE_STATE_PATH", "PULSE_CONFIG_PATH", "XDG_RUNTIME_DIR")
        others = {name: value for name, value in os.environ.items() if not name.startswith(("PULSE_", "DBUS_"))}
        own = {"ALSA_CONFIG_PATH": str(self._alsa), "PULSE_COOKIE": str(self._folder / "cookie")}
        return others | own | dict.fromkeys(folders, str(self._folder))

    def _has_socket(self) -> bool:
        with socket.socket(socket.AF_UNIX) as client:
            return client.connect_ex(str(self._socket)) == 0

    def _list(self, what: str) -> list[list[str]]:
        command = ["pactl", "list", "short", what]
        said = subprocess.run(command, env=self.environment(""), capture_output=True, text=True, timeout=10).stdout
        return [line.split("\t") for line in said.splitlines()]


@dataclass(frozen=True, slots=True)
class Line:
    """What a program wrote, with its line end, and when (monotonic) it came."""

    time: float
    text: str


class Program:
    """A running program whose lines are read as they come.

    Args:
        command: program and arguments.
        environment: all of it.
        folder: where it runs; by default here.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str], folder: Path | None = None) -> None:
        pipe = subprocess.PIPE
        self.output: list[Line] = []
        self.messages: list[Line] = []
        self._process = subprocess.Popen(
            command, env=environment, cwd=folder, stdin=subprocess.DEVNULL, stdout=pipe, stderr=pipe
        )
        assert self._process.stdout is not None and self._process.stderr is not None
        pairs = ((self._process.stdout, self.output), (self._process.stderr, self.messages))
        self._readers = [Thread(target=_read, args=pair, daemon=True) for pair in pairs]
        for reader in self._readers:
            reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill()

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    @property
    def said(self) -> str:
        """All messages (standard error)."""
        return "".join(line.text for line in self.messages)

    def interrupt(self) -> None:
        """What Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)

    def kill(self) -> float:
        """kill -9, and wait until everything written is read. Returns when it was killed (monotonic)."""
        at = time.monotonic()
        self._process.kill()
        self.wait()
        return at

    def wait(self, seconds: float = _PATIENCE) -> int:
        """Wait for the end, and until everything written is read. Returns the exit status."""
        status = self._process.wait(seconds)
        for reader in self._readers:
            reader.join(seconds)
        for pipe in (self._process.stdout, self._process.stderr):
            assert pipe is not None
            pipe.close()
        return status


def _read(pipe: IO[bytes], lines: list[Line]) -> None:
    for line in pipe:
        lines.append(Line(time.monotonic(), line.decode("utf-8")))
