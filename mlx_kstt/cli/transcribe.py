"""The command `transcribe`: files, folders or raw audio from a pipe, to transcripts.

In: its arguments. Out: transcripts on standard output or in files, and an exit status. Calls the public API; knows
nothing of the model inside.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import cache, partial

import mlx_kstt

from ..audio import Audio, open_audio, open_raw
from ..errors import AudioError, KsttError
from ..outputs import Transcript
from .delivery import Printer, Style, complain, printable, render, write_whole
from .jobs import Job, Source, find_sources, plan_outputs, without_existing, without_unwritable
from .options import check_usage, chosen_formats, from_several, load_model, style_of, to_files
from .progress import Bar


def run(args: argparse.Namespace) -> int:
    """Transcribe every source. Returns the exit status: 0 if all were done, else 1."""
    check_usage(args)
    style = style_of(args)
    jobs, problems = _plan(args)
    for problem in problems:
        complain(problem)
    if not jobs:
        return int(bool(problems))
    load = cache(partial(load_model, args))  # when the first source has been opened: a bad one need not fetch a model
    with Printer(chosen_formats(args)[0], style, several=from_several(args) and not to_files(args)) as printer:
        done = [_do(load, job, title, args, style, printer) for job, title in _titled(jobs)]
    return int(bool(problems) or not all(done))


def _plan(args: argparse.Namespace) -> tuple[list[Job], list[str]]:
    """What there is to do, and one sentence for each source that cannot be done."""
    sources, unreadable = find_sources(args.source)
    if not to_files(args):
        return [Job(source) for source in sources], unreadable
    jobs, clashing = plan_outputs(sources, chosen_formats(args), args.output_dir)
    if args.skip_existing:
        jobs = without_existing(jobs)
    jobs, unwritable = without_unwritable(jobs)
    return jobs, unreadable + clashing + unwritable


def _titled(jobs: Sequence[Job]) -> list[tuple[Job, str]]:
    """The jobs with what their progress bars say."""
    if len(jobs) == 1:
        return [(jobs[0], jobs[0].source.name)]
    return [(job, f"{number}/{len(jobs)} {job.source.name}") for number, job in enumerate(jobs, 1)]


def _do(
    load: Callable[[], mlx_kstt.Transcriber],
    job: Job,
    title: str,
    args: argparse.Namespace,
    style: Style,
    printer: Printer,
) -> bool:
    """One job, done whole or complained about. Returns whether it was done whole."""
    name = job.source.name
    try:
        with _open(job.source, args) as audio:
            transcriber = load()
            with Bar(printable(title), audio.duration) as bar:
                transcript = transcriber.transcribe(
                    audio,
                    temperature=args.temperature,
                    seed=args.seed,
                    lanes=[name for _, name in args.speakers or ()],
                    progress=bar.update,
                )
    except AudioError as error:
        complain(_naming(name, str(error)))
        return False
    except OSError as error:
        complain(f"{name} cannot be read ({error.strerror or error}): check the disk that it is on")
        return False
    if transcript.warning is not None:
        complain(_naming(name, transcript.warning))
    if not job.outputs:
        printer.print(name, transcript)
    return _save(transcript, job, style) and transcript.warning is None


def _open(source: Source, args: argparse.Namespace) -> Audio:
    if source.path is not None:
        channels = tuple(place for place, _ in args.speakers or ())
        return open_audio(source.path, channel=channels or args.channel)
    given = {"sampling_rate": args.rate, "encoding": args.encoding}
    return open_raw(sys.stdin.buffer, **{name: value for name, value in given.items() if value is not None})


def _save(transcript: Transcript, job: Job, style: Style) -> bool:
    """Write the job's files. Returns whether all were written."""
    saved = True
    for form, path in job.outputs:
        try:
            write_whole(path, render(transcript, form, style))
        except KsttError as error:
            complain(str(error))
            saved = False
    return saved


def _naming(name: str, message: str) -> str:
    return message if name in message else f"{name}: {message}"
