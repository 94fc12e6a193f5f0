"""The command `info`: what a checkpoint is, and how fast a machine can be with it at best.

In: its arguments. Out: tables or JSON on standard output, and an exit status. Reads configs and headers, loads nothing.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from ..checkpoints import find_checkpoint
from ..chips import Chip, find_chip
from ..config import FRAME_RATE, SttConfig
from ..errors import OptionError
from ..inspection import DTYPE, Inspection, format_groups, inspect_checkpoint
from ..sizes import StepBytes, human_size
from .delivery import complain, printable, send
from .options import add_checkpoint_options, named
from .tables import Table, print_tables

_COMMON = ("iPhone 16 Pro", "M1", "M2", "M4", "M3 Pro", "M5", "M4 Pro", "M4 Max", "M3 Ultra")


def add_info(parser: argparse.ArgumentParser) -> None:
    """Make it the parser of `info`."""
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "model",
        type=named,
        metavar="MODEL",
        help='local folder, hub repository (fetched if it is not cached), or "tiny"',
    )
    add(
        "--bandwidth",
        type=_memory,
        metavar="CHIP|GB/S",
        help='memory to reckon with: a chip such as "M4 Pro", or a number (default: some common chips)',
    )
    add("--format", choices=("text", "json"), default="text", help="of the output (default: %(default)s)")
    add_checkpoint_options(parser.add_argument_group("checkpoint"))


def run(args: argparse.Namespace) -> int:
    """Inspect the model and print what it is."""
    folder = find_checkpoint(args.model, revision=args.revision, offline=args.offline, announce=complain)
    found = inspect_checkpoint(folder, delay=args.delay, prefix=args.prefix)
    chips = [args.bandwidth] if args.bandwidth else [find_chip(name) for name in _COMMON]
    if args.format == "json":
        send(json.dumps({"model": args.model, **_facts(found, chips)}, indent=2) + "\n")
    else:
        print_tables(_tables(printable(args.model), found, chips))
    return 0


def _memory(text: str) -> Chip:
    try:
        bandwidth = float(text)
    except ValueError:
        try:
            return find_chip(text)
        except OptionError as error:
            raise argparse.ArgumentTypeError(str(error)) from error
    if not 0 < bandwidth < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a bandwidth: give a number of GB/s above 0, or a chip")
    return Chip(f"{text} GB/s", bandwidth)


def _facts(found: Inspection, chips: Sequence[Chip]) -> dict[str, Any]:
    """Everything as JSON; sizes in bytes, times in seconds."""
    checkpoint, config = found.checkpoint, found.checkpoint.config
    return {
        "layout": checkpoint.layout,
        "files": [str(path) for path in checkpoint.weights],
        "file_bytes": found.disk,
        "stored_dtypes": found.dtypes,
        "parts": {name: asdict(part) for name, part in found.parts.items()},
        "quantization": [
            {"layers": name, "format": asdict(format) if format else None}
            for name, format in format_groups(config.decoder, config.quantization)
        ],
        "window": {"frames": config.decoder.transformer.context, "seconds": _window(config)},
        "delay": config.delay,
        "prefix": config.prefix,
        "pause_heads": _pause_heads(config),
        "tokenizer": {"kind": found.tokenizer, "pieces": found.pieces},
        "step_bytes": {"dtype": DTYPE, **asdict(found.step), "total": found.step.total},
        "limits": [
            {"memory": chip.name, "bandwidth": chip.bandwidth, "seconds": seconds, "times_real_time": speed}
            for chip, seconds, speed in _limits(found.step, chips)
        ],
    }


def _pause_heads(config: SttConfig) -> dict[str, Any] | None:
    number = config.decoder.pause_heads
    return {"number": number, "head": config.pause_head, "threshold": config.pause_threshold} if number else None


def _window(config: SttConfig) -> float:
    return config.decoder.transformer.context / FRAME_RATE


def _limits(step: StepBytes, chips: Sequence[Chip]) -> Iterator[tuple[Chip, float, float]]:
    """Seconds per frame and multiples of real time that the decoder cannot pass."""
    for chip in chips:
        seconds = step.seconds(chip.bandwidth)
        yield chip, seconds, 1 / (seconds * FRAME_RATE)


def _tables(model: str, found: Inspection, chips: Sequence[Chip]) -> Iterator[Table]:
    config = found.checkpoint.config
    yield Table(model, list(_properties(found)))
    yield _parts_table(found)
    groups = format_groups(config.decoder, config.quantization) if config.quantization else [("all layers", None)]
    yield Table("Quantisation", [(name, str(format) if format else "none") for name, format in groups])
    step = (("weights", found.step.weights), ("rings", found.step.rings), ("together", found.step.total))
    sizes = [(name, human_size(size)) for name, size in step]
    yield Table(f"Read by each decoder step, in {DTYPE}", sizes, ("what", "size"))
    limits = [
        (chip.name, f"{chip.bandwidth:g}", f"{1e3 * seconds:.2f} ms", f"{speed:,.1f} x")
        for chip, seconds, speed in _limits(found.step, chips)
    ]
    yield Table("No decoder step can be faster than the memory", limits, ("memory", "GB/s", "per frame", "real time"))


def _properties(found: Inspection) -> Iterator[tuple[str, str]]:
    checkpoint, config = found.checkpoint, found.checkpoint.config
    yield "layout", checkpoint.layout
    count = len(checkpoint.weights)
    yield "weights", f"{human_size(found.disk)} in {count} file{'s' * (count > 1)}"
    yield "stored as", "; ".join(f"{part} {', '.join(dtypes)}" for part, dtypes in found.dtypes.items())
    yield "window", f"{config.decoder.transformer.context} frames, {_window(config):g} s"
    yield "delay", f"{config.delay:g} s"
    yield "prefix", f"{config.prefix:g} s"
    heads = f"{config.decoder.pause_heads}; number {config.pause_head} decides, above {config.pause_threshold:g}"
    yield "pause heads", heads if config.decoder.pause_heads else "none"
    yield "tokenizer", f"{found.tokenizer}, {found.pieces} pieces"


def _parts_table(found: Inspection) -> Table:
    rows = [(name, part.parameters, part.bytes) for name, part in found.parts.items()]
    rows.append(("together", sum(row[1] for row in rows), sum(row[2] for row in rows)))
    cells = [(name, _millions(parameters), human_size(size)) for name, parameters, size in rows]
    return Table(f"Parts, once loaded in {DTYPE}", cells, ("part", "parameters", "memory"))


def _millions(count: int) -> str:
    return f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count}"
