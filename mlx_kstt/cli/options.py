"""The options of the command line, and which of them go together.

In: a parser. Out: the same parser with options; later, the chosen options checked and made into what they mean, a
loaded model among it. Knows nothing of sources, nor of what is inside the model.
"""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Callable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import mlx_kstt

from ..audio import RATES
from ..checkpoints import BUNDLED, home_expanded
from ..subtitles import SubtitleRules
from .delivery import FORMATS, SHARED, SUBTITLES, Style, complain
from .jobs import STDIN
from .speakers import speakers

_RULE_HELP = {
    "max_line_length": "characters per subtitle line",
    "max_lines": "lines per subtitle",
    "max_gap": "silence that ends a subtitle",
    "min_duration": "how long a subtitle stays at least, where the next one leaves it the time",
    "max_duration": "how long a subtitle stays at most",
    "min_gap": "time between two subtitles",
}


def add_transcribe(parser: argparse.ArgumentParser, *, run: Callable[[argparse.Namespace], int]) -> None:
    """Make it the parser of `transcribe`, which `run` carries out."""
    parser.set_defaults(run=run, usage_error=parser.error)
    parser.add_argument(
        "source",
        nargs="+",
        type=named,
        metavar="SOURCE",
        help='a file, a folder (searched at any depth), or "-" for raw PCM',
    )
    add_model_options(parser.add_argument_group("model"))
    _add_audio_options(parser.add_argument_group("audio"))
    _add_output_options(parser.add_argument_group("output"))
    _add_subtitle_options(parser.add_argument_group("subtitles"))


def add_model_options(group: argparse._ArgumentGroup) -> None:
    """Options of whatever runs a model."""
    add = group.add_argument
    add(
        "--model",
        type=named,
        default=mlx_kstt.DEFAULT_MODEL,
        help='hub repository, local folder, or "tiny" (default: %(default)s)',
    )
    add_checkpoint_options(group)
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the text decoder (default: by device)")
    add("--temperature", type=number, default=0.0, help="above 0 draws tokens at random (default: 0)")
    add("--seed", type=count, default=0, metavar="N", help="of the draws (default: 0)")


def add_checkpoint_options(group: argparse._ArgumentGroup) -> None:
    """Options of whatever reads a checkpoint."""
    add = group.add_argument
    add("--revision", help="branch, tag or commit of the hub repository")
    add("--offline", action="store_true", help="never use the network")
    add("--delay", type=number, metavar="SECONDS", help="the model's delay, instead of what the checkpoint says")
    add("--prefix", type=number, metavar="SECONDS", help="silence put first, instead of what the checkpoint says")


def load_model(args: argparse.Namespace) -> mlx_kstt.Transcriber:
    """The model that the options name."""
    if args.model in BUNDLED and not os.path.isdir(args.model):
        complain(f'"{args.model}" is a demonstration model for synthetic voices: leave out --model for real speech')
    return mlx_kstt.load(
        args.model,
        dtype=args.dtype,
        revision=args.revision,
        offline=args.offline,
        delay=args.delay,
        prefix=args.prefix,
    )


def _add_audio_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--channel", type=channel, metavar="N", help="transcribe this channel alone, from 0 (default: all, mixed)")
    add("--speakers", type=speakers, metavar="NAMES", help="left=Ann,right=Bob (or 0=Ann,1=Bob): a speaker per channel")
    add("--rate", type=_rate, metavar="HZ", help='sampling rate of "-" (default: 24000)')
    add("--encoding", choices=("s16le", "f32le"), help='samples of "-" (default: s16le)')


def _add_output_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--format", type=_formats, action="extend", help=f"any of {','.join(FORMATS)} (default: txt); may be repeated"
    )
    place = group.add_mutually_exclusive_group()
    place.add_argument("--output-dir", type=folder, metavar="DIR", help="write files there, not to standard output")
    place.add_argument("--save", action="store_true", help="write files beside each source, not to standard output")
    group.add_argument("--skip-existing", action="store_true", help="do not write files again that are there already")
    group.add_argument(
        "--paragraph-gap", type=number, metavar="SECONDS", help="silence that begins a new line of txt (default: 2)"
    )


