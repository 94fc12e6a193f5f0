"""The command line with a model that only tells how much it has heard.

In: arguments of the command line. Out: its exit status. For tests of everything around the model; as a program, for
those that need a process of their own.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

import mlx_kstt
from mlx_kstt.audio import Audio
from mlx_kstt.cli import main
from mlx_kstt.events import Word
from mlx_kstt.outputs import Transcript


class FakeTranscriber:
    """Hears "heard 0.50 s" in half a second of anything."""

    def transcribe(
        self, source: Audio, *, temperature: float, seed: int, lanes: Sequence[str], progress: Callable[[float], None]
    ) -> Transcript:
        samples = 0
        with source:
            for block in source.blocks():
                samples += len(block)
                progress(source.seconds_read)
            seconds = samples / 24_000
            texts = ("heard", f"{seconds:.2f}", "s")
            words = tuple(Word(text, 0.08 * at, 0.08 * at + 0.08, 0.75) for at, text in enumerate(texts))
            return Transcript(words, seconds, source.warning)


def fake_load(model: str, **options: Any) -> FakeTranscriber:
    return FakeTranscriber()


if __name__ == "__main__":
    mlx_kstt.load = fake_load  # type: ignore[assignment]
    sys.exit(main())
