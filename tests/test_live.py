"""What is shown while somebody speaks: no finished word is taken back, and every line is complete."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from pathlib import Path

import pytest
from rich.console import Console
from terminal import rows_of, text_of

import mlx_kstt
from mlx_kstt.cli.lines import Lines, clock, exact_clock
from mlx_kstt.cli.live import JsonLines, Plain, open_display
from mlx_kstt.cli.screen import Screen
from mlx_kstt.cli.status_line import News, status_line
from mlx_kstt.errors import KsttError
from mlx_kstt.events import EndOfTurn, Event, Gap, Partial, Pause, Refresh, Word
from mlx_kstt.live.status import Status
from mlx_kstt.loudness import SILENCE
from mlx_kstt.microphone.device_news import no_sound

QUIET = Status(0.0, (-60.0,), 0.0, 0, True, True)


def word(text: str, start: float, lane: str | None = None) -> Word:
    return Word(text, start, start + 0.2, 0.9, lane)


def written(*events: Event, timestamps: bool = False, gaps: bool = False) -> str:
    lines = Lines(timestamps=timestamps, gaps=gaps)
    return "".join(map(lines.add, events)) + lines.finish()


def test_words_stand_on_a_line_for_each_turn() -> None:
    events = (
        word("Good", 0),
        word("day.", 0.3),
        Pause(0.6, ()),
        EndOfTurn(0.6, "Good day."),
        word("Yes", 2),
        word("?", 3),
    )
    assert written(*events) == "Good day.\nYes ?\n"


def test_nothing_said_writes_nothing() -> None:
    assert written(Pause(0.1, ()), Partial("unfin", 0.2), Refresh(1, "so"), EndOfTurn(1, ""), word("", 2)) == ""


def test_a_line_begins_with_the_time_of_its_first_word_and_its_speaker() -> None:
    events = word("Hello", 3599.96, "Ann"), word("you", 3600.2, "Ann"), word("Hi", 3601.25, "Bob")
    assert written(*events, timestamps=True) == "[0:59:59.9] Ann: Hello you\n[1:00:01.2] Bob: Hi\n"


def test_the_end_of_another_speakers_turn_ends_no_line() -> None:
    events = word("Hello", 0, "Ann"), EndOfTurn(0.2, "Hm", "Bob"), word("you", 0.4, "Ann"), EndOfTurn(1, "", "Ann")
    assert written(*events, word("Again", 2, "Ann")) == "Ann: Hello you\nAnn: Again\n"


def test_a_revision_writes_only_what_is_new() -> None:
    assert written(word("I", 0), word("under", 1), word("understand", 1), word("it", 2)) == "I understand it\n"
    assert written(word("under", 1), word("under", 1)) == "under\n"


def test_a_revision_that_cannot_be_continued_is_written_again() -> None:
    assert written(word("to", 1), word("two", 1), word("too", 1)) == "to two too\n"
    assert written(word("under", 1), EndOfTurn(1.2, "under"), word("understand", 1)) == "under\nunderstand\n"
    between = word("under", 1, "Ann"), word("Hm", 1.1, "Bob"), word("understand", 1, "Ann")
    assert written(*between) == "Ann: under\nBob: Hm\nAnn: understand\n"


def test_a_gap_stands_between_what_was_said_before_and_after_it() -> None:
    events = word("before", 1), Gap(1.5, 13.8, "it was\nunplugged"), word("still", 1.3), word("after", 14)
    assert written(*events) == "before still\nafter\n"
    assert written(*events, gaps=True) == "before still\n[gap 12.3 s: it was unplugged]\nafter\n"
    assert written(*events[:2], gaps=True) == "before\n[gap 12.3 s: it was unplugged]\n"


def test_a_gap_without_later_words_is_shown_when_time_has_passed() -> None:
    lines = Lines(timestamps=False, gaps=True)
    assert lines.add(Gap(10, 20, "gone")) == ""
    assert (lines.pass_time(14.9), lines.pass_time(15.0), lines.pass_time(30)) == ("", "[gap 10.0 s: gone]\n", "")


def test_names_and_words_cannot_steer_a_terminal() -> None:
    assert written(word("a\x1b[2Jb", 0, "An\nn")) == "An n: a\N{REPLACEMENT CHARACTER}[2Jb\n"


@pytest.mark.parametrize(
    ("seconds", "whole", "exact"),
    [(0, "0:00:00", "0:00:00.0"), (59.999, "0:00:59", "0:00:59.9"), (90061.05, "25:01:01", "25:01:01.0")],
)
def test_clocks(seconds: float, whole: str, exact: str) -> None:
    assert (clock(seconds), exact_clock(seconds)) == (whole, exact)


def test_plain_words_are_written_as_they_come(capsys: pytest.CaptureFixture[str]) -> None:
    plain = Plain(timestamps=False)
    said: list[str] = []
    for events in ([word("Good", 0)], [Partial("d", 1)], [word("day", 1), EndOfTurn(2, "")], [word("Yes", 3)]):
        plain.tell(events)
        plain.show(QUIET)
        said.append(capsys.readouterr().out)
    plain.close()
    plain.news("listening")
    assert (said, capsys.readouterr()) == (["Good", "", " day\n", "Yes"], ("\n", "mlx_kstt: listening\n"))


def test_jsonl_has_every_event_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    events = [
        Partial("G", 0.1234567, "Ann"),
        Word("Été", 0.1234567, 0.5, 0.987654, "Ann"),
        Pause(0.6, (0.91234567,)),
        EndOfTurn(0.6, "Été"),
        Gap(1, 2.5, "gone"),
        Refresh(3, "10 minutes"),
    ]
    display = JsonLines()
    display.tell(events)
    display.close()
    out = capsys.readouterr().out
    assert [json.loads(line) for line in out.splitlines()] == [
        {"type": "partial", "text": "G", "start": 0.123, "lane": "Ann"},
        {"type": "word", "text": "Été", "start": 0.123, "end": 0.5, "confidence": 0.9877, "lane": "Ann"},
        {"type": "pause", "time": 0.6, "probabilities": [0.9123]},
        {"type": "end_of_turn", "time": 0.6, "text": "Été"},
        {"type": "gap", "start": 1, "end": 2.5, "reason": "gone"},
        {"type": "refresh", "time": 3, "reason": "10 minutes"},
    ]
    assert "É" in out


def test_the_display_fits_where_the_output_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    def kind(form: str, *, plain: bool) -> type:
        return type(open_display(form, plain=plain, timestamps=False))

    assert [kind("txt", plain=False), kind("jsonl", plain=False)] == [Plain, JsonLines]
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert [kind("txt", plain=False), kind("txt", plain=True), kind("jsonl", plain=False)] == [Screen, Plain, JsonLines]
    monkeypatch.setenv("TERM", "dumb")
    assert kind("txt", plain=False) is Plain


@pytest.mark.parametrize(
    ("width", "shown"),
    [
        (79, "█████░░░░░ speaking 0:12:34 4 s behind 2 overruns the device is back"),
        (50, "█████░░░░░ speaking 0:12:34 4 s behind 2 overruns"),
        (40, "█████░░░░░ speaking 0:12:34 4 s behind"),
        (19, "speaking 4 s behind"),
        (9, "speaking"),
        (6, ""),
    ],
)
def test_a_narrow_line_of_status_keeps_what_matters_most(width: int, shown: str) -> None:
    status = Status(754.9, (-30.0,), 3.6, 2, False, True)
    assert status_line(status, "the device is back", width, ascii_only=False).plain == shown


def test_a_status_in_time_shows_no_lag_and_a_meter_for_each_lane() -> None:
    status = Status(1.0, (0.0, SILENCE), 1.9, 1, True, True)
    assert status_line(status, "", 60, ascii_only=True).plain == "##### ----- pausing  0:00:01 1 overrun"
    assert status_line(None, "news", 60, ascii_only=True).plain == "news"


def test_nobody_has_spoken_yet_or_no_sound_comes_is_no_pause() -> None:
    waiting = Status(1.0, (-60.0,), 0.0, 0, True, False)
    assert status_line(waiting, "", 19, ascii_only=True).plain == "---------- waiting "
    for status in (QUIET, waiting):
        assert status_line(status, "", 19, ascii_only=True, is_mute=True).plain == "---------- no sound"


STOPPED, MUTE = "Mic has stopped: waiting for it to come back", no_sound("Mic", has_sounded=False)
ANEW = "Mic ran at another rate: the input is opened anew"


@pytest.mark.parametrize("sentence", [STOPPED, MUTE, ANEW])
def test_news_of_a_device_without_sound_stay_until_it_is_heard(sentence: str) -> None:
    for is_told in (True, False):
        news = News()
        news.add(sentence, 0.0)
        news.hear((-30.0,))  # from before
        assert (news.at(100.0), news.is_mute) == (sentence, False)
        news.hear((SILENCE,))
        news.add("decoding has caught up with real time", 100.0)
        assert [news.at(104.9), news.at(105.0)] == ["decoding has caught up with real time", sentence]
        assert news.is_mute
        if is_told:
            news.add("listening to Mic (48000 Hz) again, 12.3 s were lost", 106.0)
            news.hear((SILENCE,))
        else:
            news.hear((-90.0,))
        assert (news.at(200.0), news.is_mute) == ("", False)


def test_news_of_one_of_two_devices_stay_while_the_other_one_is_heard() -> None:
    news = News()
    for sentence in (STOPPED, "Mic 2 has stopped: waiting for it to come back"):
        news.add(sentence, 0.0)
    news.hear((SILENCE, SILENCE))
    news.add("listening to Mic 2 (16000 Hz) again, 2.0 s were lost", 1.0)
    news.add("Mic 2 has stopped: waiting for it to come back", 1.0)
    news.add("listening to Mic (48000 Hz) again, 2.0 s were lost", 1.0)
    assert news.at(9.0) == "Mic 2 has stopped: waiting for it to come back"
    news.add(STOPPED, 1.0)
    news.hear((SILENCE, SILENCE))
    news.add("listening to Mic 2 (16000 Hz) again, 2.0 s were lost", 1.0)
    assert news.is_mute
    for _ in range(3):
        news.hear((SILENCE, -20.0))
        assert (news.at(9.0), news.is_mute) == (STOPPED, False)
    news.hear((-30.0, -20.0))
    assert news.at(9.0) == ""


class Clock:
    """Time that passes when it is told to."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class Drawn:
    """A screen on a terminal of some width, and what stands there."""

    def __init__(self, width: int, *, timestamps: bool = False) -> None:
        self.file, self.clock, self.width = io.StringIO(), Clock(), width
        self.console = Console(
            file=self.file, force_terminal=True, width=width, height=10, highlight=False, _environ={}
        )
        self.screen = Screen(timestamps=timestamps, console=self.console, now=self.clock)

    def rows(self) -> list[str]:
        self.screen.draw()
        return text_of(self.file.getvalue(), self.width)


