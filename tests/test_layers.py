"""Every streaming layer keeps one contract, and computes what its definition says.

The contract: any block size gives the same output, the future does not reach the past, the state keeps its shapes and
dtypes, compiled equals eager, rows are independent and may start late, all this beyond three times the capacity of the
rings.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import mlx.core as mx
import mlx.nn as nn
import numpy as np
import pytest
from mlx.utils import tree_flatten, tree_map
from reference_attention import causal_conv, windowed_attention

from mlx_kstt.config import DecoderConfig, MimiConfig, TransformerConfig
from mlx_kstt.decoder import Decoder, GatedFeedForward
from mlx_kstt.layers import Attention, CausalConv1d, Transformer, positions, reset_rows
from mlx_kstt.mimi import Encoder, Mimi, Residual, Stage

SMALL = TransformerConfig(dim=24, layers=2, heads=3, head_dim=16, ffn=20, context=7, rope_base=10_000.0, norm_eps=1e-8)
CODEC = MimiConfig(transformer=SMALL, codebooks=5, codebook_size=40, codebook_dim=12, filters=4)
DECODER = DecoderConfig(SMALL, vocabulary=30, codebooks=5, codebook_size=40, pause_heads=3)
MAX_BLOCK = 4


def leaves(state: Any) -> list[tuple[str, mx.array]]:
    """The arrays of a state, by name."""
    return cast("list[tuple[str, mx.array]]", tree_flatten(state))


def randomised(module: Any, seed: int = 1) -> Any:
    """The module with weights of a size that makes mistakes visible."""
    rng = np.random.default_rng(seed)

    def values(x: mx.array) -> mx.array:
        fan_in = max(1, int(np.prod(x.shape[1:])))
        return mx.array(rng.standard_normal(x.shape) * (0.5 if x.ndim == 1 else 1.5 / np.sqrt(fan_in)), mx.float32)

    module.update(tree_map(values, module.parameters()))
    mx.eval(module.parameters())
    return module


@dataclass(frozen=True)
class Case:
    """A layer under the contract.

    Attributes:
        init: batch -> state.
        step: (inputs, state) -> (output, state); all arrays (B, T, ...).
        inputs: (batch, steps) -> tuple of inputs.
        unit: entries of the inputs per output entry.
        steps: length of a test in output entries: more than three times the capacity.
    """

    init: Callable[[int], Any]
    step: Callable[..., tuple[mx.array, Any]]
    inputs: Callable[[int, int], tuple[mx.array, ...]]
    unit: int = 1
    steps: int = 40


def normal_inputs(channels: int, unit: int = 1) -> Callable[[int, int], tuple[mx.array, ...]]:
    def make(batch: int, steps: int) -> tuple[mx.array, ...]:
        rng = np.random.default_rng(steps)
        return (mx.array(rng.standard_normal((batch, steps * unit, channels)), mx.float32),)

    return make


def decoder_inputs(batch: int, steps: int) -> tuple[mx.array, ...]:
    rng = np.random.default_rng(steps)
    text = rng.integers(0, DECODER.vocabulary + 1, (batch, steps))
    codes = rng.integers(0, DECODER.codebook_size + 1, (batch, steps, DECODER.codebooks))
    return mx.array(text), mx.array(codes)


def layer_case(layer: Any, channels: int, unit: int = 1, **options: Any) -> Case:
    return Case(layer.init_state, layer.step, normal_inputs(channels, unit), unit, **options)


def attention_case() -> Case:
    layer = randomised(Attention(SMALL))
    capacity = SMALL.context + MAX_BLOCK - 1

    def init(batch: int) -> Any:
        return mx.zeros((batch,), mx.int32), layer.init_state(batch, capacity, mx.float32)

    def step(x: mx.array, state: Any) -> tuple[mx.array, Any]:
        offset, ring = state
        y, ring = layer.step(x, positions(offset, x.shape[1], capacity, SMALL.context), ring)
        return y, (offset + x.shape[1], ring)

    return Case(init, step, normal_inputs(SMALL.dim))


def residual_case() -> Case:
    layer = randomised(Residual(6, CODEC))
    return Case(layer.narrow.init_state, layer.step, normal_inputs(6))


def transformer_case() -> Case:
    layer = randomised(Transformer(SMALL, lambda: nn.RMSNorm(SMALL.dim), lambda: GatedFeedForward(SMALL)))
    return Case(lambda batch: layer.init_state(batch, MAX_BLOCK), layer.step, normal_inputs(SMALL.dim))


def mimi_case() -> Case:
    layer = randomised(Mimi(CODEC))
    return Case(lambda batch: layer.init_state(batch, MAX_BLOCK), layer.step, normal_inputs(1, 1920), 1920, steps=22)


def decoder_case() -> Case:
    layer = randomised(Decoder(DECODER))

    def step(text: mx.array, codes: mx.array, state: Any) -> tuple[mx.array, Any]:
        hidden, state = layer.step(text, codes, state)
        return mx.concatenate([layer.logits(hidden), layer.pauses(hidden)], axis=-1), state

    return Case(lambda batch: layer.init_state(batch, MAX_BLOCK), step, decoder_inputs)


CASES = {
    "conv": lambda: layer_case(randomised(CausalConv1d(3, 5, 4)), 3),
    "strided conv": lambda: layer_case(randomised(CausalConv1d(3, 5, 8, 4)), 3, 4),
    "conv without memory": lambda: layer_case(randomised(CausalConv1d(3, 5, 2, 2, bias=False)), 3, 2),
    "residual": residual_case,
    "stage": lambda: layer_case(randomised(Stage(4, 5, CODEC)), 4, 5),
    "encoder": lambda: layer_case(randomised(Encoder(CODEC)), 1, 960, steps=8),
    "attention": attention_case,
    "transformer": transformer_case,
    "mimi": mimi_case,
    "decoder": decoder_case,
}


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest) -> Case:
    return CASES[request.param]()


def run(case: Case, inputs: tuple[mx.array, ...], blocks: list[int], step: Any = None) -> np.ndarray:
    """The outputs of all steps, fed in blocks of these sizes over and over."""
    state, outputs, start, i = case.init(inputs[0].shape[0]), [], 0, 0
    total = inputs[0].shape[1] // case.unit
    while start < total:
        end = min(total, start + blocks[i % len(blocks)])
        y, state = (step or case.step)(*(x[:, start * case.unit : end * case.unit] for x in inputs), state)
        mx.eval(y, state)
        outputs.append(np.array(y))
        start, i = end, i + 1
    return np.concatenate(outputs, axis=1)


def close(a: np.ndarray, b: np.ndarray) -> bool:
    """Equal ids, or floats that differ by no more than rounding."""
    return bool(np.array_equal(a, b) if a.dtype.kind == "i" else np.allclose(a, b, rtol=1e-4, atol=2e-5))


@pytest.mark.parametrize("blocks", [[2], [3], [4], [1, 4, 2, 3]])
def test_any_block_size_gives_the_same_output(case: Case, blocks: list[int]) -> None:
    inputs = case.inputs(2, case.steps)
    assert close(run(case, inputs, blocks), run(case, inputs, [1]))


def test_the_future_does_not_reach_the_past(case: Case) -> None:
    a = case.inputs(1, case.steps)
    cut = case.steps // 2 + 1
    b = tuple(mx.concatenate([x[:, : cut * case.unit], x[:, cut * case.unit :][:, ::-1]], axis=1) for x in a)
    before, after = run(case, a, [4]), run(case, b, [4])
    assert close(before[:, :cut], after[:, :cut])
    assert not close(before[:, cut:], after[:, cut:])


def test_the_state_keeps_its_shapes_and_dtypes_and_starts_at_zero(case: Case) -> None:
    state = case.init(2)
    kinds = [(name, x.shape, x.dtype) for name, x in leaves(state)]
    assert all(not np.array(x).any() for _, x in leaves(state))
    for length in (1, 4, 3):
        _, state = case.step(*(x[:, : length * case.unit] for x in case.inputs(2, case.steps)), state)
        assert [(name, x.shape, x.dtype) for name, x in leaves(state)] == kinds


def test_compiled_equals_eager(case: Case) -> None:
    inputs = case.inputs(2, case.steps)
    assert close(run(case, inputs, [1, 3], step=mx.compile(case.step)), run(case, inputs, [1, 3]))


def test_rows_are_independent_and_may_start_late(case: Case) -> None:
    inputs, late = case.inputs(2, case.steps), 5
    state = case.init(2)
    state = tree_map(lambda x: x + mx.array(float("nan"), x.dtype) if x.dtype == mx.float32 else x, state)
    state = reset_rows(state, mx.array([True, True]))
    outputs = []
    for t in range(case.steps):
        if t == late:
            state = reset_rows(state, mx.array([False, True]))
        y, state = case.step(*(x[:, t * case.unit : (t + 1) * case.unit] for x in inputs), state)
        outputs.append(np.array(y))
    together = np.concatenate(outputs, axis=1)
    alone = run(case, tuple(x[:1] for x in inputs), [1])
    late_alone = run(case, tuple(x[1:, late * case.unit :] for x in inputs), [1])
    assert close(together[:1], alone)
    assert close(together[1:, late:], late_alone)


@pytest.mark.parametrize("stride", [1, 3])
def test_convolution_is_its_definition(stride: int) -> None:
    layer = randomised(CausalConv1d(3, 5, 6, stride))
    x = np.random.default_rng(0).standard_normal((7 * stride, 3))
    y, _ = layer.step(mx.array(x, mx.float32)[None], layer.init_state(1))
    weight, bias = np.array(layer.weight, np.float64), np.array(layer.bias, np.float64)
    np.testing.assert_allclose(np.array(y[0]), causal_conv(x, weight, bias, stride), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("blocks", [[1], [4], [1, 4, 2]])
def test_attention_is_its_definition_far_beyond_the_window(blocks: list[int]) -> None:
    case = attention_case()
    layer = randomised(Attention(SMALL))
    inputs = case.inputs(1, 60)
    x, qkv, out = (np.array(w, np.float64) for w in (inputs[0][0], layer.qkv.weight, layer.out.weight))
    expected = windowed_attention(x, qkv, out, SMALL.heads, SMALL.context, SMALL.rope_base)
    np.testing.assert_allclose(run(case, inputs, blocks)[0], expected, rtol=1e-3, atol=1e-4)


def test_a_block_beyond_max_block_is_refused() -> None:
    case = transformer_case()
    with pytest.raises(ValueError, match="a block of 5 positions, but the state was opened for at most 4"):
        case.step(*case.inputs(1, 5), case.init(1))


def test_an_old_offset_undoes_rejected_positions() -> None:
    """A pass over 4 positions of which 2 are rejected leaves no trace, whatever the ring holds."""
    case = transformer_case()
    (good,), (bad,) = case.inputs(1, 40), case.inputs(1, 41)
    state, outputs = case.init(1), []
    for start in range(0, 40, 2):
        guess = mx.concatenate([good[:, start : start + 2], bad[:, start : start + 2]], axis=1)
        y, after = case.step(guess, state)
        outputs.append(np.array(y[:, :2]))
        state = after._replace(offset=state.offset + 2)
    assert close(np.concatenate(outputs, axis=1), run(case, (good,), [1]))


def test_rebasing_changes_no_answer() -> None:
    layer = randomised(Transformer(SMALL, lambda: nn.RMSNorm(SMALL.dim), lambda: GatedFeedForward(SMALL)))
    period = layer.rebase_period(layer.init_state(1, MAX_BLOCK))
    (x,) = normal_inputs(SMALL.dim)(2, 60)
    state = layer.init_state(2, MAX_BLOCK)._replace(offset=mx.array([period - 30, 3]))
    plain, moved, outputs = state, state, []
    for t in range(60):
        a, plain = layer.step(x[:, t : t + 1], plain)
        b, moved = layer.step(x[:, t : t + 1], layer.rebase(moved))
        outputs.append((np.array(a), np.array(b)))
    assert moved.offset.tolist()[0] < period - 30 + 60 - 2 * SMALL.context, "the first row was never moved"
    assert moved.offset.tolist()[1] == 63, "the second row has not come far and stays"
    a, b = (np.concatenate(parts, axis=1) for parts in zip(*outputs, strict=True))
    np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
