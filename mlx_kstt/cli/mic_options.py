"""The options of `mic`, and which of them go together.

In: a parser; later, the chosen options. Out: the parser with options; the options checked and made into what they mean.
Knows nothing of sound and of the model.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..options import StreamOptions
from .delivery import FORMATS
from .kept import files_of
from .options import add_model_options, channel, count, folder, named, number
from .speakers import speakers

_MINUTE = 60.0
_QUEUE = (1.0, 3600.0)
_MOST_GAIN = 1000.0


def add_mic(parser: argparse.ArgumentParser, *, run: Callable[[argparse.Namespace], int]) -> None:
    """Make it the parser of `mic`, which `run` carries out."""
    parser.set_defaults(run=run, usage_error=parser.error)
    add_model_options(parser.add_argument_group("model"))
    _add_sound_options(parser.add_argument_group("sound"))
    _add_display_options(parser.add_argument_group("display"))
    _add_turn_options(parser.add_argument_group("turns"))
    _add_keeping_options(parser.add_argument_group("what is kept"))
    _add_long_options(parser.add_argument_group("long sessions"))


def _add_sound_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--device",
        type=_device,
        action="append",
        metavar="D",
        help="number, name or part of a name, see `devices` (default: the system's); once more for a second speaker",
    )
    add("--channel", type=channel, metavar="N", help="transcribe this channel alone, from 0 (default: all, mixed)")
    add(
        "--speakers",
        type=speakers,
        metavar="NAMES",
        help="left=Ann,right=Bob (or 0=Ann,1=Bob): a speaker on each channel; Ann,Bob: one for each --device",
    )
    add(
        "--gain",
        type=number,
        default=1.0,
        metavar="X",
        help=f"multiply the sound by this, above 0 and at most {_MOST_GAIN:g} (default: 1)",
    )
    add(
        "--queue",
        type=number,
        default=120.0,
        metavar="SECONDS",
        help="sound that may wait when decoding is slow; what is beyond is lost, and told (default: 120)",
    )
    add("--allow-sleep", action="store_true", help="let the machine fall asleep while it listens")


def _add_display_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--format",
        choices=("txt", "jsonl"),
        default="txt",
        help="jsonl: one event per line, as it comes (default: txt)",
    )
    add("--plain", action="store_true", help="plain lines on a terminal too")
    add("--timestamps", action="store_true", help="put [h:mm:ss.s] before each line")


def _add_turn_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--turn-hold", type=number, metavar="SECONDS", help="how long a pause lasts before the turn ends")
    add("--pause-head", type=count, metavar="N", help="0 to 3: no speech within 0.5, 1, 2, 3 s (default: the model's)")
    add("--pause-threshold", type=number, metavar="P", help="probability of a pause (default: the model's)")
    add("--on-turn", metavar="COMMAND", help="run this program for each turn, with its text on standard input")


def _add_keeping_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--save-audio", type=_wav, metavar="FILE.wav", help="record the sound; with --resume, go on with the file")
    either = group.add_mutually_exclusive_group()
    either.add_argument("--journal", type=folder, metavar="FILE", help="write every word at once, safe from a crash")
    either.add_argument("--resume", type=folder, metavar="JOURNAL", help="go on with a journal, its numbers and times")
    add(
        "--output",
        type=_output,
        action="append",
        default=[],
        metavar="FILE",
        help=f"write the transcript at the end, ordered by time (jsonl: as events came); its suffix is one of "
        f"{', '.join(FORMATS)}; it must be new, or there is --resume; may be repeated",
    )


def _add_long_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--refresh",
        type=number,
        default=10.0,
        metavar="MINUTES",
        help="start the decoder afresh at a pause after so long; 0 is never (default: 10)",
    )
    add(
        "--rescue",
        type=number,
        default=10.0,
        metavar="SECONDS",
        help="decode again what was said so long without a word; 0 is never (default: 10)",
    )


def _device(text: str) -> int | str:
    return int(text) if text.isdecimal() else named(text)


def _wav(text: str) -> Path:
    if not text.lower().endswith(".wav"):
        raise argparse.ArgumentTypeError(f"{text} does not end in .wav, which is what is written")
    return folder(text)


def _output(text: str) -> Path:
    path = folder(text)
    if path.suffix[1:] not in FORMATS:
        raise argparse.ArgumentTypeError(f"{text} ends in none of {', '.join(f'.{form}' for form in FORMATS)}")
    return path


def check_mic_usage(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, and options that would do nothing, as argparse does."""
    for wrong, message in _misuses(args):
        if wrong:
            args.usage_error(message)


def _misuses(args: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    devices = len(args.device or [None])
    yield args.plain and args.format != "txt", "--plain is for the format txt only"
    yield args.timestamps and args.format != "txt", "--timestamps is for the format txt only: jsonl has all times"
    yield not 0 < args.gain <= _MOST_GAIN, f"--gain must be above 0 and at most {_MOST_GAIN:g}"
    yield not _QUEUE[0] <= args.queue <= _QUEUE[1], "--queue must be {:g} to {:g} seconds".format(*_QUEUE)
    yield from _speaker_misuses(args, devices)
    files = [os.path.realpath(path) for path in files_of(args)]
    twice = next((path for path in files if files.count(path) > 1), None)
    yield twice is not None, f"{twice} is named twice: each file holds one thing"


def _speaker_misuses(args: argparse.Namespace, devices: int) -> Iterator[tuple[bool, str]]:
    if args.speakers is None:
        return
    on_channels = args.speakers[0][0] is not None
    yield on_channels and args.channel is not None, "--speakers names the channels: leave --channel out"
    yield on_channels and devices > 1, "--speakers with several --device is one name for each: Ann,Bob"
    yield not on_channels and devices == 1, "--speakers with one --device names its channels: left=Ann,right=Bob"
    yield (
        not on_channels and devices != len(args.speakers),
        f"--speakers has {len(args.speakers)} name(s) for {devices} devices: give one for each",
    )


def stream_options(args: argparse.Namespace) -> dict[str, Any]:
    """What `Transcriber.open` is to be called with; what was not given is left to it.

    Raises:
        OptionError: a value is out of range.
    """
    given = {name: getattr(args, name) for name in ("turn_hold", "pause_head", "pause_threshold")}
    options = {name: value for name, value in given.items() if value is not None} | {
        "temperature": args.temperature,
        "seed": args.seed,
        "refresh": args.refresh * _MINUTE or None,
        "rescue": args.rescue or None,
    }
    StreamOptions(**options)  # before a model is loaded
    return options
