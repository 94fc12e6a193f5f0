"""Recordings to measure models with.

In: files, and what was said in them where that is known. Out: sound in whole frames with the silence around it that
`transcribe` adds, shortened to what there is time for. Knows nothing of models but their delay and prefix.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path

import numpy as np

from .audio import open_audio
from .config import FRAME_RATE, FRAME_SAMPLES, SAMPLE_RATE, SttConfig
from .errors import OptionError
from .stream import TAIL

LEAST_SECONDS = 2.0
"""Audio below which nothing is shortened."""

_BUNDLED = Path(__file__).parent / "bundled" / "recordings"
_DEFAULT_SAMPLES = 7  # as many as last up to 30 s


@dataclass(frozen=True, slots=True)
class Sample:
    """A recording, and its reference text where one is known."""

    path: Path
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Excerpt:
    """What is heard of a recording.

    Attributes:
        sound: (frames * 1920,) float32 at 24 kHz, silence included.
        audio: the samples of the recording itself; `stop` may lie beyond the sound.
        text: what is said in it; None where that is unknown, as it is of a part of a recording.
    """

    sound: np.ndarray
    audio: slice
    text: str | None

    @property
    def frames(self) -> int:
        """Of 80 ms."""
        return len(self.sound) // FRAME_SAMPLES

    @property
    def seconds(self) -> float:
        """Of the recording itself."""
        return len(self.sound[self.audio]) / SAMPLE_RATE

    def first(self, frames: int) -> Excerpt:
        """The same, or its first frames."""
        return self if frames >= self.frames else replace(self, sound=self.sound[: frames * FRAME_SAMPLES], text=None)


def default_samples() -> tuple[Sample, ...]:
    """The first bundled recordings, 28 s in all: synthetic English speech."""
    with (_BUNDLED / "refs.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t"))[:_DEFAULT_SAMPLES]
    return tuple(Sample(_BUNDLED / row["file"], row["reference"]) for row in rows)


def find_sample(path: Path) -> Sample:
    """The recording, with the text of the file of the same name that ends in .txt if there is one beside it."""
    text = path.with_suffix(".txt")
    return Sample(path, text.read_text("utf-8", errors="replace") if text.is_file() else None)


def read_excerpts(samples: Sequence[Sample], config: SttConfig, frames: float = inf) -> Iterator[Excerpt]:
    """The recordings one after the other. What lies beyond `frames` frames of each may be left out.

    Raises:
        AudioError: a file cannot be read.
        OptionError: there is no recording.
    """
    if not samples:
        raise OptionError("there is no recording to measure with: name at least one")
    longest = max(frames, _least_frames(config, 0.0)) * FRAME_SAMPLES
    return (_read(sample, config, longest) for sample in samples)


def shortened(
    excerpts: Iterable[Excerpt], config: SttConfig, frames: float, on_cut: Callable[[float], None]
) -> list[Excerpt]:
    """The first of the excerpts, `frames` frames in all at most, but never below 2 s of audio.

    Args:
        excerpts: read one by one, and no further than needed.
        config: of the model that hears them.
        frames: that there is time for.
        on_cut: called with the seconds of audio that are left, where anything is left out.
    """
    kept: list[Excerpt] = []
    for excerpt in excerpts:
        left = frames - sum(x.frames for x in kept)
        left = int(min(excerpt.frames, max(left, _least_frames(config, sum(x.seconds for x in kept)))))
        if left > 0:
            kept.append(excerpt.first(left))
        if left < excerpt.frames:
            on_cut(sum(x.seconds for x in kept))
            break
    return kept


def _least_frames(config: SttConfig, seconds: float) -> int:
    """Frames of the next excerpt that bring `seconds` of audio to the least that is worth measuring; then 0."""
    if seconds >= LEAST_SECONDS:
        return 0
    return ceil((LEAST_SECONDS - seconds + config.prefix + config.delay + TAIL) * FRAME_RATE)


def _read(sample: Sample, config: SttConfig, samples: float) -> Excerpt:
    before = np.zeros(int(config.prefix * SAMPLE_RATE), np.float32)
    sound = np.concatenate([before, *_blocks(sample.path, samples)])
    after = int((config.delay + TAIL) * SAMPLE_RATE)
    after += -(len(sound) + after) % FRAME_SAMPLES
    return Excerpt(np.pad(sound, (0, after)), slice(len(before), len(sound)), sample.text)


def _blocks(path: Path, samples: float) -> Iterator[np.ndarray]:
    """The file up to more than so many samples."""
    with open_audio(path) as audio:
        for block in audio.blocks():
            yield block
            samples -= len(block)
            if samples < 0:
                break
