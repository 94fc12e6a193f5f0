"""How long after a word its line comes, in a live session: `python benchmarks/latency.py`.

Method. The bundled recordings are said one after another, with silence between them, by a source that delivers them as
a microphone does: in blocks of 20 ms, each when its last sample is due on the real clock, never before. `Session` and
the display of `mic --format jsonl` do the rest; standard output is a pipe, whose reader notes when it has each line.
Decoding that falls behind does not stop the clock.

A word's latency is the time of its line (of the last one, where it was revised) less the time at which the end of the
word, as the model tells it, was delivered. A first partial counts from the start of its word, the end of a turn from
the end of its last word. The added time is what remains without the model's delay and the frame of 80 ms, which nobody
can avoid. Words that came in one go with the end of their turn were fetched by the flush on a fork; how long that takes
is the duration of the call of `Stream.push` that gave the end of the turn. Percentiles are over all lines of a kind.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import soundfile

import mlx_kstt
from mlx_kstt.audio.lost import Lost
from mlx_kstt.cli.live import JsonLines
from mlx_kstt.config import FRAME_RATE, SAMPLE_RATE
from mlx_kstt.events import EndOfTurn, Event
from mlx_kstt.live.session import Session
from mlx_kstt.turns import HOLD

BLOCK = 480
"""Samples: 20 ms."""
SILENCE = 1.5
"""Seconds after each recording."""


class Speaker:
    """Sound in real time: a block can be had when its last sample is due."""

    overruns = 0

    def __init__(self, sound: np.ndarray) -> None:
        self._sound = sound
        self._given = 0
        self._begin: float | None = None

    @property
    def begin(self) -> float:
        """When the first sample was due (monotonic)."""
        assert self._begin is not None
        return self._begin

    @property
    def queued(self) -> float:
        """Seconds that are due and not yet taken."""
        return max(time.monotonic() - self.begin - self._given / SAMPLE_RATE, 0.0)

    def __iter__(self) -> Iterator[np.ndarray]:
        self._begin = time.monotonic()
        for start in range(0, len(self._sound), BLOCK):
            block = self._sound[start : start + BLOCK]
            due = self.begin + (start + len(block)) / SAMPLE_RATE
            time.sleep(max(due - time.monotonic(), 0.0))
            self._given = start + len(block)
            yield block


class TimedStream:
    """A stream whose pushes are timed.

    Attributes:
        turns: for each push that ended a turn, how long it took (seconds), and the starts of the words it gave.
    """

    def __init__(self, stream: mlx_kstt.Stream) -> None:
        self._stream = stream
        self.turns: list[tuple[float, list[float]]] = []
        self.flushed: list[float] = []

    @property
    def seconds(self) -> float:
        return self._stream.seconds

    def push(self, pcm: np.ndarray) -> list[Event]:
        begin = time.monotonic()
        events = self._stream.push(pcm)
        took = time.monotonic() - begin
        if any(isinstance(event, EndOfTurn) for event in events):
            self.turns.append((took, [event.start for event in events if isinstance(event, mlx_kstt.Word)]))
        return events

    def skip(self, lost: Lost) -> list[Event]:
        return self._stream.skip(lost)

    def flush(self) -> list[Event]:
        """Not timed: no listener waits for the words of a session that ends."""
        events = self._stream.flush()
        self.flushed = [event.start for event in events if isinstance(event, mlx_kstt.Word)]
        return events


def main() -> None:
    """Run a session, and print what was measured."""
    parser = argparse.ArgumentParser(description="How long after a word its line comes, in a live session.")
    parser.add_argument("--model", default="tiny", help="hub repository, local folder, or tiny (default)")
    parser.add_argument("--recordings", type=int, default=20, metavar="N", help="how many are said (default: all 20)")
    parser.add_argument(
        "--turn-hold", type=float, default=HOLD, metavar="SECONDS", help="as of mic (default: %(default)s)"
    )
    parser.add_argument("--format", choices=("table", "json"), default="table")
    args = parser.parse_args()
    stt = mlx_kstt.load(args.model)
    speaker, stream = Speaker(said(args.recordings)), TimedStream(stt.open(turn_hold=args.turn_hold))
    with lines_of_output() as lines:
        Session(speaker, stream, listeners=[JsonLines().tell]).run()
    result = measured(lines, stream, speaker.begin, stt.config.delay + 1 / FRAME_RATE)
    print(json.dumps(result, indent=2) if args.format == "json" else table(result, stt.config.delay))


def said(recordings: int) -> np.ndarray:
    """(samples,) at 24 kHz: the first of the bundled recordings, each with silence after it."""
    folder = Path(mlx_kstt.__file__).parent / "bundled" / "recordings"
    with (folder / "refs.tsv").open(encoding="utf-8") as file:
        names = [row["file"] for row in csv.DictReader(file, delimiter="\t")][:recordings]
    silence = np.zeros(round(SILENCE * SAMPLE_RATE), np.float32)
    return np.concatenate([part for name in names for part in (_read(folder / name), silence)])


def _read(path: Path) -> np.ndarray:
    sound, rate = soundfile.read(path, dtype="float32")
    assert rate == SAMPLE_RATE
    return sound


@contextmanager
def lines_of_output() -> Iterator[list[tuple[float, dict[str, Any]]]]:
    """Make standard output a pipe. Gives the objects that came out of it, each with its time; complete at the end."""
    lines: list[tuple[float, dict[str, Any]]] = []
    source, sink = os.pipe()

    def read() -> None:
        with os.fdopen(source, "rb") as pipe:
            for line in pipe:
                lines.append((time.monotonic(), json.loads(line)))

    reader = Thread(target=read)
    reader.start()
    with os.fdopen(sink, "w", encoding="utf-8") as pipe, redirect_stdout(pipe):
        yield lines
    reader.join()


def measured(
    lines: Sequence[tuple[float, dict[str, Any]]], stream: TimedStream, begin: float, unavoidable: float
) -> dict[str, Any]:
    """Seconds: each kind of line with its total and added time; the duration of the flush on a fork."""
    by_fork = {start for _, starts in stream.turns for start in starts}
    words, partials, turns = _lateness([(at - begin, line) for at, line in lines])
    live = {start: late for start, late in words.items() if start not in stream.flushed}
    kinds = {
        "all words": list(live.values()),
        "words in the flow of speech": [late for start, late in live.items() if start not in by_fork],
        "words with the end of their turn": [late for start, late in live.items() if start in by_fork],
        "first partials": list(partials.values()),
        "ends of turns": turns,
    }
    return {
        **{kind: _latency(values, unavoidable) for kind, values in kinds.items()},
        "flush on a fork": {"count": len(stream.turns), "duration": _spread([took for took, _ in stream.turns])},
    }


def _lateness(
    lines: Sequence[tuple[float, dict[str, Any]]],
) -> tuple[dict[float, float], dict[float, float], list[float]]:
    """Of words and of first partials, by the start of the word; of the ends of turns."""
    words: dict[float, float] = {}
    partials: dict[float, float] = {}
    turns: list[float] = []
    end = 0.0
    for at, line in lines:
        if line["type"] == "word":
            words[line["start"]] = at - line["end"]
            end = max(end, line["end"])
        elif line["type"] == "partial":
            partials.setdefault(line["start"], at - line["start"])
        elif line["type"] == "end_of_turn":
            turns.append(at - end)
    return words, partials, turns


def _latency(values: Sequence[float], unavoidable: float) -> dict[str, Any]:
    added = [value - unavoidable for value in values]
    return {"count": len(values), "total": _spread(values), "added": _spread(added)}


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """Median and 95th percentile; None of nothing."""
    if not values:
        return None
    median, p95 = np.percentile(values, (50, 95))
    return {"median": round(float(median), 4), "p95": round(float(p95), 4)}


def table(result: dict[str, Any], delay: float) -> str:
    """A row for each kind, in seconds."""
    rows = [
        f"From the end of a word (of a partial: from its start) to its line; the model's delay is {delay:g} s",
        "",
        "| seconds | count | total, median | total, 95 % | added, median | added, 95 % |",
        "|---|---|---|---|---|---|",
    ]
    for kind, found in result.items():
        spreads = [found["duration"], None] if "duration" in found else [found["total"], found["added"]]
        rows.append(f"| {kind} | {found['count']} | {' | '.join(map(_cells, spreads))} |")
    return "\n".join(rows)


def _cells(spread: dict[str, float] | None) -> str:
    return " | " if spread is None else f"{spread['median']:.3f} | {spread['p95']:.3f}"


if __name__ == "__main__":
    main()
