"""`python -m mlx_kstt mic` on a real audio path: recordings are played into a sound server, and come out as words.

Skipped where the sound server, its ALSA plugin or PortAudio is missing; `.ci/run` installs them.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from difflib import SequenceMatcher
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS, Recording
from pulse import Line, Program, SoundServer, missing, wait_until
from test_tiny import errors

from mlx_kstt import EndOfTurn, Gap, Partial, Pause, Word
from mlx_kstt.events import Refresh
from mlx_kstt.live.past_sessions import read_journal

SINKS = {"mono48": (48_000, 1), "mono44": (44_100, 1), "mono16": (16_000, 1), "stereo": (48_000, 2)}
TYPES = {"word": Word, "partial": Partial, "pause": Pause, "end_of_turn": EndOfTurn, "gap": Gap, "refresh": Refresh}
FRAME = 0.08
WRONG = 0.10
"""Word error rate that is allowed."""
WRONG_IN_A_LANE = 0.25
"""The same for 25 words, where chance counts more: the words of the other lane would make it 1."""
AFTER = 1.5
"""Seconds from the end of a recording to Ctrl-C: the last word's end has been recorded by then."""
KILLED = 10
"""Sessions that are killed in each of two rounds."""

pytestmark = pytest.mark.skipif(missing() is not None, reason=missing() or "")


@pytest.fixture(scope="module", autouse=True)
def ctrl_c_is_heard() -> Iterator[None]:
    """What a shell runs in the background ignores it, and so would the programs that are started here."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SoundServer]:
    with SoundServer(tmp_path_factory.mktemp("p"), SINKS) as running:
        yield running


def command(*arguments: str | Path) -> list[str]:
    return [sys.executable, "-m", "mlx_kstt", *map(str, arguments)]


def mic(server: SoundServer, sink: str, *options: str | Path) -> Program:
    """A session that listens to the sink."""
    return Program(command("mic", "--model", "tiny", *options), server.environment(sink))


def has_recorders(server: SoundServer, sink: str, count: int = 1) -> float:
    """Wait until so many sessions record. Returns when (monotonic)."""
    return wait_until(lambda: server.recorders(sink) >= count, f"{count} sessions record from {sink}")


def checked(lines: Sequence[Line]) -> list[dict[str, Any]]:
    """The events of jsonl lines, each of which must be whole, of a known type, and have the type's fields."""
    events = []
    for line in lines:
        assert line.text.endswith("}\n"), "a line that was not written at once"
        event = json.loads(line.text)
        expected = {field.name for field in fields(TYPES[event["type"]])}
        assert event.keys() | {"lane"} == expected | {"type"}, line.text
        for name in event.keys() & {"start", "end", "time", "confidence"}:
            assert event[name] >= 0, line.text
        for name in event.keys() & {"text", "reason", "lane"}:
            assert isinstance(event[name], str) and event[name], line.text
        events.append(event)
    return events


def words(events: Sequence[dict[str, Any]], lane: str | None = None) -> list[dict[str, Any]]:
    """The words of a lane by time; a later one with the same start replaces the earlier."""
    said = [event for event in events if event["type"] == "word" and event.get("lane") == lane]
    return sorted({word["start"]: word for word in said}.values(), key=lambda word: word["start"])


def texts(found: Sequence[dict[str, Any]]) -> list[str]:
    return [word["text"] for word in found]


def wrong_words(played: Sequence[Recording], heard: list[str]) -> float:
    """The error rate against what was said."""
    said = " ".join(recording.text for recording in played).split()
    return errors(said, heard) / len(said)


@dataclass(frozen=True)
class Session:
    """A session that has ended: what was played to it, and what it left."""

    played: list[Recording]
    status: int
    lines: list[Line]
    messages: str
    interrupted: float  # monotonic
    saved: Path


def run_session(server: SoundServer, sink: str, played: list[Recording], folder: Path, *options: str) -> Session:
    """Play the recordings one after another, and press Ctrl-C."""
    saved = folder / f"{sink}.wav"
    with mic(server, sink, "--format", "jsonl", "--save-audio", saved, *options) as program:
        has_recorders(server, sink)
        for recording in played:
            server.play(recording.path, sink)
        time.sleep(AFTER)
        interrupted = time.monotonic()
        program.interrupt()
        return Session(played, program.wait(), program.output, program.said, interrupted, saved)