def _add_subtitle_options(group: argparse._ArgumentGroup) -> None:
    for rule in fields(SubtitleRules):
        kind, unit = (int, "N") if isinstance(rule.default, int) else (number, "SECONDS")
        group.add_argument(
            _flag(rule.name), type=kind, metavar=unit, help=f"{_RULE_HELP[rule.name]} (default: {rule.default})"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def number(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf:
        raise argparse.ArgumentTypeError(f"{text} is not a number of at least 0")
    return value


def named(text: str) -> str:
    """An empty name is a shell variable that was not set; as a path it would be the folder one is in."""
    if not text:
        raise argparse.ArgumentTypeError("the name is empty")
    return text


def folder(text: str) -> Path:
    """A folder to write, with ~ expanded."""
    return home_expanded(named(text))


def channel(text: str) -> int:
    """A channel's number."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a channel: they are counted from 0")
    return int(text)


def count(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a whole number of at least 0")
    return int(text)


def _rate(text: str) -> int:
    if not text.isdecimal() or int(text) not in RATES:
        raise argparse.ArgumentTypeError(f"{text} is not a sampling rate from {RATES[0]} to {RATES[-1]} Hz")
    return int(text)


def _formats(text: str) -> list[str]:
    names = text.split(",")
    unknown = [name for name in names if name not in FORMATS]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(FORMATS)}")
    return names


def chosen_formats(args: argparse.Namespace) -> tuple[str, ...]:
    """Each format once, in the order in which they were named."""
    return tuple(dict.fromkeys(args.format or ("txt",)))


def to_files(args: argparse.Namespace) -> bool:
    """Whether the transcripts go to files, not to standard output."""
    return args.save or args.output_dir is not None


def from_several(args: argparse.Namespace) -> bool:
    """Whether more than one source may come; a folder counts as several, whatever is in it."""
    return len(args.source) > 1 or os.path.isdir(args.source[0])


def check_usage(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, and options that would do nothing, as argparse does."""
    for wrong, message in _misuses(args):
        if wrong:
            args.usage_error(message)


def _misuses(args: argparse.Namespace) -> Iterator[tuple[bool, str]]:
    form, *others = chosen_formats(args)
    printed, piped = not to_files(args), STDIN in args.source
    places = "--output-dir or --save"
    yield printed and bool(others), f"several formats need {places}"
    yield printed and from_several(args) and form not in SHARED, f"{form} of several sources needs {places}"
    yield printed and args.skip_existing, f"--skip-existing needs {places}"
    yield args.save and piped, 'there is no place beside "-": use --output-dir'
    yield args.rate is not None and not piped, '--rate is for raw PCM from "-" only'
    yield args.channel is not None and piped, 'raw PCM from "-" has one channel: leave --channel out'
    if args.speakers is not None:
        yield args.speakers[0][0] is None, "--speakers names channels: left=Ann,right=Bob"
        yield args.channel is not None, "--speakers names the channels: leave --channel out"
        yield piped, 'raw PCM from "-" has one channel: leave --speakers out'
    yield args.encoding is not None and not piped, '--encoding is for raw PCM from "-" only'
    yield args.paragraph_gap is not None and "txt" not in (form, *others), "--paragraph-gap is for the format txt only"
    for name in _given_rules(args):
        yield not set(SUBTITLES) & {form, *others}, f"{_flag(name)} is for the formats srt and vtt only"


def _given_rules(args: argparse.Namespace) -> dict[str, Any]:
    return {rule.name: value for rule in fields(SubtitleRules) if (value := getattr(args, rule.name)) is not None}


def style_of(args: argparse.Namespace) -> Style:
    """How transcripts are to be written. Raises OptionError where a rule is out of its range."""
    rules = SubtitleRules(**_given_rules(args))
    return Style(rules) if args.paragraph_gap is None else Style(rules, args.paragraph_gap)
