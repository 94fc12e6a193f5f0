"""A progress bar on standard error: seconds of audio done, and the speed as a multiple of real time.

In: seconds done. Out: a line that is redrawn, on a terminal only. Knows nothing of audio or models.
"""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Column


class Bar:
    """The bar of one source: `with Bar("talk.wav", 61.5) as bar: bar.update(12.8)`.

    Args:
        title: what is being done.
        duration: seconds in all; None where it is not known.
    """

    def __init__(self, title: str, duration: float | None) -> None:
        self._duration = duration
        self._begin = time.monotonic()
        console = Console(stderr=True)
        name = Column(no_wrap=True, overflow="ellipsis", max_width=console.width // 3)
        self._progress = Progress(
            TextColumn("{task.description}", markup=False, table_column=name),
            BarColumn(),
            TextColumn("{task.fields[state]}", markup=False, table_column=Column(no_wrap=True)),
            console=console,
            disable=not sys.stderr.isatty(),
            redirect_stdout=False,
        )
        self._task = self._progress.add_task(title, total=duration, state="")

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._progress.stop()

    def update(self, done: float) -> None:
        """Show that `done` seconds of audio are done."""
        speed = done / max(time.monotonic() - self._begin, 1e-3)
        whole = "" if self._duration is None else f"/{_clock(self._duration)}"
        self._progress.update(self._task, completed=done, state=f"{_clock(done)}{whole}  {speed:.1f} x real time")


def _clock(seconds: float) -> str:
    """Whole seconds as 3:07 or 1:03:07."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