@pytest.fixture(scope="module")
def sessions(
    server: SoundServer, recordings: list[Recording], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Session]:
    """A session at each rate, all at the same time.

    What the tiny model hears depends on where the frames happen to fall: in 45 trials of each choice 0 to 6 of 84 words
    were wrong.
    """
    folder = tmp_path_factory.mktemp("sessions")
    choices = {"mono48": recordings[:10], "mono44": recordings[::2], "mono16": recordings[:10]}
    options = {"mono48": [], "mono44": ["--device", "pulse"], "mono16": ["--device", "PULS"]}
    with ThreadPoolExecutor() as pool:
        futures = {
            sink: pool.submit(run_session, server, sink, played, folder, *options[sink])
            for sink, played in choices.items()
        }
        return {sink: future.result() for sink, future in futures.items()}


@pytest.mark.parametrize("sink", ["mono48", "mono44", "mono16"])
def test_at_most_one_word_in_ten_is_wrong_at_any_rate(sessions: dict[str, Session], sink: str, capsys) -> None:
    session = sessions[sink]
    heard = texts(words(checked(session.lines)))
    with capsys.disabled():
        print(f"\nmic at {SINKS[sink][0]} Hz: {100 * wrong_words(session.played, heard):.1f} % of words wrong")
    assert wrong_words(session.played, heard) <= WRONG, " ".join(heard)


@pytest.mark.parametrize("sink", ["mono48", "mono44", "mono16"])
def test_the_saved_sound_gives_exactly_the_live_words(sessions: dict[str, Session], sink: str, tiny) -> None:
    session = sessions[sink]
    live = words(checked(session.lines))
    again = tiny.transcribe(session.saved).words
    assert texts(live) == [word.text for word in again]
    for name in ("start", "end"):
        assert [word[name] for word in live] == pytest.approx([getattr(word, name) for word in again], abs=0.001)


@pytest.mark.parametrize("sink", ["mono48", "mono44", "mono16"])
def test_ctrl_c_ends_a_session_well(sessions: dict[str, Session], sink: str) -> None:
    session = sessions[sink]
    assert session.status == 0, session.messages
    assert "Traceback" not in session.messages
    assert session.played[-1].reference_text.split()[-1] in texts(words(checked(session.lines)))[-2:]


def test_events_come_as_they_happen_and_in_order(sessions: dict[str, Session]) -> None:
    session = sessions["mono48"]
    events = checked(session.lines)
    starts = [event["start"] for event in events if event["type"] == "word"]
    assert all(before <= after for before, after in pairwise(starts)), "a word goes back in time"
    assert {"word", "partial", "pause", "end_of_turn"} <= {event["type"] for event in events}
    lost = sum(event["end"] - event["start"] for event in events if event["type"] == "gap")
    assert lost < 4, "more than a busy machine explains, which may stand still for a moment"
    came = {event["start"]: line.time for event, line in zip(events, session.lines, strict=True) if "start" in event}
    live = [(start, at) for start, at in came.items() if at < session.interrupted]
    begin = median(at - start for start, at in live)
    assert len(live) > 50
    late = [at - start - begin for start, at in live]
    assert np.percentile(late, 90) < 1, "words come long after they were said"


def test_the_last_word_comes_even_if_its_sound_has_only_just_ended(
    server: SoundServer, recordings: list[Recording], tmp_path: Path
) -> None:
    """Ctrl-C within the model's delay, where the last word is not decoded yet."""
    sound = recordings[1].sound()
    spoken = sound[: int(np.flatnonzero(np.abs(sound) > 0.02)[-1]) + 2400]
    soundfile.write(tmp_path / "cut.wav", spoken, 24_000)
    with mic(server, "mono48", "--format", "txt") as program:
        has_recorders(server, "mono48")
        server.play(tmp_path / "cut.wav", "mono48")
        program.interrupt()
        assert program.wait() == 0, program.said
    said = " ".join(line.text.strip() for line in program.output)
    assert said.split()[-1] == "door"
    assert errors(recordings[1].text.split(), said.split()) <= 1, said


