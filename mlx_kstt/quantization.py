"""How weights are quantised: formats, and which layer gets which.

In: the sizes of a decoder, and a recipe by name or by options. Out: a format per layer, and MLX's convention for
config.json. Knows nothing of tensors and files. The codec is never quantised (facts sheet 10.17).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from .errors import CheckpointError, OptionError

_BITS = {"affine": (2, 3, 4, 5, 6, 8), "mxfp4": (4,), "mxfp8": (8,), "nvfp4": (4,)}
_GROUP_SIZES = {"affine": (32, 64, 128), "mxfp4": (32,), "mxfp8": (32,), "nvfp4": (16,)}
MODES = tuple(_BITS)

EMBEDDING, HEAD, PAUSE_HEADS = "decoder.embedding", "decoder.head", "decoder.pause_heads"
_FINAL = (HEAD, PAUSE_HEADS)


@dataclass(frozen=True, slots=True)
class QuantFormat:
    """A format of MLX: so many bits per weight, and a scale for each group.

    Raises:
        OptionError: MLX has no such format.
    """

    bits: int
    group_size: int
    mode: str = "affine"

    def __post_init__(self) -> None:
        """Refuse what MLX does not have."""
        if self.mode not in _BITS:
            raise OptionError(f"the quantisation mode is {self.mode!r}; it must be one of {', '.join(MODES)}")
        for name, value, allowed in (
            ("bits", self.bits, _BITS[self.mode]),
            ("group size", self.group_size, _GROUP_SIZES[self.mode]),
        ):
            if value not in allowed:
                choices = ", ".join(map(str, allowed))
                raise OptionError(f"the {name} is {value}; with mode {self.mode} it must be one of {choices}")

    def __str__(self) -> str:
        return f"{self.bits} bits, group {self.group_size}, {self.mode}"


Recipe = Callable[[str], QuantFormat | None]
"""The format of a layer by its name; None keeps it as it is."""
Plan = Mapping[str, QuantFormat]
"""Formats by layer; a layer that is not in it is not quantised."""

_EIGHT = QuantFormat(8, 64)


def default_group_size(mode: str) -> int:
    """The group size where none is asked for."""
    return {"affine": 64, "nvfp4": 16}.get(mode, 32)


def uniform(format: QuantFormat, *, embeddings: bool = False) -> Recipe:
    """Every layer in one format, the final heads in at least 8 bits.

    Embeddings stay as they are unless asked for: they are only gathered, so that it saves memory and no time. They are
    quantised in affine mode, since the others give bfloat16 whatever the model computes in.
    """

    def choose(layer: str) -> QuantFormat | None:
        if layer == EMBEDDING:
            affine = format if format.mode == "affine" else QuantFormat(format.bits, 64)
            return affine if embeddings else None
        return at_least_8_bits(format) if layer in _FINAL else format

    return choose


def mixed_4_8(layers: int) -> Recipe:
    """4 bits, but 8 for what feels it most: the outputs of the outer layers, and the heads.

    Args:
        layers: of the decoder.
    """
    outer = {*range(max(1, layers // 8)), *range(layers - max(1, layers // 8), layers)}

    def choose(layer: str) -> QuantFormat | None:
        if layer == EMBEDDING:
            return None
        sensitive = layer in _FINAL or (int(layer.split(".")[3]) in outer and layer.endswith((".out", ".down")))
        return _EIGHT if sensitive else QuantFormat(4, 64)

    return choose


PRESETS: Mapping[str, Callable[[int], Recipe]] = {
    "q4": lambda layers: uniform(QuantFormat(4, 64)),
    "q8": lambda layers: uniform(_EIGHT),
    "mixed_4_8": mixed_4_8,
}
"""Recipes with plain names, for a number of decoder layers."""


def named_recipe(recipe: str | Recipe | None, layers: int) -> Recipe:
    """A recipe, one by the name of its preset, or none: every layer as it is.

    Raises:
        OptionError: there is no preset of this name.
    """
    if recipe is None:
        return lambda layer: None
    if not isinstance(recipe, str):
        return recipe
    if recipe not in PRESETS:
        raise OptionError(f"the quantisation is {recipe!r}; it must be one of {', '.join(PRESETS)}")
    return PRESETS[recipe](layers)


def at_least_8_bits(format: QuantFormat) -> QuantFormat:
    """The format, or its nearest relative with 8 bits: the heads read it once and decide everything by it."""
    if format.bits >= 8:
        return format
    return replace(format, bits=8) if format.mode == "affine" else QuantFormat(8, 32, "mxfp8")


def make_plan(recipe: Recipe, layers: Mapping[str, int]) -> Plan:
    """The recipe, applied to layers with so many inputs each.

    Raises:
        OptionError: a group size does not divide the inputs of a layer.
    """
    plan = {name: format for name in layers if (format := recipe(name)) is not None}
    for name, format in plan.items():
        if layers[name] % format.group_size:
            raise OptionError(
                f"the group size {format.group_size} does not divide the {layers[name]} inputs of {name}: "
                "use a smaller one, or keep that layer as it is"
            )
    return plan


def plan_to_dict(plan: Plan, layers: Iterable[str]) -> dict[str, Any]:
    """MLX's convention for config.json: the commonest format, and the layers that differ from it (false: as it was)."""
    (common, _), *_ = Counter(plan.values()).most_common(1)
    others = {name: asdict(plan[name]) if name in plan else False for name in layers if plan.get(name) != common}
    return {**asdict(common), **others}


def plan_from_dict(raw: Mapping[str, Any], layers: Mapping[str, int]) -> Plan:
    """The opposite of `plan_to_dict`, for layers with so many inputs each.

    Raises:
        CheckpointError: it names a layer that there is not, or a format that cannot be.
    """
    names = ("bits", "group_size", "mode")
    if unknown := sorted(raw.keys() - set(names) - layers.keys()):
        raise CheckpointError(f"config.json quantises layers that the model does not have: {', '.join(unknown)}")
    common = {name: raw[name] for name in names if name in raw}  # none: no layer but those named is quantised
    chosen = {layer: raw.get(layer, common) for layer in layers}
    try:
        formats = {layer: QuantFormat(**format) for layer, format in chosen.items() if format}
        return make_plan(formats.get, layers)
    except (TypeError, OptionError) as error:
        raise CheckpointError(f"config.json has a quantization that cannot be read: {error}") from error
