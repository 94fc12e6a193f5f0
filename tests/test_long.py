"""Streams without end: memory stays where it was, answers stay right, far positions do no harm."""

from __future__ import annotations

import mlx.core as mx
import numpy as np
import pytest
from test_layers import leaves, randomised
from test_words import FakeTokenizer

from mlx_kstt.config import DecoderConfig, MimiConfig, SttConfig, TransformerConfig
from mlx_kstt.decoder import Decoder
from mlx_kstt.engine import Engine, Model
from mlx_kstt.layers import TransformerState
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.options import StreamOptions
from mlx_kstt.second_look import ahead
from mlx_kstt.stream import Stream

FRAMES = 10_000


def small_config(context: int, layers: int = 3) -> SttConfig:
    inner = TransformerConfig(
        dim=32, layers=layers, heads=2, head_dim=32, ffn=48, context=context, rope_base=1e5, norm_eps=1e-8
    )
    outer = TransformerConfig(dim=16, layers=1, heads=1, head_dim=32, ffn=16, context=6, rope_base=1e4, norm_eps=1e-5)
    codec = MimiConfig(transformer=outer, codebooks=5, codebook_size=64, codebook_dim=8, filters=2)
    return SttConfig(codec, DecoderConfig(inner, 12, 5, 64, pause_heads=1), delay=0.5, prefix=0.0, pause_head=0)


def engine(config: SttConfig) -> Engine:
    return Engine(randomised(Model(config)), config, compiled=False)


def random_inputs(config: SttConfig, frames: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    codes = rng.integers(0, config.decoder.codebook_size, (frames, config.decoder.codebooks))
    return codes, rng.integers(0, config.decoder.vocabulary, frames)


def fresh_logits(config: SttConfig, codes: np.ndarray, text: np.ndarray) -> np.ndarray:
    """Logits of the last position by a decoder that has seen nothing but these inputs, one at a time."""
    decoder = randomised(Model(config)).decoder
    return last_logits(decoder, codes, text, decoder.init_state(1, 1))


def last_logits(decoder: Decoder, codes: np.ndarray, text: np.ndarray, state: TransformerState) -> np.ndarray:
    """Logits of the last position, fed one at a time."""
    hidden = mx.zeros(0)
    for t in range(len(codes)):
        hidden, state = decoder.step(mx.array(text[t])[None, None], mx.array(codes[t])[None, None], state)
        state = decoder.rebase(state)
        mx.eval(hidden, state)
    return np.array(decoder.logits(hidden)[0, -1])


def inputs_that_matter(config: SttConfig) -> int:
    """A position depends on so many last inputs, through all layers."""
    inner = config.decoder.transformer
    return inner.layers * (inner.context - 1) + 1


def test_after_ten_thousand_frames_the_logits_are_those_of_a_fresh_decoder() -> None:
    config = small_config(context=40)
    codes, text = random_inputs(config, FRAMES)
    logits = engine(config).forward(codes, text)
    n = inputs_that_matter(config)
    for end in (FRAMES, FRAMES - 1, 5_000, 2_100):
        expected = fresh_logits(config, codes[end - n : end], text[end - n : end])
        error = np.abs(logits[end] - expected).max() / np.abs(expected).max()
        assert error < 1e-4, f"{error:.1e} after {end} frames"


@pytest.mark.parametrize("offset", [1_900, 8_000])
def test_from_a_large_initial_offset_too(offset: int) -> None:
    config = small_config(context=40)
    decoder = randomised(Model(config)).decoder
    n = inputs_that_matter(config)
    codes, text = random_inputs(config, n + 50)
    state = decoder.init_state(1, 1)._replace(offset=mx.array([offset]))
    logits, expected = last_logits(decoder, codes, text, state), fresh_logits(config, codes[-n:], text[-n:])
    assert np.abs(logits - expected).max() / np.abs(expected).max() < 1e-4


def test_positions_stay_small_and_memory_where_it_was() -> None:
    config = small_config(context=40)
    stream = Stream(engine(config), config, FakeTokenizer(), StreamOptions())
    block = np.random.default_rng(0).standard_normal(25 * 1920).astype(np.float32) * 0.1
    used = []
    for pushed in range(0, FRAMES, 25):
        stream.push(block)
        if pushed in (500, 1_000) or pushed >= FRAMES - 50:
            mx.clear_cache()
            used.append(mx.get_active_memory())
    assert max(used[1:]) - used[0] < 100_000, "bytes held grow with the length of the stream"
    states = (stream.snapshot().rows.engine.decoder, stream.snapshot().rows.engine.codec.transformer)
    for state in states:
        assert isinstance(state, TransformerState)
        assert np.array(state.offset)[0] < 3 * 2_048


def test_a_step_writes_its_rings_in_place() -> None:
    """A held snapshot costs one copy of the rings; without one a step costs almost nothing."""
    config = small_config(context=20_000)
    stream = Stream(engine(config), config, FakeTokenizer(), StreamOptions())
    rings = sum(x.nbytes for _, x in leaves(stream.snapshot().rows.engine.decoder) if x.ndim == 4)
    frame = np.zeros(1920, np.float32)

    def extra() -> int:
        mx.reset_peak_memory()
        before = mx.get_active_memory()
        stream.push(frame)
        return mx.get_peak_memory() - before

    extra()
    assert extra() < 0.05 * rings
    mark = stream.snapshot()
    assert extra() > 0.9 * rings
    del mark
    assert extra() < 0.05 * rings


@on_mlx_thread
def test_a_fork_holds_one_copy_of_the_rings() -> None:
    """Not one for each of its steps."""
    config = small_config(context=20_000)
    stream = Stream(engine(config), config, FakeTokenizer(), StreamOptions())
    stream.push(np.zeros(1920, np.float32))
    rows = stream._rows
    rings = sum(x.nbytes for _, x in leaves(rows.state.engine.decoder) if x.ndim == 4)
    mx.reset_peak_memory()
    before = mx.get_active_memory()
    ahead(rows._engine, 0.0, config.delay, rows._lanes[0], rows.state.engine.row(0), rows.state.lanes[0])
    assert 0.9 * rings < mx.get_peak_memory() - before < 1.1 * rings


def test_whole_recordings_are_rebased_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Codes, ids and logits of long recordings: each of the codec and the decoder is moved back every so often."""
    config = small_config(context=40)
    long, calls = engine(config), []
    monkeypatch.setattr(long._codec, "rebase", lambda state: calls.append("codec") or state)
    monkeypatch.setattr(long._decoder, "rebase", lambda state: calls.append("decoder") or state)
    codes, text = random_inputs(config, 2_200)
    long.encode(np.zeros(1_200 * 1920, np.float32))
    assert calls == ["codec"] * 2
    long.generate(codes)
    assert calls == ["codec"] * 2 + ["decoder"] * 2
    long.forward(codes, text)
    assert calls == ["codec"] * 2 + ["decoder"] * 4