def test_a_sound_server_that_dies_and_comes_back(
    server: SoundServer, recordings: list[Recording], tmp_path: Path, tiny
) -> None:
    before, after = recordings[2], recordings[3]
    with mic(server, "mono48", "--format", "jsonl", "--save-audio", tmp_path / "saved.wav") as program:
        began = has_recorders(server, "mono48")
        played_before = server.play(before.path, "mono48")
        killed = time.monotonic()
        server.kill()
        time.sleep(2)
        server.start()
        back = has_recorders(server, "mono48")
        played_after = server.play(after.path, "mono48")
        time.sleep(AFTER)
        program.interrupt()
        assert program.wait() == 0, program.said
    events = checked(program.output)
    (gap,) = [event for event in events if event["type"] == "gap"]
    print(f"away for {back - killed:.2f} s, from {killed - began:.2f} s on; told: {gap}")
    assert gap["end"] - gap["start"] == pytest.approx(back - killed, abs=0.5), program.said
    assert gap["start"] == pytest.approx(killed - began, abs=0.5)
    first = [word for word in words(events) if word["start"] < gap["start"]]
    second = [word for word in words(events) if word["start"] >= gap["start"]]
    zero_before = session_zero(first, before, played_before, tiny)
    zero_after = session_zero(second, after, played_after, tiny)
    print(f"words: the clock began at {zero_before - began:.2f} s, and moved by {zero_after - zero_before:.2f} s")
    assert zero_before == pytest.approx(began, abs=0.5)
    assert zero_after == pytest.approx(zero_before, abs=0.3), "the clock went wrong in the gap"
    assert min(word["start"] for word in second) >= gap["end"] - FRAME
    sound = soundfile.read(tmp_path / "saved.wav", dtype="float32")[0]
    between = (place(after.sound(), sound) - place(before.sound(), sound)) / 24_000
    print(f"sound: {between:.3f} s after {played_after - played_before:.3f} s")
    assert between == pytest.approx(played_after - played_before, abs=0.2), "the gap has another length in the file"


def session_zero(found: Sequence[dict[str, Any]], recording: Recording, played: float, tiny) -> float:
    """When the session's clock was 0, by the words of a recording that was played at a known time."""
    expected = tiny.transcribe(recording.path).words
    blocks = SequenceMatcher(None, [word.text for word in expected], texts(found), autojunk=False).get_matching_blocks()
    zeros = [
        played + expected[block.a + i].start - found[block.b + i]["start"]
        for block in blocks
        for i in range(block.size)
    ]
    assert len(zeros) >= len(expected) - 1, texts(found)
    return median(zeros)


@pytest.mark.parametrize("round", [1, 2])
def test_nothing_that_was_shown_or_recorded_is_lost_by_kill_9(server: SoundServer, tmp_path: Path, round: int) -> None:
    """Several sessions at once, each killed at a random moment of a long recording."""
    speech = LONG_RECORDINGS / "long_en-us.flac"
    files = [(tmp_path / f"{i}.wav", tmp_path / f"{i}.journal") for i in range(KILLED)]
    with contextlib.ExitStack() as stack:
        programs = [
            stack.enter_context(mic(server, "mono48", "--format", "jsonl", "--save-audio", wav, "--journal", journal))
            for wav, journal in files
        ]
        has_recorders(server, "mono48", KILLED)
        played = time.monotonic()
        with server.play_in_background(speech, "mono48") as playing:
            moments = sorted(played + random.uniform(3, 10) for _ in programs)
            deaths = [kill_at(moment, program) for moment, program in zip(moments, programs, strict=True)]
            playing.kill()
    for (wav, journal), program, death in zip(files, programs, deaths, strict=True):
        assert_recorded(wav, speech, death - played)
        shown = words(checked(program.output))
        assert shown, "killed before a word was shown"
        assert_journalled(journal, shown)


def kill_at(moment: float, program: Program) -> float:
    """Returns when it was really killed."""
    time.sleep(max(0.0, moment - time.monotonic()))
    return program.kill()


def assert_recorded(wav: Path, speech: Path, seconds: float) -> None:
    """The file holds what was played in these seconds, but for the last one at most."""
    sound, rate = soundfile.read(wav, dtype="float32")
    original = soundfile.read(speech, dtype="float32")[0]
    lag = first_sound(sound) - first_sound(original)
    print(f"{wav.name}: of {seconds:.2f} s, {(len(sound) - lag) / rate:.2f} s are there")
    assert rate == 24_000
    assert (len(sound) - lag) / rate >= seconds - 1, "more than a second is lost"
    kept = sound[max(lag, 0) :][: int(seconds * rate)]
    assert similarity(kept, original) > 0.9


def first_sound(sound: np.ndarray) -> int:
    return int(np.flatnonzero(np.abs(sound) > 0.01)[0])


