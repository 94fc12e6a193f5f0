"""Loads the random models of layouts.py with mlx_kstt, and listens to what its public face does not tell.

In: a folder and the spec that it was written from. Out: a `Transcriber` in float32. Kyutai's own layouts do not say how
large their codec is, because there is only the released one; here it is told to be as small as the spec's.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from layouts import Spec

import mlx_kstt
from mlx_kstt import Transcriber, foreign_configs
from mlx_kstt.config import FRAME_SAMPLES, MimiConfig, TransformerConfig
from mlx_kstt.mlx_thread import on_mlx_thread

# isort: split
import mlx.core as mx


def load_layout(folder: Path, spec: Spec) -> Transcriber:
    """The model in `folder`, one of the folders that `write_layouts` made of `spec`."""
    with with_codec_of(spec, folder.name):
        return mlx_kstt.load(folder, dtype="float32")


@contextmanager
def with_codec_of(spec: Spec, layout: str) -> Iterator[None]:
    """Within it, a released codec is as small as the spec's, where the layout does not say how large it is."""
    with pytest.MonkeyPatch.context() as patch:
        if "trfs" not in layout:
            patch.setattr(foreign_configs, "MimiConfig", _codec_of(spec))
        yield


@on_mlx_thread
def hear_pauses(stt: Transcriber, pcm: np.ndarray) -> np.ndarray:
    """Pause probabilities (frames + 1, heads) along the greedy text of whole frames (frames * 1920,)."""
    engine = stt._engine
    heard, state = engine.open(rows=1, temperature=0.0, seed=0)
    pauses = [engine.read(heard, state)[0].pauses]
    for start in range(0, len(pcm), FRAME_SAMPLES):
        codes, state = engine.hear(pcm[None, start : start + FRAME_SAMPLES], state)
        heard, state = engine.follow(codes, 0.0, state)
        pauses.append(engine.read(heard, state)[0].pauses)
    return np.array(pauses)


@on_mlx_thread
def encode_frame_by_frame(stt: Transcriber, pcm: np.ndarray) -> np.ndarray:
    """Codes (frames, codebooks) of whole frames (frames * 1920,), in a state that has room for one."""
    codec = stt._engine._codec
    state, codes = codec.init_state(1, 1), []
    for start in range(0, len(pcm), FRAME_SAMPLES):
        step, state = codec.step(mx.array(pcm[start : start + FRAME_SAMPLES])[None, :, None], state)
        codes.append(np.array(step[0]))
    return np.concatenate(codes)


def _codec_of(spec: Spec) -> partial[MimiConfig]:
    """What takes the place of the released codec."""
    codec = spec.codec
    transformer = TransformerConfig(
        dim=codec.dim,
        layers=codec.layers,
        heads=codec.heads,
        head_dim=codec.head_dim,
        ffn=codec.ffn,
        context=codec.context,
        rope_base=10_000.0,
        norm_eps=1e-5,
    )
    return partial(
        MimiConfig,
        transformer=transformer,
        codebook_size=spec.card,
        codebook_dim=codec.codebook_dim,
        filters=codec.filters,
    )
