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
from ..events import Event, Partial, Word
from ..live.journal import Journal
from ..live.recording import Recording
from ..outputs import Transcript
from .delivery import Style, complain, render, write_whole


@dataclass(frozen=True, slots=True)
class Kept:
    """What is written while the session runs, and the time (seconds) at which its clock begins."""

    recording: Recording | None
    journal: Journal | None
    start: float


def files_of(args: argparse.Namespace) -> list[Path]:
    """All that is to be written."""
    return [path for path in (args.save_audio, args.journal, args.resume, *args.output) if path is not None]


def check_files(args: argparse.Namespace) -> None:
    """Refuse what could not be written in the end, as far as can be told now.

    Raises:
        OptionError: a file that must be new is there already, or is a folder.
        KsttError: a folder cannot be written.
    """
    for path in files_of(args):
        place = next(above for above in path.absolute().parents if above.exists())
        if path.is_dir():
            raise OptionError(f"{path} is a folder: name a file")
        if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
            raise KsttError(f"nothing can be written in {place}, where {path.name} was to go: name another folder")
    for path in (args.journal, None if args.resume else args.save_audio):
        if path is not None and path.exists() and path.stat().st_size:
            raise OptionError(f"{path} exists: name another file, or go on with it by --resume")


def open_kept(args: argparse.Namespace, lanes: Sequence[str], channels: int) -> Kept:
    """The files that grow with the session. The recording and the events share one clock.

    Raises:
        OptionError: a file is not what it would have to be.
        KsttError: it cannot be written.
    """
    recording = None
    if args.save_audio is not None:
        recording = Recording(args.save_audio, channels, resume=args.resume is not None)
    try:
        journal = _open_journal(args, lanes, 0 if recording is None else recording.samples)
        start = 0.0 if journal is None else journal.offset
        if recording is not None:
            recording.skip(round(start * SAMPLE_RATE) - recording.samples)
    except BaseException:
        if recording is not None:
            recording.close()
        raise
    return Kept(recording, journal, start)


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
    return all([_is_written(path, transcript) for path in paths])


def _is_written(path: Path, transcript: Transcript) -> bool:
    try:
        write_whole(path, render(transcript, path.suffix[1:], Style()))
    except KsttError as error:
        complain(str(error))
        return False
    return True


class Collected:
    """What is final, for the end: a revised word in the place of its first version.

    Attributes:
        events: in the order in which they first came.
    """

    def __init__(self) -> None:
        self.events: list[Event] = []
        self._places: dict[tuple[str | None, float], int] = {}

    def tell(self, events: Sequence[Event]) -> None:
        for event in events:
            if isinstance(event, Word):
                place = self._places.setdefault((event.lane, event.start), len(self.events))
                self.events[place : place + 1] = [event]
            elif not isinstance(event, Partial):
                self.events.append(event)