def test_the_line_in_progress_and_the_status_stand_below_what_is_finished() -> None:
    drawn = Drawn(40)
    drawn.screen.show(Status(1.0, (-60.0,), 0.0, 0, True, True))
    drawn.screen.tell([word("Good", 0), word("day.", 0.3), EndOfTurn(0.6, ""), word("Is", 1), Partial("a", 2)])
    assert drawn.rows() == ["Good day.", "Is a", "░░░░░░░░░░ pausing  0:00:01"]
    drawn.screen.tell([word("anybody", 2)])
    assert drawn.rows() == ["Good day.", "Is anybody", "░░░░░░░░░░ pausing  0:00:01"]
    drawn.screen.close()
    assert text_of(drawn.file.getvalue(), 40) == ["Good day.", "Is anybody"]


def test_unfinished_words_stand_where_they_will_stand() -> None:
    drawn = Drawn(40, timestamps=True)
    drawn.screen.tell([Partial("Hel", 1.0, "Ann")])
    assert drawn.rows() == ["[0:00:01.0] Ann: Hel"]
    drawn.screen.tell([word("Hello", 1.0, "Ann"), Partial("y", 1.5, "Ann"), Partial("Hi", 2.0, "Bob")])
    assert drawn.rows() == ["[0:00:01.0] Ann: Hello y", "[0:00:02.0] Bob: Hi"]
    drawn.screen.close()
    assert text_of(drawn.file.getvalue(), 40) == ["[0:00:01.0] Ann: Hello"]


