"""A checkpoint's tensors, made ours one after the other, and the model that they fill.

In: a `Checkpoint`. Out: tensors under our names, quantised where a plan says so, and a `Model` with evaluated weights.
Knows nothing of where checkpoints are and which layouts there are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from typing import cast

import mlx.core as mx

from .checkpoints import Checkpoint
from .config import SttConfig
from .engine import Model
from .errors import CheckpointError
from .layouts import Rule
from .mlx_thread import stop_if_abandoned
from .quantization import Plan

_QUANTIZED_PARTS = ("weight", "scales", "biases")


def load_model(checkpoint: Checkpoint, dtype: mx.Dtype, plan: Plan | None = None) -> tuple[Model, SttConfig]:
    """The model with evaluated weights, and its config: the decoder in `dtype`, the codec in float32 (facts sheet 2.6).

    Args:
        checkpoint: what a folder holds.
        dtype: of the decoder's floats; of the scales of quantised weights too.
        plan: layers to quantise while loading, by the same code as the converter does.
    """
    config = replace(checkpoint.config, quantization=plan) if plan else checkpoint.config
    model = Model(config)
    model.load_weights(list(read_tensors(checkpoint, plan or {}, dtype)), strict=True)
    return model, config


def read_tensors(checkpoint: Checkpoint, plan: Plan, dtype: mx.Dtype | None) -> Iterator[tuple[str, mx.array]]:
    """Our tensors one after the other, evaluated. Foreign ones are freed as soon as ours are made of them.

    Args:
        checkpoint: what a folder holds.
        plan: layers to quantise, from the weights as they are stored.
        dtype: of the decoder's floats; None keeps them as they are stored. The codec is always float32.
    """
    try:
        yield from _made(checkpoint, plan, dtype)
    except RuntimeError as error:  # MLX's only kind of error
        raise CheckpointError(f"the weights cannot be read to their end ({error}): fetch them again") from error


def _made(checkpoint: Checkpoint, plan: Plan, dtype: mx.Dtype | None) -> Iterator[tuple[str, mx.array]]:
    tensors: dict[str, mx.array] = {}
    for path in checkpoint.weights:
        tensors |= cast("dict[str, mx.array]", mx.load(str(path)))
    uses = Counter(name for rule in checkpoint.rules for name, _ in rule.sources)
    for rule in checkpoint.rules:
        stop_if_abandoned()
        x = rule.build(*(tensors[name] for name, _ in rule.sources))
        for name, part in _parts(rule.target, x, plan):
            # A transposed view would be copied whenever a convolution reads it.
            part = mx.contiguous(_cast(name, part, dtype))
            mx.eval(part)
            yield name, part
        for name, _ in rule.sources:
            uses[name] -= 1
            if not uses[name]:
                del tensors[name]
        mx.clear_cache()  # which would keep the memory of the foreign tensors


def _parts(name: str, x: mx.array, plan: Plan) -> Iterable[tuple[str, mx.array]]:
    """The tensor, or what it is quantised to: weight, scales and, in affine mode, biases."""
    layer = name.removesuffix(".weight")
    if layer not in plan:
        return [(name, x)]
    return zip((f"{layer}.{part}" for part in _QUANTIZED_PARTS), mx.quantize(x, **asdict(plan[layer])), strict=False)


def _cast(name: str, x: mx.array, dtype: mx.Dtype | None) -> mx.array:
    if name.startswith("codec."):
        return x.astype(mx.float32)
    return x if dtype is None or not mx.issubdtype(x.dtype, mx.floating) else x.astype(dtype)


def only(checkpoint: Checkpoint, target: str) -> Checkpoint:
    """The checkpoint reduced to one of our tensors."""
    return replace(checkpoint, rules=tuple(rule for rule in checkpoint.rules if rule.target == target))


def dequantized(checkpoint: Checkpoint) -> Checkpoint:
    """The checkpoint with its quantised layers read back into full weights."""
    plan = checkpoint.config.quantization
    sources = {rule.target: rule.sources for rule in checkpoint.rules}
    rules = []
    for rule in checkpoint.rules:
        layer, _, part = rule.target.rpartition(".")
        if layer not in plan:
            rules.append(rule)
        elif part == "weight":
            parts = [sources[name] for name in (f"{layer}.{part}" for part in _QUANTIZED_PARTS) if name in sources]
            build = partial(mx.dequantize, **asdict(plan[layer]))
            rules.append(Rule(rule.target, tuple(chain.from_iterable(parts)), build))
    return replace(checkpoint, rules=tuple(rules), config=replace(checkpoint.config, quantization={}))
