"""Any thread may call: the work is done on one, and an interrupted caller leaves nothing behind."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import mlx_kstt
from mlx_kstt.mlx_thread import on_mlx_thread


def test_many_threads_share_a_model(tiny, recordings) -> None:
    def transcribe(i: int) -> str:
        return tiny.transcribe(recordings[i].path).text

    with ThreadPoolExecutor(6) as pool:
        found = list(pool.map(transcribe, range(12)))
    assert found == [recording.reference_text for recording in recordings[:12]]


def test_a_stream_may_move_from_thread_to_thread(tiny, recordings) -> None:
    sound, stream = recordings[0].sound(), tiny.open()
    events: list[mlx_kstt.Event] = []

    def push(start: int) -> None:
        events.extend(stream.push(sound[start : start + 9600]))

    for start in range(0, len(sound), 9600):
        thread = threading.Thread(target=push, args=(start,))
        thread.start()
        thread.join()
    events += stream.flush()
    assert " ".join(e.text for e in events if isinstance(e, mlx_kstt.Word)) == recordings[0].reference_text


def test_a_model_may_be_loaded_and_used_in_different_threads(recordings) -> None:
    with ThreadPoolExecutor(1) as pool:
        stt = pool.submit(mlx_kstt.load, "tiny").result()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(lambda: stt.transcribe(recordings[1].path).text).result() == recordings[1].reference_text


def test_all_work_happens_on_one_thread_and_nests() -> None:
    outer = on_mlx_thread(lambda: (threading.get_ident(), on_mlx_thread(threading.get_ident)()))
    first, second = outer()
    assert first == second != threading.get_ident()
    assert outer() == (first, first)


def test_an_error_reaches_its_caller_and_the_thread_lives_on() -> None:
    with pytest.raises(ZeroDivisionError):
        on_mlx_thread(lambda: 1 / 0)()
    assert on_mlx_thread(lambda: 1)() == 1


def test_an_interrupted_caller_leaves_no_work_behind() -> None:
    """In a process of its own: Ctrl-C while waiting for work that has not begun."""
    program = """
import os, signal, threading
from mlx_kstt.mlx_thread import on_mlx_thread

begun, release = threading.Event(), threading.Event()
busy = threading.Thread(target=on_mlx_thread(lambda: (begun.set(), release.wait())))
busy.start()
begun.wait()
threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
done = []
try:
    on_mlx_thread(lambda: done.append(1))()
except KeyboardInterrupt:
    print("interrupted")
release.set()
busy.join()
print(on_mlx_thread(lambda: len(done))())
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n0\n", "")


def test_the_process_ends_cleanly_after_compiled_steps() -> None:
    """MLX used to abort at exit where another thread than the main one had compiled."""
    program = """
import mlx_kstt, mlx.core as mx
from mlx_kstt.mlx_thread import on_mlx_thread

@on_mlx_thread
def compute() -> float:
    return mx.compile(lambda x: mx.exp(x) * 2 + mx.sin(x))(mx.zeros(4)).sum().item()

print(compute())
"""
    for _ in range(5):
        result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
        assert (result.returncode, result.stdout, result.stderr) == (0, "8.0\n", "")