def test_a_turn_is_on_the_screen_before_anything_else_is_printed() -> None:
    drawn = Drawn(40)
    drawn.screen.tell([word("Hello", 0), EndOfTurn(1, "Hello")])
    drawn.console.print("what a program made of it")
    drawn.screen.close()
    assert text_of(drawn.file.getvalue(), 40) == ["Hello", "what a program made of it"]


@pytest.mark.parametrize("width", [2, 3, 5, 20, 33])
def test_a_long_line_is_wrapped_and_no_finished_row_is_written_again(width: int) -> None:
    texts = ("Wide 日本語 characters count two, and incomprehensibilities are longer than a line " * 3).split()
    drawn = Drawn(width)
    before: list[str] = []
    for at, text in enumerate(texts):
        drawn.screen.tell([Partial(text[:1], at), word(text, at)])
        drawn.screen.show(Status(at, (-20.0,), 0.0, 0, False, True))
        rows = drawn.rows()
        assert rows[: len(before)] == before
        before = rows[:-3] if width >= 20 else []
    drawn.screen.close()
    assert "".join(text_of(drawn.file.getvalue(), width)).replace(" ", "") == "".join(texts)


def test_a_revised_word_in_the_line_in_progress_grows() -> None:
    drawn = Drawn(20)
    drawn.screen.tell([word("I", 0), word("certainly", 1), word("under", 2)])
    assert drawn.rows() == ["I certainly under"]
    drawn.screen.tell([word("understand", 2)])
    assert drawn.rows() == ["I certainly", "understand"]
    drawn.screen.close()


