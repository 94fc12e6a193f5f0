"""Sources to jobs: what is transcribed in one call, and which files each transcript becomes.

In: what the user named. Out: jobs, and one sentence for each source that cannot be one. Knows nothing of models or of
what is in the files.
"""

from __future__ import annotations

import errno
import os
import stat
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path

from ..audio import find_audio
from ..errors import AudioError

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """One thing to transcribe.

    Attributes:
        name: what to call it in messages and in shared outputs.
        path: the file; None is standard input.
        below: its name, or its path below the folder that it was found in.
    """

    name: str
    path: Path | None
    below: Path


@dataclass(frozen=True, slots=True)
class Job:
    """A source, and the file for each format; no files means standard output."""

    source: Source
    outputs: tuple[tuple[str, Path], ...] = ()


def find_sources(arguments: Iterable[str]) -> tuple[list[Source], list[str]]:
    """The sources behind files, folders (searched at any depth) and "-", each once, and what is wrong with the rest."""
    found: dict[object, Source] = {}
    problems: list[str] = []

    def on_error(error: OSError) -> None:
        problems.append(f"{error.filename} cannot be read ({error.strerror}): check the path and its permissions")

    for source in chain.from_iterable(_named(argument, on_error) for argument in arguments):
        try:
            found.setdefault(_identity(source), source)
        except OSError as error:
            problems.append(f"{source.name} cannot be read ({error.strerror}): check the path and its permissions")
        except AudioError as error:
            problems.append(str(error))
    return list(found.values()), problems


def plan_outputs(sources: Sequence[Source], formats: Sequence[str], folder: Path | None) -> tuple[list[Job], list[str]]:
    """The jobs, no two with one output file and none with a source as output, and what is wrong with the other sources.

    An output is named after its source without the suffix. Where that clashes (talk.wav and talk.mp3; letter case does
    not count, as on macOS), it keeps the full name: talk.wav.srt and talk.mp3.srt.

    Args:
        formats: suffixes of the outputs.
        folder: where the outputs go; None is beside each source.
    """
    full, problems = _distinct(sources, folder)
    read = {_key(source.path) for source in sources if source.path is not None}
    jobs: list[Job] = []
    for source, base in _told_apart(full, formats, read).items():
        if _hits(base, formats, read):
            problems.append(f"{source.name}: its output would overwrite a source: name another --output-dir")
        else:
            jobs.append(Job(source, _files(base, formats)))
    return jobs, problems


def without_existing(jobs: Iterable[Job]) -> list[Job]:
    """The jobs with only those outputs that are not there yet; jobs with nothing left to do are left out."""
    missing = [replace(job, outputs=tuple(item for item in job.outputs if not os.path.exists(item[1]))) for job in jobs]
    return [job for job in missing if job.outputs]


def without_unwritable(jobs: Iterable[Job]) -> tuple[list[Job], list[str]]:
    """The jobs whose output folders can be written, as far as access rights tell, and what is wrong with the others."""
    kept: list[Job] = []
    problems: list[str] = []
    for job in jobs:
        folder = _nearest_folder(job.outputs[0][1].parent)
        if os.access(folder, os.W_OK | os.X_OK) and folder.is_dir():
            kept.append(job)
        else:
            problems.append(f"{job.source.name}: nothing can be written in {folder}: name another --output-dir")
    return kept, problems


def _named(argument: str, on_error: Callable[[OSError], None]) -> list[Source]:
    """What the argument stands for; a folder without audio, or one that cannot be read, stands for itself."""
    if argument == STDIN:
        return [Source("<stdin>", None, Path("stdin"))]
    path = Path(argument)
    files = find_audio(path, on_error=on_error) if os.path.isdir(path) else []
    return [Source(str(file), file, file.relative_to(path)) for file in files] or [
        Source(str(path), path, Path(path.name))
    ]


def _identity(source: Source) -> object:
    """Equal for two names of one file, but not for hard links, which are two files to their owner.

    Raises:
        OSError: it is not there or may not be read.
        AudioError: it is a folder.
    """
    if source.path is None:
        return STDIN
    facts = source.path.stat()
    if not os.access(source.path, os.R_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    if stat.S_ISDIR(facts.st_mode):
        raise AudioError(f"{source.name} is a folder without audio files: name another one, or the files themselves")
    return facts.st_dev, facts.st_ino, os.path.realpath(source.path).casefold()


def _key(path: Path) -> str:
    """Equal for two paths that may be one file on a file system that ignores letter case and Unicode composition."""
    place = Path(os.path.realpath(path.parent)) / path.name
    return unicodedata.normalize("NFC", str(place)).casefold()


def _distinct(sources: Sequence[Source], folder: Path | None) -> tuple[dict[Source, Path], list[str]]:
    """Where each source's outputs go, with its full name; without those that share even that."""
    first: dict[str, Source] = {}
    full: dict[Source, Path] = {}
    problems: list[str] = []
    for source in sources:
        base = folder / source.below if folder is not None else Path(source.path or source.below)
        other = first.setdefault(_key(base), source)
        if other is source:
            full[source] = base
        else:
            way_out = "use --save, or another --output-dir for one of them"
            problems.append(f"{source.name}: its output would overwrite that of {other.name}: {way_out}")
    return full, problems


def _told_apart(full: dict[Source, Path], formats: Sequence[str], read: set[str]) -> dict[Source, Path]:
    """The outputs' paths before the format's suffix: without the source's own suffix where nothing clashes."""
    bases = {source: base.with_name(base.stem) for source, base in full.items()}
    while True:
        times = Counter(map(_key, bases.values()))
        clashing = [source for source, base in bases.items() if times[_key(base)] > 1 or _hits(base, formats, read)]
        renamed = {source: full[source] for source in clashing if bases[source] != full[source]}
        if not renamed:
            return bases
        bases |= renamed  # a full name may clash with another's short one, so look again


def _files(base: Path, formats: Sequence[str]) -> tuple[tuple[str, Path], ...]:
    return tuple((form, base.with_name(f"{base.name}.{form}")) for form in formats)


def _hits(base: Path, formats: Sequence[str], read: set[str]) -> bool:
    return any(_key(path) in read for _, path in _files(base, formats))


def _nearest_folder(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    return next(above for above in (folder, *folder.parents) if os.path.exists(above))
