"""The one thread of the process that loads, compiles and steps.

MLX binds its streams and compile caches to threads; whatever thread calls this package, the work happens here. The
caller waits and can be interrupted (Ctrl-C, cancellation); long work looks whether anybody still waits for it.
"""

from __future__ import annotations

import atexit
import os
import signal
from asyncio import wrap_future
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from queue import SimpleQueue
from threading import Lock, Thread, current_thread, main_thread
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx

from .errors import KsttError

P = ParamSpec("P")
R = TypeVar("R")


class _Job:
    """One piece of work, and whether anybody still waits for it."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function: Callable[[], Any] | None = function
        self.future: Future[Any] = Future()
        self.abandoned = False


class _MlxThread:
    """Runs what it is given, in the order given. Starts with the first work, ends with the process."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="mlx_kstt", daemon=True)
        self._lock = Lock()
        self._current: _Job | None = None
        self._usable = True

    def run(self, function: Callable[[], R]) -> R:
        """The function's result, or its exception. An interrupted caller leaves nothing in the queue."""
        if current_thread() is self._thread:
            return function()
        job = _Job(function)
        try:
            self._submit(job)
            return job.future.result()
        finally:
            job.abandoned = True
            job.future.cancel()
            del job  # a failed one would live on in the traceback of its own exception

    async def run_async(self, function: Callable[[], R]) -> R:
        """The same for a caller in an event loop, which goes on meanwhile. A cancelled caller leaves nothing behind."""
        job = _Job(function)
        try:
            self._submit(job)
            return await wrap_future(job.future)
        finally:
            job.abandoned = True
            job.future.cancel()
            del job

    def is_abandoned(self) -> bool:
        """Whether nobody waits for the work in hand."""
        return not self._usable or (self._current is not None and self._current.abandoned)

    def _submit(self, job: _Job) -> None:
        with self._lock:
            if not self._usable:
                raise KsttError("MLX does not survive a fork or the end of the process: start processes with spawn")
            if self._thread.ident is None:
                atexit.register(self._stop)
                os.register_at_fork(after_in_child=self._disable)
                self._thread.start()
            self._queue.put(job)

    def _work(self) -> None:
        while (job := self._queue.get()) is not None:
            self._current = job
            if job.future.set_running_or_notify_cancel():
                self._do(job)
            self._current = job = None
        # MLX aborts the process at exit if a thread leaves its streams behind (ml-explore/mlx#4110).
        mx.clear_streams()

    def _do(self, job: _Job) -> None:
        # The job must not hold its function longer than needed: states in it would be copied, not written in place.
        function, job.function = job.function, None
        assert function is not None
        try:
            job.future.set_result(function())
        except BaseException as error:  # it belongs to the caller
            job.future.set_exception(error)

    def _disable(self) -> None:
        self._usable = False

    def _stop(self) -> None:
        """At exit. Interrupting the wait would tear MLX down under the running work; that ends within a block."""
        if current_thread() is main_thread():
            signal.signal(signal.SIGINT, signal.SIG_IGN)
        with self._lock:
            self._disable()
            self._queue.put(None)
        self._thread.join()


_thread = _MlxThread()


def is_abandoned() -> bool:
    """Whether the caller of the work in hand was interrupted, or the process ends: long work then stops early."""
    return _thread.is_abandoned()


def stop_if_abandoned() -> None:
    """Leave long work that nobody waits for.

    Raises:
        InterruptedError: the caller has gone, or the process ends.
    """
    if is_abandoned():
        raise InterruptedError("the caller has gone")


async def wait_for_mlx(function: Callable[[], R]) -> R:
    """The function's result, run on the MLX thread while the caller's event loop goes on.

    A public method of this package may be the function: on the MLX thread it runs where it is called.
    """
    return await _thread.run_async(function)


def on_mlx_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run on the MLX thread. Arguments and results must hold no lazy arrays."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return _thread.run(partial(function, *args, **kwargs))

    return call
