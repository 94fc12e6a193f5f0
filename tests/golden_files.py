"""What make_goldens.py and the tests agree on: sounds, the teacher's text, recordings, the fingerprint of a model.

In: a `Spec` or the name of a recording. Out: NumPy arrays and paths. Knows nothing of torch or mlx_kstt.
"""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path

import numpy as np
import soundfile
from hashed import audio, uniform
from random_models import Spec, codec_tensors, decoder_tensors, pause_head_tensors

FRAME_SAMPLES = 1920
TESTS = Path(__file__).parent
GOLDEN = TESTS / "golden"
TINY_RECORDINGS = {"00_en-us": 1, "06_en-us+f4": 1, "long_en+m5": 8}
"""Recordings that the tiny model is judged on, and of which positions the logits are kept: each, or every eighth."""
_RECORDING_FOLDERS = (TESTS.parent / "mlx_kstt" / "bundled" / "recordings", TESTS / "heldout")


def sound(spec: Spec) -> np.ndarray:
    """The sound that the random model of `spec` hears (frames * 1920,) float32."""
    return audio(f"{spec.name} audio", spec.frames, FRAME_SAMPLES)


def teacher_text(spec: Spec) -> np.ndarray:
    """Random ids text_0 .. text_{frames-1} (frames,) int32."""
    return (uniform(f"{spec.name} text", (spec.frames,)) * spec.text_card).astype(np.int32)


def read_recording(name: str) -> np.ndarray:
    """The whole frames of a recording (frames * 1920,) float32."""
    path = next(folder / f"{name}.flac" for folder in _RECORDING_FOLDERS if (folder / f"{name}.flac").exists())
    pcm, rate = soundfile.read(path, dtype="float32")
    assert rate == 24_000 and pcm.ndim == 1
    return pcm[: len(pcm) // FRAME_SAMPLES * FRAME_SAMPLES]


@cache
def golden(name: str) -> dict[str, np.ndarray]:
    """What the reference said to a model: the arrays that make_goldens.py wrote."""
    with np.load(GOLDEN / f"{name}.npz") as stored:
        return dict(stored)


def fingerprint(spec: Spec) -> str:
    """SHA-256 of all values of the random model and of its sound."""
    tensors = decoder_tensors(spec) | codec_tensors(spec) | pause_head_tensors(spec)
    digest = hashlib.sha256()
    for key in sorted(tensors):
        digest.update(tensors[key].tobytes())
    digest.update(sound(spec).tobytes())
    digest.update(teacher_text(spec).tobytes())
    return digest.hexdigest()
