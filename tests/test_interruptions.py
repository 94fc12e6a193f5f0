"""A stream stays right or says that it is not: whatever breaks off, whoever interrupts, from whatever thread."""

from __future__ import annotations

import subprocess
import sys
import threading
from math import ceil
from typing import Any

import numpy as np
import pytest
import soundfile
from conftest import LONG_RECORDINGS

import mlx_kstt
from mlx_kstt import Word

LONG = LONG_RECORDINGS / "long_en-us.flac"


def run(program: str, timeout: float = 60) -> str:
    """Standard output of a program in a process of its own, which must end well and quietly."""
    command = [sys.executable, "-c", program, str(LONG)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert (result.returncode, result.stderr) == (0, "")
    return result.stdout


def test_an_error_in_the_middle_of_a_push_closes_the_stream(recordings, monkeypatch: pytest.MonkeyPatch) -> None:
    stt = mlx_kstt.load("tiny")
    stream, read, calls = stt.open(), stt._engine.read, 0

    def fail_once(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 30:
            raise MemoryError("no more")
        return read(*args)

    monkeypatch.setattr(stt._engine, "read", fail_once)
    sound = recordings[0].sound()
    with pytest.raises(MemoryError):
        stream.push(sound)
    with pytest.raises(mlx_kstt.StreamClosedError, match="or has broken off"):
        stream.push(sound)
    heard = [event.text for event in stream.flush() if isinstance(event, Word)]
    assert heard == recordings[0].reference_text.split()[: len(heard)], "what was said before it broke off"
    with pytest.raises(mlx_kstt.StreamClosedError, match="or has broken off"):
        stream.flush()
    stream.reset()
    events = stream.push(sound) + stream.flush()
    assert " ".join(e.text for e in events if isinstance(e, Word)) == recordings[0].reference_text


def test_what_an_interrupted_push_has_not_said_comes_later() -> None:
    """Ctrl-C while a minute of speech is pushed: no sound and no word is lost."""
    said = run("""
import os, signal, sys, threading, mlx_kstt, numpy as np, soundfile
sound = soundfile.read(sys.argv[1], dtype="float32")[0]
stream = mlx_kstt.load("tiny").open()
threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
events = []
try:
    events += stream.push(sound)
except KeyboardInterrupt:
    print("interrupted")
left = stream.snapshot().incoming.samples / 24000
events += stream.push(np.zeros(0, np.float32)) + stream.flush()
print(left > 1)
print(*(event.text for event in events if isinstance(event, mlx_kstt.Word)))
""")
    assert said == f"interrupted\nTrue\n{LONG.with_suffix('.txt').read_text('utf-8').strip()}\n"


INTERRUPTED = """
import os, signal, sys, threading, mlx_kstt, numpy as np, soundfile
sound = soundfile.read(sys.argv[1], dtype="float32")[0]
stream = mlx_kstt.load("tiny").open()
def interrupt_in(seconds, work):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
    try:
        return work()
    except KeyboardInterrupt:
        print("interrupted")
        return []
def tell(events):
    print(*(event.text for event in events if isinstance(event, mlx_kstt.Word)))
"""
ALL = LONG.with_suffix(".txt").read_text("utf-8").strip()


def test_an_interrupted_flush_goes_on_when_it_is_called_again() -> None:
    said = run(f"""{INTERRUPTED}
events = interrupt_in(0.3, lambda: stream.push(sound))
events += interrupt_in(0.3, stream.flush)
events += stream.flush()
tell(events)
try:
    stream.flush()
except mlx_kstt.StreamClosedError:
    print("closed")
""")
    assert said == f"interrupted\ninterrupted\n{ALL}\nclosed\n"


def test_a_snapshot_and_a_fork_after_an_interruption_hold_what_is_untold() -> None:
    said = run(f"""{INTERRUPTED}
interrupt_in(0.3, lambda: stream.push(sound))
mark, branch = stream.snapshot(), stream.fork()
tell(branch.flush())
stream.flush()
stream.restore(mark)
tell(stream.flush())
""")
    assert said == f"interrupted\n{ALL}\n{ALL}\n"


def test_a_push_that_was_interrupted_in_the_queue_is_heard_later() -> None:
    said = run(f"""{INTERRUPTED}
from mlx_kstt.mlx_thread import on_mlx_thread
release = threading.Event()
threading.Thread(target=on_mlx_thread(release.wait)).start()
events = interrupt_in(0.3, lambda: stream.push(sound[:480000]))
release.set()
events += stream.push(sound[480000:]) + stream.flush()
tell(events)
""")
    assert said == f"interrupted\n{ALL}\n"


@pytest.mark.parametrize("work", ["stt.open().push(sound)", "stt.encode(sound)", "stt.generate(sound)"])
def test_an_interrupted_process_ends_at_once(work: str) -> None:
    """Minutes of work are left; the work in hand is a block or a frame."""
    assert (
        run(f"""
import os, signal, sys, threading, time, mlx_kstt, numpy as np, soundfile
sound = np.tile(soundfile.read(sys.argv[1], dtype="float32")[0], 60)
stt = mlx_kstt.load("tiny")
threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
try:
    {work}
except KeyboardInterrupt:
    begin = time.monotonic()
    stt.open()
    print(time.monotonic() - begin < 5)
""")
        == "True\n"
    )


def test_a_snapshot_taken_during_a_push_is_whole(tiny) -> None:
    sound = soundfile.read(LONG, dtype="float32")[0][: 24_000 * 12]
    stream = tiny.open()
    pushing = threading.Thread(target=stream.push, args=(sound,))
    pushing.start()
    marks = [stream.snapshot() for _ in range(20)]
    pushing.join()
    for mark in marks:
        assert mark.rows.lanes[0].words.position == mark.rows.engine.positions == mark.rows.engine.frames + 1
    assert stream.snapshot().rows.engine.frames == len(sound) // 1920


def test_a_forked_process_is_told_to_spawn() -> None:
    said = run("""
import os, sys, warnings, mlx_kstt, numpy as np
warnings.simplefilter("ignore")
stt = mlx_kstt.load("tiny")
child = os.fork()
if not child:
    try:
        stt.encode(np.zeros(1920, np.float32))
    except mlx_kstt.KsttError as error:
        print(error, flush=True)
    os._exit(0)
os.waitpid(child, 0)
""")
    assert said == "MLX does not survive a fork or the end of the process: start processes with spawn\n"


@pytest.mark.parametrize("samples", [0, 1, 1919, 1920, 1921, 24_000])
@pytest.mark.parametrize(("delay", "prefix"), [(0.5, 0.0), (2.5, 1.0)])
def test_flush_hears_delay_and_one_second_in_whole_frames(samples: int, delay: float, prefix: float) -> None:
    stream = mlx_kstt.load("tiny", delay=delay, prefix=prefix).open()
    assert stream.snapshot().rows.engine.frames == int(prefix * 24_000) // 1920
    stream.push(np.zeros(samples, np.float32))
    stream.flush()
    heard = ceil((int(prefix * 24_000) + samples + (delay + 1.0) * 24_000) / 1920)
    assert stream.snapshot().rows.engine.frames == heard


def test_the_prefix_is_heard_and_subtracted(tiny, recordings) -> None:
    sound = recordings[19].sound()
    silence = np.zeros(int(0.8 * 24_000), np.float32)
    moved = tiny.transcribe(np.concatenate([silence, sound])).words
    words = mlx_kstt.load("tiny", prefix=0.8).transcribe(sound).words
    assert [word.text for word in words] == [word.text for word in moved]
    assert [word.start for word in words] == pytest.approx([word.start - 0.8 for word in moved])
