"""The command line: `python -m mlx_kstt transcribe talk.m4a`.

In: arguments. Out: an exit status: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted. What was asked for
goes to standard output, everything else to standard error. Knows the commands by name, not what they do.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

import mlx_kstt

from ..errors import KsttError, OptionError
from . import mic, transcribe
from .convert import add_convert
from .delivery import complain
from .devices import add_devices
from .info import add_info
from .mic_options import add_mic
from .options import add_transcribe


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments; None takes the process's own.

    Returns:
        The exit status. Wrong usage raises SystemExit(2), as argparse does.
    """
    _open_closed_streams()
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    try:
        return args.run(args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 1
    except KsttError as error:
        complain(str(error))
        return 2 if isinstance(error, OptionError) else 1


def _open_closed_streams() -> None:
    """Give the standard streams that the caller has closed (`<&-`) their numbers back.

    The next file to be opened would take the number: one from which MLX does not load, or into which messages go. Input
    becomes empty; output fails when it is used, since a transcript would be lost; messages are dropped.
    """
    for name, mode, access in (("stdin", "r", os.O_RDONLY), ("stdout", "w", os.O_RDONLY), ("stderr", "w", os.O_WRONLY)):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, access), mode))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mlx_kstt", description="Kyutai speech to text on Apple's MLX.")
    parser.add_argument("--version", action="version", version=f"mlx_kstt {mlx_kstt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    add_transcribe(commands.add_parser("transcribe", help="audio to text, subtitles or data"), run=transcribe.run)
    add_mic(commands.add_parser("mic", help="live: text while somebody speaks"), run=mic.run)
    add_devices(commands.add_parser("devices", help="the sound inputs of this machine"))
    add_convert(commands.add_parser("convert", help="a checkpoint quantised, in one folder that loads at once"))
    add_info(commands.add_parser("info", help="what a checkpoint is, and how fast a machine can be with it"))
    return parser