def test_a_gap_is_a_dim_line_of_its_own() -> None:
    drawn = Drawn(40, timestamps=True)
    drawn.screen.tell([word("Hm", 1, "Ann"), Gap(2, 14.3, "unplugged"), word("Yes", 15, "Ann")])
    assert drawn.rows() == ["[0:00:01.0] Ann: Hm", "[gap 12.3 s: unplugged]", "[0:00:15.0] Ann: Yes"]
    assert "\x1b[2m[gap 12.3 s: unplugged]" in drawn.file.getvalue()
    drawn.screen.tell([Gap(16, 18, "unplugged")])
    drawn.screen.show(Status(21.0, (), 0.0, 0, True, True))
    assert drawn.rows()[3] == "[gap 2.0 s: unplugged]"
    drawn.screen.close()


def test_news_stay_for_a_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    drawn = Drawn(60)
    drawn.screen.show(QUIET)
    drawn.screen.news("the device is back")
    drawn.clock.now = 4.9
    assert drawn.rows() == ["", "░░░░░░░░░░ pausing  0:00:00 the device is back"]
    drawn.clock.now = 5.0
    assert drawn.rows() == ["", "░░░░░░░░░░ pausing  0:00:00"]
    drawn.screen.close()
    assert capsys.readouterr().err == "mlx_kstt: the device is back\n", "for the log that standard error is here"


def test_a_device_that_has_stopped_stays_on_the_screen() -> None:
    drawn = Drawn(80)
    drawn.screen.show(Status(1.0, (-60.0,), 0.0, 0, True, False))
    drawn.screen.news(STOPPED)
    drawn.screen.show(Status(5.0, (SILENCE,), 0.0, 0, True, False))
    drawn.clock.now = 1000.0
    assert drawn.rows() == ["", f"░░░░░░░░░░ no sound 0:00:05 {STOPPED}"]
    drawn.screen.show(Status(1000.0, (-60.0,), 0.0, 0, True, False))
    assert drawn.rows() == ["", "░░░░░░░░░░ waiting  0:16:40"]
    drawn.screen.close()


def test_nothing_is_redrawn_where_nothing_has_changed() -> None:
    drawn = Drawn(40)
    drawn.screen.tell([word("Good", 0)])
    drawn.screen.show(QUIET)
    drawn.screen.draw()
    size = len(drawn.file.getvalue())
    drawn.screen.show(Status(0.9, (-59.9,), 1.0, 0, True, True))
    drawn.screen.tell([Pause(0.5, ()), Refresh(0.6, "so")])
    drawn.screen.draw()
    assert len(drawn.file.getvalue()) == size
    drawn.screen.close()


