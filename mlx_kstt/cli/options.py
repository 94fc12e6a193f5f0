"""The options of the command line, and which of them go together.

In: a parser. Out: the same parser with options; later, the chosen options checked and made into what they mean. Knows
nothing of sources and of the model.
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
from ..checkpoints import home_expanded
from ..subtitles import SubtitleRules
from .delivery import FORMATS, SHARED, SUBTITLES, Style
from .jobs import STDIN

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
    _add_model_options(parser.add_argument_group("model"))
    _add_audio_options(parser.add_argument_group("audio"))
    _add_output_options(parser.add_argument_group("output"))
    _add_subtitle_options(parser.add_argument_group("subtitles"))


def _add_model_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--model",
        type=named,
        default=mlx_kstt.DEFAULT_MODEL,
        help='hub repository, local folder, or "tiny" (default: %(default)s)',
    )
    add_checkpoint_options(group)
    add("--dtype", choices=("float32", "float16", "bfloat16"), help="of the text decoder (default: by device)")
    add("--temperature", type=_number, default=0.0, help="above 0 draws tokens at random (default: 0)")
    add("--seed", type=_count, default=0, metavar="N", help="of the draws (default: 0)")


def add_checkpoint_options(group: argparse._ArgumentGroup) -> None:
    """Options of whatever reads a checkpoint."""
    add = group.add_argument
    add("--revision", help="branch, tag or commit of the hub repository")
    add("--offline", action="store_true", help="never use the network")
    add("--delay", type=_number, metavar="SECONDS", help="the model's delay, instead of what the checkpoint says")
    add("--prefix", type=_number, metavar="SECONDS", help="silence put first, instead of what the checkpoint says")


def _add_audio_options(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add("--channel", type=_channel, metavar="N", help="transcribe this channel alone, from 0 (default: all, mixed)")
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
        "--paragraph-gap", type=_number, metavar="SECONDS", help="silence that begins a new line of txt (default: 2)"
    )


def _add_subtitle_options(group: argparse._ArgumentGroup) -> None:
    for rule in fields(SubtitleRules):
        kind, unit = (int, "N") if isinstance(rule.default, int) else (_number, "SECONDS")
        group.add_argument(
            _flag(rule.name), type=kind, metavar=unit, help=f"{_RULE_HELP[rule.name]} (default: {rule.default})"
        )


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _number(text: str) -> float:
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


def _channel(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text} is not a channel: they are counted from 0")
    return int(text)


def _count(text: str) -> int:
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
