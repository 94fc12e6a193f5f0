"""The one thread of the process that loads, compiles and steps.

MLX binds its streams and compile caches to threads; whatever thread calls this package, the work happens here. The
caller waits and can be interrupted (Ctrl-C, cancellation) while the work in hand is finished.
"""

from __future__ import annotations

import atexit
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial, wraps
from queue import SimpleQueue
from threading import Lock, Thread, current_thread
from typing import Any, ParamSpec, TypeVar

import mlx.core as mx

P = ParamSpec("P")
R = TypeVar("R")


class _MlxThread:
    """Runs what it is given, in the order given. Starts with the first work, ends with the process."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = SimpleQueue()
        self._thread = Thread(target=self._work, name="mlx_kstt", daemon=True)
        self._starting = Lock()

    def submit(self, function: Callable[[], R]) -> Future[R]:
        with self._starting:
            if self._thread.ident is None:
                self._thread.start()
                atexit.register(self._stop)
        future: Future[R] = Future()
        self._queue.put((future, function))
        return future

    def is_current(self) -> bool:
        return current_thread() is self._thread

    def _work(self) -> None:
        while (work := self._queue.get()) is not None:
            future, function = work
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(function())
                except BaseException as error:  # it belongs to the caller
                    future.set_exception(error)
            del work, future, function  # they may hold states, which would be copied instead of written in place
        # MLX aborts the process at exit if a thread leaves its streams behind (ml-explore/mlx#4110).
        mx.clear_streams()

    def _stop(self) -> None:
        self._queue.put(None)
        self._thread.join()


_thread = _MlxThread()


def on_mlx_thread(function: Callable[P, R]) -> Callable[P, R]:
    """The function, run on the MLX thread. Arguments and results must hold no lazy arrays."""

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if _thread.is_current():
            return function(*args, **kwargs)
        future = _thread.submit(partial(function, *args, **kwargs))
        try:
            return future.result()
        finally:
            future.cancel()  # an interrupted caller must leave nothing in the queue

    return call
