"""A program for each turn: `--on-turn COMMAND`, with the turn's text on its standard input.

In: ends of turns. Out: runs of the program, one after another, its output among our messages. The text never meets a
shell. Knows nothing of sound and of the model.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import Condition, Thread
from threading import Event as Flag
from typing import IO

from ..errors import OptionError
from ..events import EndOfTurn, Event

_MANY = 16
"""Turns that may wait without a word."""
_LONG = 2.0
"""Seconds of waiting at the end after which it is said why."""
_PATIENCE = 0.5
"""Seconds for the last words of a program that has ended, or has been told to end."""


def split_command(command: str) -> tuple[str, ...]:
    """The program's path and its arguments, quoted as in a shell.

    Raises:
        OptionError: it cannot be split, is empty, or names a program that is not there.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        way_out = "close every quote, and put a backslash before those that are meant"
        reason = str(error).lower()
        raise OptionError(f"--on-turn {command} cannot be split into words ({reason}): {way_out}") from error
    name, *arguments = words or [""]
    if not name:
        raise OptionError("--on-turn names no program: give one, or leave it out")
    program = shutil.which(name)
    if program is None and os.path.dirname(name) and os.path.exists(name):
        raise OptionError(f"--on-turn {name} is no program that may be run: chmod +x makes a file one")
    if program is None:
        raise OptionError(f"--on-turn {name}: there is no such program: check its name, or give its full path")
    return (program, *arguments)


class TurnCommand:
    """Runs the program in a thread of its own; a context, within which `finish` waits for the last run.

    Args:
        command: program and arguments.
        complain: is told in a sentence what went wrong.

    Attributes:
        failed: whether anything went wrong.
    """

    def __init__(self, command: Sequence[str], complain: Callable[[str], None]) -> None:
        self.failed = False
        self._told: set[str] = set()
        self._failures = 0  # runs
        self._command = tuple(command)
        self._name = os.path.basename(command[0])
        self._complain = complain
        self._waiting: deque[str] = deque()
        self._news = Condition()  # of what follows
        self._is_late = self._is_closing = self._is_abandoned = self._is_running = False
        self._has_ended = Flag()
        self._process: subprocess.Popen[str] | None = None
        self._thread = Thread(target=self._work, name="mlx_kstt on-turn", daemon=True)

    def __enter__(self) -> TurnCommand:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        """Turns that still wait are abandoned, and so is a run in progress."""
        abandoned = self._abandon()
        if abandoned and isinstance(error, KeyboardInterrupt):
            self._fail(f"--on-turn {self._name} was ended at once: {abandoned} turn(s) did not get through it")
        if self._failures > 1:
            self._complain(f"--on-turn {self._name} failed for {self._failures} turns in all")

    def finish(self) -> None:
        """Run it for the turns that wait; no more are taken."""
        with self._news:
            self._is_closing = True
            self._news.notify()
        if not self._has_ended.wait(_LONG):
            self._complain(f"--on-turn {self._name} still runs: Ctrl-C abandons it")
            self._has_ended.wait()  # an interrupted join would take the thread for ended

    def tell(self, events: Sequence[Event]) -> None:
        """Run the program for each end of a turn among the events; comes back at once."""
        for event in events:
            if isinstance(event, EndOfTurn):
                self._add(event.text)

    def _add(self, text: str) -> None:
        with self._news:
            self._waiting.append(text)
            many = len(self._waiting) > _MANY
            self._news.notify()
        if many and not self._is_late:
            self._fail(f"--on-turn {self._name} is slow: {_MANY + 1} turns wait for it, and none is left out")
        self._is_late = many or (self._is_late and bool(self._waiting))

    def _work(self) -> None:
        try:
            while (text := self._next()) is not None:
                self._run(text)
        finally:
            self._has_ended.set()

    def _next(self) -> str | None:
        with self._news:
            self._is_running = False
            self._news.wait_for(lambda: self._waiting or self._is_closing)
            self._is_running = bool(self._waiting) and not self._is_abandoned
            return self._waiting.popleft() if self._is_running else None

    def _run(self, text: str) -> None:
        """One run, which is over when the program is; what it leaves in the background may still say something."""
        try:
            process = self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
                start_new_session=True,  # the Ctrl-C that ends the listening is not for it
            )
        except OSError as error:
            self._failures += 1
            self._fail(f"--on-turn {self._name} cannot be run ({error.strerror}): check the program")
            return
        assert process.stdin is not None and process.stdout is not None
        listening = Thread(target=_pass_on, args=(process.stdout,), daemon=True)
        listening.start()
        _feed(process.stdin, f"{text}\n")
        status = process.wait()
        listening.join(_PATIENCE)
        if status and not self._is_abandoned:
            self._failures += 1
            reason = f"exit status {status}" if status > 0 else f"ended by signal {-status}"
            self._fail(f"--on-turn {self._name} failed ({reason}): its own messages may say why")

    def _abandon(self) -> int:
        """End the run in progress, if there is one. Returns how many turns this costs."""
        with self._news:
            turns = len(self._waiting) + self._is_running
            self._is_abandoned = self._is_closing = True
            self._waiting.clear()
            self._news.notify()
        for number in (signal.SIGTERM, signal.SIGKILL):
            process = self._process
            if process is not None and process.returncode is None:
                with suppress(OSError):
                    os.killpg(process.pid, number)
            self._has_ended.wait(_PATIENCE)
        return turns

    def _fail(self, message: str) -> None:
        """Told once: a program that fails may do so at every turn."""
        self.failed = True
        if message not in self._told:
            self._told.add(message)
            self._complain(message)


def _feed(stdin: IO[str], text: str) -> None:
    """Write it all; a program need not read."""
    with suppress(OSError):
        stdin.write(text)
    with suppress(OSError):
        stdin.close()


def _pass_on(stdout: IO[str]) -> None:
    """What the program says, to our standard error, line by line."""
    with stdout, suppress(OSError):
        for line in stdout:
            sys.stderr.write(line if line.endswith("\n") else f"{line}\n")
            sys.stderr.flush()
