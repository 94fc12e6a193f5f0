"""A program for each turn: its text arrives unharmed, nothing is left out, and what goes wrong is told."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from mlx_kstt.cli.turn_command import TurnCommand, split_command
from mlx_kstt.errors import OptionError
from mlx_kstt.events import EndOfTurn, Word

NASTY = 'it\'s $(touch broken) `touch broken`; "quoted" é日 | rm -rf *'


def turns(*texts: str) -> list[EndOfTurn | Word]:
    """Ends of turns, with words between them."""
    return [event for text in texts for event in (Word("x", 0, 1, 1.0), EndOfTurn(1.0, text))]


def run(command: str, *texts: str) -> tuple[bool, list[str]]:
    """Whether it failed, and the complaints."""
    said: list[str] = []
    with TurnCommand(split_command(command), said.append) as program:
        program.tell(turns(*texts))
        program.finish()
    return program.failed, said


def script(path: Path, text: str) -> str:
    path.write_text(text)
    return f"{sys.executable} {path}"


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("say 'hello", r"--on-turn say 'hello cannot be split into words \(no closing quotation\): close every quote"),
        ("", r"--on-turn names no program: give one, or leave it out"),
        (" ", r"--on-turn names no program: give one, or leave it out"),
        ("'' -x", r"--on-turn names no program: give one, or leave it out"),
        ("no-such-program -x", "--on-turn no-such-program: there is no such program"),
        ("here", "--on-turn here: there is no such program"),
        ("./here", r"--on-turn ./here is no program that may be run: chmod \+x makes a file one"),
        ("./nowhere", "--on-turn ./nowhere: there is no such program"),
    ],
)
def test_what_cannot_be_run_is_refused_before_anything_happens(command: str, message: str) -> None:
    Path("here").write_text("not executable")
    with pytest.raises(OptionError, match=message):
        split_command(command)


def test_a_command_is_split_like_in_a_shell_but_nothing_is_expanded() -> None:
    program, *arguments = split_command("cat 'a b' $HOME *.txt")
    assert (os.path.basename(program), arguments) == ("cat", ["a b", "$HOME", "*.txt"])


def test_the_text_arrives_on_standard_input_as_it_is() -> None:
    assert run("tee -a heard", NASTY, "second") == (False, [])
    assert Path("heard").read_text() == f"{NASTY}\nsecond\n"
    assert [path.name for path in Path().iterdir()] == ["heard"]


def test_what_it_says_goes_to_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    command = script(Path("both.py"), "import sys\nprint('out')\nprint('err', end='', file=sys.stderr)")
    assert run(command, "a") == (False, [])
    said = capsys.readouterr()
    assert (said.out, sorted(said.err.splitlines())) == ("", ["err", "out"])


def test_it_runs_one_after_another_and_for_every_turn() -> None:
    command = script(
        Path("slow.py"),
        "import os, sys\nos.mkdir('busy')\nopen('heard', 'a').write(sys.stdin.read())\nos.rmdir('busy')\n",
    )
    texts = [str(number) for number in range(6)]
    assert run(command, *texts) == (False, [])
    assert Path("heard").read_text().split() == texts


def test_each_failure_is_told_once_and_counted_in_the_end() -> None:
    name = os.path.basename(sys.executable)
    failed, said = run(script(Path("fail.py"), "raise SystemExit(3 + len(input()) % 2)"), "a", "ab", "b", "bc", "c")
    assert (failed, said) == (
        True,
        [
            f"--on-turn {name} failed (exit status 4): its own messages may say why",
            f"--on-turn {name} failed (exit status 3): its own messages may say why",
            f"--on-turn {name} failed for 5 turns in all",
        ],
    )
    assert len(run(script(Path("fail.py"), "raise SystemExit(3)"), "a")[1]) == 1
    killed = script(Path("killed.py"), "import os\nos.kill(os.getpid(), 9)")
    assert "failed (ended by signal 9)" in run(killed, "a")[1][0]


def test_a_program_that_has_gone_meanwhile_is_told() -> None:
    Path("gone").write_text("#!/bin/sh\nexit 0\n")
    Path("gone").chmod(0o755)
    said: list[str] = []
    with TurnCommand(split_command("./gone"), said.append) as program:
        Path("gone").unlink()
        program.tell(turns("a"))
        program.finish()
    assert (program.failed, said) == (
        True,
        ["--on-turn gone cannot be run (No such file or directory): check the program"],
    )


def test_a_program_need_not_read_and_may_leave_something_in_the_background() -> None:
    long_text = "word " * 100_000
    assert run("true", long_text) == (False, [])
    assert run("sh -c 'sleep 20 &'", "a") == (False, [])


def test_many_waiting_turns_are_told_once_and_none_is_left_out() -> None:
    os.mkfifo("gate")
    command = script(Path("gated.py"), "import sys\nopen('gate').read()\nopen('heard', 'a').write(sys.stdin.read())")
    said: list[str] = []
    texts = [str(number) for number in range(20)]
    with TurnCommand(split_command(command), said.append) as program:
        program.tell(turns(*texts))
        opening = threading.Thread(target=open_until, args=(lambda: not Path("gate").exists(),))
        opening.start()
        program.finish()
        Path("gate").unlink()
        opening.join()
    assert Path("heard").read_text().split() == texts
    name = os.path.basename(sys.executable)
    assert said == [f"--on-turn {name} is slow: 17 turns wait for it, and none is left out"]
    assert program.failed


def open_until(is_over: Callable[[], bool]) -> None:
    """Let whoever waits at the gate pass."""
    while not is_over():
        try:
            os.close(os.open("gate", os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            continue


def test_an_interruption_abandons_the_program_and_what_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_kstt.cli.turn_command._LONG", 0.0)
    said: list[str] = []
    command = script(Path("endless.py"), "import os, time\nopen('begun', 'w').write('x')\ntime.sleep(60)")
    watch = threading.Thread(target=interrupt_when, args=(lambda: Path("begun").exists(),))
    with pytest.raises(KeyboardInterrupt), TurnCommand(split_command(command), said.append) as program:
        program.tell(turns("a", "b"))
        watch.start()
        program.finish()
    watch.join()
    name = os.path.basename(sys.executable)
    assert said == [
        f"--on-turn {name} still runs: Ctrl-C abandons it",
        f"--on-turn {name} was ended at once: 2 turn(s) did not get through it",
    ]
    assert Path("begun").exists()
    assert [thread.name for thread in threading.enumerate() if "on-turn" in thread.name] == []


def interrupt_when(is_time: Callable[[], bool]) -> None:
    while not is_time():
        pass
    os.kill(os.getpid(), signal.SIGINT)
