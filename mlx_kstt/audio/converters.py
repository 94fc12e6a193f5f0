"""Files that libsndfile does not read (m4a, mp4, aac, webm ...), through a program that the machine has.

In: a path. Out: a `Source`. macOS brings afconvert; ffmpeg is used where it is installed. No shell is involved.
"""

from __future__ import annotations

import os
import re
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO

import numpy as np

from ..errors import AudioError
from .soundfiles import open_soundfile
from .sources import BrokenOff, NotDecoded, Source

# Programs started from the Dock have a PATH without these.
_MORE_FOLDERS = os.pathsep.join(("/opt/homebrew/bin", "/usr/local/bin"))
# The whitelist keeps a playlist in a file from opening network addresses.
_FFMPEG_INPUT = ("-nostdin", "-v", "error", "-protocol_whitelist", "file,pipe", "-i")
_FFMPEG_OUTPUT = ("-vn", "-sn", "-dn", "-f", "au", "-c:a", "pcm_f32be", "pipe:1")
_AU_HEADER = struct.Struct(">4s5I")  # magic, data offset, data size, encoding, rate, channels
# What ffmpeg says about a file that is cut off or damaged; its exit status is 0 all the same.
_DAMAGE = ("partial file", "ended prematurely", "invalid data found", "invalid as first byte")


def convert(path: str, name: str, reason: str) -> Source:
    """The file as the first program that can read it decodes it.

    Args:
        path: a real file.
        name: what messages call it.
        reason: why libsndfile could not read it.

    Raises:
        AudioError: no program could; the message has the reasons and says what to install.
    """
    reasons = [f"libsndfile: {reason}"]
    for tool, decode in (("afconvert", _afconvert), ("ffmpeg", _ffmpeg)):
        if (program := _find(tool)) is not None:
            try:
                return decode(program, path, name)
            except NotDecoded as error:
                reasons.append(f"{tool}: {error}")
    advice = "" if _find("ffmpeg") else "; install ffmpeg (brew install ffmpeg, or apt install ffmpeg) and try again"
    raise AudioError(f"{name} cannot be decoded ({', '.join(reasons)}){advice}")


def _find(tool: str) -> str | None:
    return shutil.which(tool) or shutil.which(tool, path=_MORE_FOLDERS)


def _afconvert(program: str, path: str, name: str) -> Source:
    """Through a temporary file, since afconvert cannot write to a pipe; it is removed at close."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="mlx_kstt-"))
        target = os.path.join(folder, "decoded.caf")
        command = [program, "-f", "caff", "-d", "LEF32", os.path.abspath(path), target]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode or not os.path.exists(target):
            raise NotDecoded(_reason(done.stdout, path))
        source = open_soundfile(stack.enter_context(Path(target).open("rb", buffering=0)), name)
        stack.callback(source.close)
        return replace(source, close=stack.pop_all().close)


def _ffmpeg(program: str, path: str, name: str) -> Source:
    """Streamed, as AU: its header brings rate and channels along."""
    with ExitStack() as stack:
        log = stack.enter_context(tempfile.TemporaryFile())
        command = [program, *_FFMPEG_INPUT, "file:" + path, *_FFMPEG_OUTPUT]
        process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log)
        )
        stack.callback(process.kill)
        assert process.stdout is not None
        header = process.stdout.read(_AU_HEADER.size)
        if len(header) < _AU_HEADER.size:
            process.wait()
            raise NotDecoded(_reason(_text(log), path))
        _, offset, _, _, rate, channels = _AU_HEADER.unpack(header)
        process.stdout.read(offset - _AU_HEADER.size)
        blocks = _au_blocks(process, process.stdout, log, rate, channels)
        return Source(name, rate, channels, None, blocks, stack.pop_all().close)


def _au_blocks(
    process: subprocess.Popen[bytes], pipe: IO[bytes], log: IO[bytes], rate: int, channels: int
) -> Iterator[np.ndarray]:
    while data := pipe.read(rate * channels * 4):
        frames = len(data) // (channels * 4)
        yield np.frombuffer(data, ">f4", frames * channels).reshape(frames, channels)
    said = _text(log).decode(errors="replace").lower() if process.wait() == 0 else _DAMAGE[0]
    if any(damage in said for damage in _DAMAGE):
        raise BrokenOff


def _text(log: IO[bytes]) -> bytes:
    log.seek(0)
    return log.read()


def _reason(output: bytes, path: str) -> str:
    """The first line that a program wrote, without the part of it that spoke and without the path."""
    lines = output.decode(errors="replace").strip().splitlines() or ["it gave no reason"]
    return re.sub(r"^\[[^]]*\] ", "", lines[0]).replace(f"file:{path}: ", "").strip().rstrip(".")