def similarity(sound: np.ndarray, original: np.ndarray) -> float:
    """The correlation with the part of the original that is most like it."""
    part = original[place(sound, original) :][: len(sound)]
    return float(np.corrcoef(sound[: len(part)], part)[0, 1])


def place(part: np.ndarray, whole: np.ndarray) -> int:
    """Where (in samples) the part is in the whole."""
    size = 1 << (len(part) + len(whole)).bit_length()
    return int(np.argmax(np.fft.irfft(np.fft.rfft(whole, size) * np.conj(np.fft.rfft(part, size)), size)))


def assert_journalled(journal: Path, shown: Sequence[dict[str, Any]]) -> None:
    """The journal is whole, and has every word that was shown."""
    kept = {event.start: event for event in read_journal(journal) if isinstance(event, Word)}
    for word in shown:
        assert kept[word["start"]].text == word["text"]
        assert kept[word["start"]].end == word["end"]


def test_a_second_ctrl_c_ends_a_session_at_once(server: SoundServer, recordings: list[Recording]) -> None:
    """The first one waits for a reader of the output who never reads."""
    unread, full = full_pipe()
    arguments = command("mic", "--model", "tiny", "--format", "jsonl", "--device", "pulse")
    environment = server.environment("mono48")
    with subprocess.Popen(arguments, env=environment, stdout=full, stderr=subprocess.PIPE, text=True) as process:
        has_recorders(server, "mono48")
        server.play(recordings[1].path, "mono48")
        time.sleep(0.5)
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1)
        pressed = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=20)[1]
    assert time.monotonic() - pressed < 1
    assert process.returncode == 130
    assert "Traceback" not in said
    os.close(unread)
    os.close(full)


def full_pipe() -> tuple[int, int]:
    """Both ends of a pipe that takes no more."""
    source, sink = os.pipe()
    os.set_blocking(sink, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(sink, b"\n" * 4096)
    os.set_blocking(sink, True)
    return source, sink


def run(arguments: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60)


def test_a_device_that_does_not_exist_is_said_in_one_sentence(server: SoundServer) -> None:
    result = run(command("mic", "--model", "tiny", "--device", "no such device"), server.environment("mono48"))
    assert result.returncode in (1, 2)
    assert result.stdout == ""
    (sentence,) = [line for line in result.stderr.splitlines() if "demonstration model" not in line]
    assert "'no such device'" in sentence and "pulse" in sentence


def test_without_a_sound_server_there_is_no_device(server: SoundServer) -> None:
    environment = server.environment("mono48") | {"PULSE_SERVER": "unix:/nowhere"}
    result = run(command("mic", "--model", "tiny"), environment)
    assert result.returncode in (1, 2)
    assert "mlx_kstt: there is no sound input: " in result.stderr
    assert "Traceback" not in result.stderr


def test_devices_are_listed_with_the_default_marked(server: SoundServer) -> None:
    result = run(command("devices"), server.environment("mono48"))
    assert result.returncode == 0, result.stderr
    lines = result.stdout.splitlines()
    assert [line for line in lines if "pulse" in line]
    assert [line for line in lines if "default" in line]


def test_two_channels_are_two_speakers(server: SoundServer, recordings: list[Recording], tmp_path: Path, tiny) -> None:
    """Each lane has the words of its own channel, and only those."""
    left, right = recordings[1:4], recordings[10:13]
    sounds = [np.concatenate([recording.sound() for recording in side]) for side in (left, right)]
    both = np.zeros((max(map(len, sounds)), 2), np.float32)
    for channel, sound in enumerate(sounds):
        both[: len(sound), channel] = sound
    soundfile.write(tmp_path / "both.wav", both, 24_000)
    saved = tmp_path / "saved.wav"
    options = ("--speakers", "left=Ann,right=Bob", "--format", "jsonl", "--save-audio", saved)
    with mic(server, "stereo", *options) as program:
        has_recorders(server, "stereo")
        server.play(tmp_path / "both.wav", "stereo")
        time.sleep(AFTER)
        program.interrupt()
        assert program.wait() == 0, program.said
    events = checked(program.output)
    assert {event["lane"] for event in events} == {"Ann", "Bob"}
    for channel, (lane, side) in enumerate({"Ann": left, "Bob": right}.items()):
        heard = words(events, lane)
        assert wrong_words(side, texts(heard)) <= WRONG_IN_A_LANE, " ".join(texts(heard))
        assert texts(heard) == [word.text for word in tiny.transcribe(saved, channel=channel).words]
