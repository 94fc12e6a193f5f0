"""Fixtures that several test files share, and what skipped tests say."""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

import mlx_kstt

# isort: split
import mlx.core as mx
import soundfile

PACKAGE = Path(mlx_kstt.__file__).parent
RECORDINGS = PACKAGE / "bundled" / "recordings"
LONG_RECORDINGS = Path(__file__).parent / "heldout"


@dataclass(frozen=True)
class Recording:
    """A held-out recording with its reference text, and what the reference implementation makes of it."""

    path: Path
    text: str
    reference_text: str
    reference_ids: tuple[int, ...]

    def sound(self) -> np.ndarray:
        """(samples,) float32 at 24 kHz."""
        return soundfile.read(self.path, dtype="float32")[0]


@pytest.fixture(scope="session")
def tiny() -> mlx_kstt.Transcriber:
    """The bundled model, in float32."""
    return mlx_kstt.load("tiny", dtype="float32")


@pytest.fixture(scope="session")
def recordings() -> list[Recording]:
    """The 20 short recordings."""
    with (RECORDINGS / "refs.tsv").open(encoding="utf-8") as file:
        return [
            Recording(
                RECORDINGS / row["file"],
                row["reference"],
                row["transformers_text"],
                tuple(int(id) for id in row["transformers_ids"].split()),
            )
            for row in csv.DictReader(file, delimiter="\t")
        ]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of real weights run where the environment names a checkpoint (folder or hub repo) and a recording."""
    if not {"MLX_KSTT_WEIGHTS", "MLX_KSTT_SPEECH"} <= os.environ.keys():
        reason = "needs a real checkpoint and a recording: set MLX_KSTT_WEIGHTS and MLX_KSTT_SPEECH"
        for item in items:
            if "weights" in item.keywords:
                item.add_marker(pytest.mark.skip(reason=reason))


def pytest_unconfigure() -> None:
    """MLX aborts the process at exit if a thread that used it leaves its streams behind."""
    mx.clear_streams()
