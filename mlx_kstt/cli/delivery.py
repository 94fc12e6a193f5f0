"""Transcripts to files and to standard output.

In: transcripts, and the formats that were asked for. Out: files that are whole or not there, text on standard output,
and complaints on standard error.
Knows nothing of models, nor of how the files' names were chosen.
"""

from __future__ import annotations

import io
import os
import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..errors import KsttError
from ..outputs import Transcript
from ..subtitles import DEFAULT_RULES, SubtitleRules

FORMATS = ("txt", "srt", "vtt", "tsv", "json", "jsonl")
SUBTITLES = ("srt", "vtt")
SHARED = ("txt", "json", "jsonl")  # those in which several sources can follow one another


@dataclass(frozen=True, slots=True)
class Style:
    """The options of the formats that have any: of subtitles, and of txt (seconds of silence that begin a new line)."""

    rules: SubtitleRules = DEFAULT_RULES
    paragraph_gap: float = 2.0


def render(transcript: Transcript, form: str, style: Style) -> str:
    """The transcript in one of FORMATS."""
    if form == "txt":
        return transcript.to_txt(paragraph_gap=style.paragraph_gap)
    if form in SUBTITLES:
        return transcript.to_srt(style.rules) if form == "srt" else transcript.to_vtt(style.rules)
    return {"tsv": transcript.to_tsv, "json": transcript.to_json, "jsonl": transcript.to_jsonl}[form]()


def printable(text: str) -> str:
    """The text on one line, safe for a terminal: a file's name may hold line ends and control characters."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in " ".join(text.split()))


def complain(message: str) -> None:
    """One line on standard error; a transcript is not given up because nobody can be told of it."""
    with suppress(OSError):
        print(f"mlx_kstt: {printable(message)}", file=sys.stderr, flush=True)


def write_whole(path: Path, text: str) -> None:
    """Write the file, and the folders above it, so that it is never there in part, whatever happens meanwhile.

    Raises:
        KsttError: it cannot be written; a file that was there before is as it was.
    """
    part = path.with_name(f".{secrets.token_hex(8)}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _removed_on_failure(part), open(part, "x", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.replace(part, path)
    except OSError as error:
        way_out = "check the disk's space and the folder's permissions, or write elsewhere"
        raise KsttError(f"{path} cannot be written ({error.strerror}): {way_out}") from error


@contextmanager
def _removed_on_failure(path: Path) -> Iterator[None]:
    try:
        yield
    except BaseException:
        path.unlink(missing_ok=True)
        raise


class Printer:
    """Transcripts to standard output, one after another: `with Printer(...) as printer: printer.print(...)`.

    One source gives its plain format. Several give, for txt, a `==> name <==` line before each; for json, one array;
    for jsonl, the lines of all; the last two with the source's name in each object.

    Raises:
        BrokenPipeError: whoever read standard output has gone.
        KsttError: standard output takes no more.
    """

    def __init__(self, form: str, style: Style, *, several: bool) -> None:
        self._form, self._style, self._several = form, style, several
        self._count = 0

    def __enter__(self) -> Printer:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # A file's name need not be valid text; JSON is UTF-8 wherever it goes.
            encoding = "utf-8" if self._form in ("json", "jsonl") else sys.stdout.encoding
            sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")
        return self

    def print(self, name: str, transcript: Transcript) -> None:
        send(self._shared(name, transcript) if self._several else render(transcript, self._form, self._style))
        self._count += 1

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Completes the array, also after an interruption."""
        if self._several and self._form == "json" and not isinstance(error, (OSError, KsttError)):
            send("\n]\n" if self._count else "[]\n")

    def _shared(self, name: str, transcript: Transcript) -> str:
        if self._form == "json":
            return (",\n" if self._count else "[\n") + transcript.to_json(source=name).rstrip("\n")
        if self._form == "jsonl":
            return transcript.to_jsonl(source=name)
        return "\n" * bool(self._count) + f"==> {printable(name)} <==\n" + render(transcript, self._form, self._style)


def send(text: str) -> None:
    """Print the text on standard output as it is.

    Raises:
        BrokenPipeError: whoever read standard output has gone.
        KsttError: standard output takes no more.
    """
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        # What is still buffered would fail once more, with a traceback, when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            raise
        way_out = "check the disk's space, or write to a file elsewhere"
        raise KsttError(f"standard output cannot be written ({error.strerror}): {way_out}") from error
