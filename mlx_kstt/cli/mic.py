"""The command `mic`: listen, and show what is said while it is said.

In: its arguments. Out: text or events on standard output, files that were asked for, and an exit status. Joins the
microphone, the model, what is kept and what is shown; knows nothing of what is inside them.

Text, jsonl and the journal have events as they come: in order within each lane. Files that are written at the end are
ordered by time, but for jsonl, which keeps the order in which events came.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ..checkpoints import find_checkpoint
from ..errors import KsttError
from ..events import Event, Gap, Refresh
from ..live.awake import kept_awake
from ..live.session import Listener, Session
from ..microphone import Microphone, microphone
from ..options import StreamOptions, pause_head_of
from ..outputs import FinalEvents, Transcript
from .delivery import complain
from .interruption import interrupted_by_signals, stopped_by_signals, told_if_interrupted
from .kept import check_files, check_resumed, open_kept, write_outputs
from .lines import exact_clock
from .live import Display, open_display
from .mic_inputs import Inputs, choose_inputs
from .mic_options import check_mic_usage, stream_options
from .options import load_model
from .turn_command import TurnCommand, split_command


def run(args: argparse.Namespace) -> int:
    """Listen until somebody says stop. Returns the exit status: 0 if all was done that was asked for, else 1."""
    check_mic_usage(args)
    options = stream_options(args)
    check_files(args)
    command = None if args.on_turn is None else split_command(args.on_turn)
    if args.resume:
        check_resumed(args)
    inputs = choose_inputs(args)
    find_checkpoint(args.model, revision=args.revision, offline=args.offline, announce=complain)  # may take minutes
    with ExitStack() as stack:
        if not args.allow_sleep:
            stack.enter_context(kept_awake())
        display = open_display(args.format, plain=args.plain, timestamps=args.timestamps)
        # What is said while the model loads waits in the microphone's queue.
        mic = stack.enter_context(_open_microphone(args, inputs, display))
        turns = None if command is None else stack.enter_context(TurnCommand(command, complain))
        done = _listen(args, options, inputs, mic, display, turns)
    return int(not done or (turns is not None and turns.failed))


def _open_microphone(args: argparse.Namespace, inputs: Inputs, display: Display) -> Microphone:
    return microphone(
        inputs.device, channels=inputs.channels, gain=args.gain, queue_seconds=args.queue, on_news=display.news
    )


def _listen(
    args: argparse.Namespace,
    options: dict[str, Any],
    inputs: Inputs,
    mic: Microphone,
    display: Display,
    turns: TurnCommand | None,
) -> bool:
    """The session, and what is written at its end. Returns whether all was done."""
    stt = load_model(args)
    pause_head_of(stt.config, StreamOptions(**options))  # before there are files
    kept = open_kept(args, inputs.lanes, mic.lanes)
    stream = stt.open(**options, lanes=inputs.lanes, start=kept.start)
    final, shown = FinalEvents(), _Shown(display, mic.stop)
    listeners: list[Listener] = [final.add] if args.output else []
    listeners += [shown.tell, turns.tell] if turns else [shown.tell]
    session = Session(
        mic,
        stream,
        start=kept.start,
        recording=kept.recording,
        journal=kept.journal,
        listeners=listeners,
        on_status=display.show,
        on_news=display.news,
        on_failure=complain,
    )
    with stopped_by_signals(mic.stop):
        with told_if_interrupted(complain, _given_up(args.output)):
            try:
                whole = session.run()
            finally:
                shown.close()
        whole &= write_outputs(args.output, Transcript((*kept.past, *final.events), session.seconds))
        if turns:
            with interrupted_by_signals():  # there is nothing to stop any more
                turns.finish()
    return whole and not shown.failed


def _given_up(outputs: Sequence[Path]) -> str:
    """What a second Ctrl-C costs."""
    files = f", and nothing was written to {', '.join(map(str, outputs))}" if outputs else ""
    return f"the last words were not decoded{files}"


class _Shown:
    """A display that may fail: then the listening ends, and what was heard is kept all the same.

    Args:
        display: where events go.
        stop: ends the listening.

    Attributes:
        failed: whether the display has failed.
    """

    def __init__(self, display: Display, stop: Callable[[], None]) -> None:
        self.failed = False
        self._display = display
        self._stop = stop

    def tell(self, events: Sequence[Event]) -> None:
        if not self.failed:
            self._attempt(lambda: self._display.tell(events))
        for event in events:
            if isinstance(event, Refresh):
                complain(f"at {exact_clock(event.time)} the decoder was started afresh: {event.reason}")
            elif isinstance(event, Gap) and (self.failed or not self._display.shows_gaps):
                complain(f"at {exact_clock(event.start)} {event.end - event.start:.1f} s were lost: {event.reason}")

    def close(self) -> None:
        self._attempt(self._display.close)

    def _attempt(self, work: Callable[[], None]) -> None:
        try:
            work()
        except (BrokenPipeError, KsttError) as error:
            if not self.failed and not isinstance(error, BrokenPipeError):
                complain(str(error))
            self.failed = True
            self._stop()