def test_a_flood_of_events_is_drawn_ten_times_a_second() -> None:
    drawn = Drawn(40)
    begin = time.monotonic()
    for at in range(2000):
        drawn.screen.tell([word("word", at)])
        drawn.screen.show(Status(at, (-at % 60.0,), 0.0, 0, False, True))
    passed = time.monotonic() - begin
    drawn.screen.close()
    assert drawn.file.getvalue().count("\r") <= 2 * (passed / 0.1 + 2), "two for each redraw"
    assert " ".join(text_of(drawn.file.getvalue(), 40)) == " ".join(["word"] * 2000)


def test_a_narrower_terminal_wraps_what_comes_from_then_on() -> None:
    drawn = Drawn(60)
    drawn.screen.tell([word(text, at) for at, text in enumerate(["please", "open", "the", "window"])])
    assert drawn.rows() == ["please open the window"]
    drawn.console.width = 20
    drawn.screen.tell([word("and close the door", 9)])
    assert drawn.rows() == ["please open the", "window and close", "the door"]
    drawn.screen.close()


def test_messages_from_other_threads_do_not_stop_the_drawing() -> None:
    drawn = Drawn(40)
    threads = [threading.Thread(target=drawn.screen.news, args=(f"news {at}",)) for at in range(8)]
    for thread in threads:
        thread.start()
    drawn.screen.tell([word("Good", 0)])
    for thread in threads:
        thread.join()
    assert drawn.rows()[0] == "Good"
    drawn.screen.close()


class Gone(io.StringIO):
    """A terminal that has been closed."""

    def write(self, text: str) -> int:
        raise OSError(5, "Input/output error")


def test_a_terminal_that_has_gone_is_told() -> None:
    screen = Screen(
        timestamps=False, console=Console(file=Gone(), force_terminal=True, width=40, height=9, _environ={})
    )
    screen.tell([])
    with pytest.raises(KsttError, match=r"the terminal cannot be written \(Input/output error\): keep it open"):
        screen.tell([word("Good", 0)])
    with pytest.raises(KsttError):
        screen.close()
    assert not isinstance(sys.stderr, Gone)


SCRIPTED = """
import sys
from mlx_kstt.cli.delivery import complain
from mlx_kstt.cli.live import open_display
from mlx_kstt.events import EndOfTurn, Word
from mlx_kstt.live.status import Status
display = open_display("txt", plain=False, timestamps=False)
display.news("listening")
for at in range(12):
    display.tell([Word(f"word{at}", at, at + 1, 1.0)])
    display.show(Status(at, (-20.0,), 0.0, 0, False, True))
    display.draw()
    if at == 3:
        complain("a message")
display.tell([EndOfTurn(12, "")])
display.close()
print("the end", file=sys.stderr)
"""


LONG_NEWS = """
from mlx_kstt.cli.live import open_display
display = open_display("txt", plain=False, timestamps=False)
display.news("no sound arrives from here: it is silent or muted")
display.close()
"""


def test_a_long_message_breaks_between_words_also_before_anything_is_shown() -> None:
    assert rows_on_a_terminal(LONG_NEWS) == ["mlx_kstt: no sound", "arrives from here: it is", "silent or muted"]


def test_messages_go_above_the_live_screen_on_one_terminal() -> None:
    assert rows_on_a_terminal(SCRIPTED) == [
        "mlx_kstt: a message",
        "word0 word1 word2 word3",
        "word4 word5 word6 word7",
        "word8 word9 word10",
        "word11",
        "the end",
    ]


def rows_on_a_terminal(program: str) -> list[str]:
    """What a program leaves on one of 24 columns."""
    outside, inside = pty.openpty()
    set_size(inside, 10, 24)
    environment = os.environ | {"PYTHONPATH": str(Path(mlx_kstt.__file__).parents[1]), "TERM": "xterm"}
    environment.pop("COLUMNS", None)
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=inside, stdout=inside, stderr=inside, env=environment
    )
    os.close(inside)
    said = bytearray()
    while piece := read_some(outside):
        said += piece
    os.close(outside)
    assert process.wait(30) == 0
    return [row for row in rows_of(said.decode(), 24) if row]


def set_size(terminal: int, rows: int, columns: int) -> None:
    """As termios.tcsetwinsize, which comes with Python 3.11."""

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("4H", rows, columns, 0, 0))


def read_some(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # the other end is closed
        return b""
