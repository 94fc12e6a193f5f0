"""mlx_kstt against moshi_mlx's decoder, on the -mlx and -candle layouts.

moshi_mlx differs in three things that are allowed for here: it keeps one key more than its context, it runs the
position of frame t-1 when it is given frame t, and it has another rule for the feed-forward width (facts sheet 1.3, 2.4
and 5.3).
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import mlx.core as mx
import numpy as np
import pytest
from agreement import assert_same_logits
from golden_files import golden, sound, teacher_text
from layouts import SPECS, Spec, write_layout
from loading import hear_pauses, load_layout

if TYPE_CHECKING:
    from moshi_mlx.models.lm import Lm

pytestmark = [pytest.mark.oracle, pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.name)]


def test_logits(spec: Spec, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "mlx", spec, "mlx")
    codes, text = golden(spec.name)["codes"].astype(np.int32), teacher_text(spec)
    theirs = teacher_forced(open_lm(folder, spec), codes, text)
    assert_same_logits(load_layout(folder, spec).forward(codes, text), theirs)


def test_tokens(spec: Spec, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "mlx", spec, "mlx")
    codes = golden(spec.name)["codes"].astype(np.int32)
    tokens, _ = greedy(open_lm(folder, spec), codes)
    np.testing.assert_array_equal(load_layout(folder, spec).generate(codes=codes), tokens)


def test_pauses(spec: Spec, tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "candle", spec, "candle")
    _, pauses = greedy(open_lm(folder, spec), golden(spec.name)["codes"].astype(np.int32))
    np.testing.assert_allclose(hear_pauses(load_layout(folder, spec), sound(spec)), pauses, rtol=0, atol=1e-5)


def open_lm(folder: Path, spec: Spec) -> Lm:
    """moshi_mlx's decoder with the weights of a folder, seeing as far as the original."""
    pytest.importorskip("moshi_mlx", reason="install it with `pip install --no-deps moshi_mlx`")
    from moshi_mlx.models.lm import Lm, LmConfig

    config = LmConfig.from_config_dict(json.loads((folder / "config.json").read_text()))
    inner = replace(config.transformer, context=spec.context - 1, dim_feedforward=feedforward_of(spec.ffn))
    lm = Lm(replace(config, transformer=inner))
    weights = str(folder / "model.safetensors")
    if folder.name == "candle":
        lm.load_pytorch_weights(weights, lm.cfg)
    else:
        lm.load_weights(weights)
    return lm


def feedforward_of(width: int) -> int:
    """The `dim_feedforward` of which moshi_mlx takes two thirds, rounded down, as its gated width."""
    return -(-3 * width // 2)


def teacher_forced(lm: Lm, codes: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Logits (frames + 1, vocabulary), position by position."""
    logits: list[np.ndarray] = []
    for text_id, frame in zip([lm.cfg.text_out_vocab_size, *text.tolist()], with_start(lm, codes), strict=True):
        lm._sample(mx.array([[text_id]]), [mx.array([[code]]) for code in frame], keep_in(logits), keep_in(logits))
    return np.concatenate(logits)


def with_start(lm: Lm, codes: np.ndarray) -> list[list[int]]:
    return [[lm.cfg.audio_padding_token] * lm.cfg.audio_codebooks, *codes.tolist()]


def keep_in(logits: list[np.ndarray]) -> Any:
    """A sampler for moshi_mlx that keeps what it is given, and takes the likeliest."""

    def sample(given: mx.array) -> tuple[mx.array, None]:
        logits.append(np.array(given[0]))
        return mx.argmax(given, axis=-1), None

    return sample


def greedy(lm: Lm, codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ids text_0 .. text_frames and the pause probabilities (frames + 1, heads) of moshi_mlx's own loop."""
    from moshi_mlx.models.generate import LmGen
    from moshi_mlx.utils.sampling import Sampler

    loop = LmGen(lm, len(codes) + 1, Sampler(temp=0), Sampler(temp=0))
    tokens, pauses = [], []
    # The call that is given frame t hears frame t-1: one more call hears the last.
    for frame in [*codes, codes[-1]]:
        text, heads = loop.step_with_extra_heads(mx.array(frame)[None])
        tokens.append(text.item())
        pauses.append([head[0, 0, 0].item() for head in heads])
    return np.array(tokens), np.array(pauses)
