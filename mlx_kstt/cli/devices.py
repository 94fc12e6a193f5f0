"""The command `devices`: the sound inputs of this machine.

In: its arguments. Out: a list or JSON on standard output, and an exit status. Knows nothing of sound.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict

from ..errors import AudioError
from ..microphone.devices import Device, input_devices
from .delivery import printable, send

_GAP = "  "


def add_devices(parser: argparse.ArgumentParser) -> None:
    """Make it the parser of `devices`."""
    parser.set_defaults(run=run, usage_error=parser.error)
    parser.add_argument("--format", choices=("txt", "json"), default="txt", help="(default: txt)")


def run(args: argparse.Namespace) -> int:
    """Print the list.

    Raises:
        AudioError: there is none to print.
    """
    devices = input_devices()
    if not devices:
        raise AudioError("there is no sound input: plug a microphone in, or check the system's sound settings")
    if args.format == "json":
        send(json.dumps([asdict(device) for device in devices], ensure_ascii=False, indent=2) + "\n")
    else:
        send(_listed(devices))
    return 0


def _listed(devices: Sequence[Device]) -> str:
    """A line for each: default (*), number, name, channels, rate."""
    rows = [
        (
            "*" if device.is_default else " ",
            str(device.number),
            printable(device.name),
            f"{device.channels} channel{'s' * (device.channels != 1)}",
            f"{device.rate} Hz",
        )
        for device in devices
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "".join(
        f"{mark} {number:>{widths[1]}}{_GAP}{name:<{widths[2]}}{_GAP}{channels:<{widths[3]}}{_GAP}{rate:>{widths[4]}}\n"
        for mark, number, name, channels, rate in rows
    )
