"""What a session leaves behind: a recording, a journal, and transcripts that are written at its end.

In: the options of `mic`, and events. Out: open files, and files that are whole or not there. Knows nothing of devices
and displays.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import SAMPLE_RATE
from ..errors import KsttError, OptionError
from ..events import Event
from ..live.growing_files import opened
from ..live.journal import Journal
from ..live.past_sessions import read_journal, read_past
from ..live.recording import Recording
from ..outputs import Transcript
from .delivery import Style, complain, render, write_whole
from .interruption import told_if_interrupted

_MISSING = 0.1
"""Seconds without sound that are worth telling."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is written while the session runs.

    Attributes:
        recording, journal: None where none was asked for.
        start: seconds at which the session's clock begins.
        past: events of earlier sessions, where they go into an output. They are read before this one begins: a journal
            that fails or goes meanwhile takes no output with it.
    """

    recording: Recording | None
    journal: Journal | None
    start: float
    past: tuple[Event, ...]


def files_of(args: argparse.Namespace) -> list[Path]:
    """All that is to be written."""
    return [path for path in (args.save_audio, args.journal, args.resume, *args.output) if path is not None]


def check_files(args: argparse.Namespace) -> None:
    """Refuse what could not be written in the end, as far as can be told now.

    Raises:
        OptionError: a file that must be new is there already, or is a folder; or another session writes it.
        KsttError: a folder or a file cannot be written.
    """
    for path in files_of(args):
        place = next(above for above in path.absolute().parents if above.exists())
        if path.is_dir():
            raise OptionError(f"{path} is a folder: name a file")
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise KsttError(f"nothing can be written in {place}, where {path.name} was to go: name another folder")
    for path in () if args.resume else (args.journal, args.save_audio, *args.output):
        if path is not None and path.exists() and path.stat().st_size:
            other = "--resume its session, which replaces it" if path in args.output else "go on with it by --resume"
            raise OptionError(f"{path} exists: name another file, or {other}")
    for path in (args.resume, args.save_audio):
        if path is not None and path.exists():
            opened(path, create=False).close()


def check_resumed(args: argparse.Namespace) -> None:
    """Say what a user who goes on with a journal may not expect.

    Raises:
        OptionError: it is none.
        KsttError: it cannot be read.
    """
    past = read_past(args.resume)
    if past.model is None:
        complain(f"{args.resume} holds nothing: it begins anew")
    if past.save_audio is None:
        return
    if args.save_audio is None:
        complain(f"the sound is recorded no more: it went to {past.save_audio}, which --save-audio would go on with")
    elif os.path.realpath(args.save_audio) != os.path.realpath(past.save_audio):
        complain(f"the sound goes to {args.save_audio} from now on: until now it went to {past.save_audio}")


def open_kept(args: argparse.Namespace, lanes: Sequence[str], channels: int) -> Kept:
    """The files that grow with the session. The recording and the events share one clock.

    Raises:
        OptionError: a file is not what it would have to be.
        KsttError: it cannot be written.
    """
    past = tuple(read_journal(args.resume)) if args.resume is not None and args.output else ()
    recording = None
    if args.save_audio is not None:
        recording = Recording(args.save_audio, channels, resume=args.resume is not None)
    try:
        journal = _open_journal(args, lanes, 0 if recording is None else recording.samples)
        start = 0.0 if journal is None else journal.offset
        if recording is not None:
            _catch_up(recording, start)
    except BaseException:
        if recording is not None:
            recording.close()
        raise
    return Kept(recording, journal, start, past)


def _catch_up(recording: Recording, start: float) -> None:
    """Silence for what was said before and is not in it."""
    missing = round(start * SAMPLE_RATE) - recording.samples
    if missing >= _MISSING * SAMPLE_RATE:
        begins = "ends before the journal" if recording.samples else "is new"
        seconds = missing / SAMPLE_RATE
        complain(f"{recording.path} {begins}: {seconds:.1f} s of silence are put in, so that times stay true")
    recording.skip(missing)


def _open_journal(args: argparse.Namespace, lanes: Sequence[str], samples: int) -> Journal | None:
    saved = None if args.save_audio is None else str(args.save_audio)
    if args.journal is not None:
        return Journal.create(args.journal, model=args.model, lanes=lanes, save_audio=saved)
    if args.resume is not None:
        seconds = samples / SAMPLE_RATE
        return Journal.resume(args.resume, model=args.model, lanes=lanes, save_audio=saved, seconds=seconds)
    return None


def write_outputs(paths: Sequence[Path], transcript: Transcript) -> bool:
    """Write the transcript in the format of each path's suffix. Returns whether all were written."""
    given_up = f"not all of {', '.join(map(str, paths))} is written"
    with told_if_interrupted(complain, given_up):
        return all([_is_written(path, transcript) for path in paths])


def _is_written(path: Path, transcript: Transcript) -> bool:
    try:
        write_whole(path, render(transcript, path.suffix[1:], Style()))
    except KsttError as error:
        complain(str(error))
        return False
    return True
