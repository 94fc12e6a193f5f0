"""Checkpoints: where they are, which layout they have, and the strict load.

In: a folder, a hub repo or the name of the bundled model. Out: a `Checkpoint` read from its config and headers alone;
weights.py makes a model of it. A layout is told by the tensors' names, never by the name of a file or
repo.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
from mlx.utils import tree_flatten

from . import layouts
from .config import FORMAT, SttConfig
from .engine import Model
from .errors import CheckpointError
from .foreign_configs import from_kyutai, from_transformers
from .hub import CONFIG, TOKENIZERS, WEIGHTS, fetch
from .layouts import Rule, Shape
from .mlx_thread import on_mlx_thread
from .safetensors_files import read_shapes

BUNDLED = {"tiny": Path(__file__).parent / "bundled" / "tiny"}
"""Models that come with the package."""

_PREPROCESSORS = ("preprocessor_config.json", "processor_config.json")
_EXTRA_HEADS = "extra_heads.safetensors"
_PICKLES = (".bin", ".pt", ".pth", ".pkl", ".ckpt", ".npz")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a folder holds.

    Attributes:
        layout: "original", "moshi_mlx", "transformers" or "own".
        config: sizes and delays.
        weights: safetensors files.
        tokenizer: file.
        rules: how our tensors are made of those in the files.
    """

    layout: str
    config: SttConfig
    weights: tuple[Path, ...]
    tokenizer: Path
    rules: tuple[Rule, ...]


def find_checkpoint(model: str | Path, *, revision: str | None, offline: bool, announce: Callable[[str], None]) -> Path:
    """The folder of a model: an existing folder, else a bundled model, else what the hub has.

    Raises:
        CheckpointError: the path names no folder.
        HubError: see `hub.fetch`.
    """
    path = home_expanded(model)
    if path.is_dir():
        return path
    if str(model) in BUNDLED:
        return BUNDLED[str(model)]
    if path.exists():
        raise CheckpointError(f"{path} is a file; give the folder that holds the checkpoint")
    if isinstance(model, Path) or path.is_absolute() or str(model).startswith((".", "~")) or "/" not in model:
        raise CheckpointError(
            f"{model} is no folder, no hub repo (owner/name) and no bundled model ({', '.join(BUNDLED)})"
        )
    return fetch(str(model), revision=revision, offline=offline, announce=announce)


def home_expanded(path: str | Path) -> Path:
    """The path with ~ and ~name replaced by home folders.

    Raises:
        CheckpointError: nobody has this name.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CheckpointError(f"{path} names no user's home: write the path out") from error


@on_mlx_thread
def read_checkpoint(folder: Path, *, delay: float | None, prefix: float | None) -> Checkpoint:
    """What a folder holds, from its config and the headers of its files.

    Args:
        folder: of the checkpoint.
        delay, prefix: seconds, instead of what the checkpoint says.

    Raises:
        CheckpointError: something is missing, damaged, unknown or unsafe; the message names it.
    """
    raw = _read_json(folder, CONFIG)
    weights = _weight_files(folder, raw)
    layout = _layout(raw, read_shapes(weights), folder)
    weights = (*weights, *_more_files(layout, folder, raw, weights))
    shapes = read_shapes(weights)
    try:
        config = _config(layout, folder, raw, shapes, delay, prefix)
    except CheckpointError as error:
        raise CheckpointError(f"{folder} cannot be used: {error}") from error
    rules = tuple(_rules(layout, config))
    codec = _codec_names(layout, shapes, weights)
    _check_tensors(rules, shapes, {name for name in codec if layouts.is_unused(name, config.codec)}, folder)
    return Checkpoint(layout, config, weights, _tokenizer_file(folder, raw), rules)


def _more_files(layout: str, folder: Path, raw: Mapping[str, Any], weights: Iterable[Path]) -> tuple[Path, ...]:
    """Weights beside the main file."""
    if layout == "own":
        return ()
    if layout == "transformers":
        return _present(folder, _EXTRA_HEADS)
    return (_codec_file(folder, raw, weights),)


def _config(
    layout: str,
    folder: Path,
    raw: Mapping[str, Any],
    shapes: Mapping[str, Shape],
    delay: float | None,
    prefix: float | None,
) -> SttConfig:
    if layout == "own":
        config = SttConfig.from_dict(raw)
        return replace(
            config,
            delay=config.delay if delay is None else delay,
            prefix=config.prefix if prefix is None else prefix,
        )
    if layout == "transformers":
        return _with_pause_heads(from_transformers(raw, _preprocessor(folder), delay=delay, prefix=prefix), shapes)
    return _with_pause_heads(from_kyutai(raw, delay=delay, prefix=prefix), shapes)


def _rules(layout: str, config: SttConfig) -> Iterable[Rule]:
    if layout == "own":
        tensors = cast("list[tuple[str, mx.array]]", tree_flatten(Model(config).parameters()))
        return layouts.own({name: tensor.shape for name, tensor in tensors})
    if layout == "transformers":
        return layouts.transformers(config)
    return (*(layouts.original if layout == "original" else layouts.moshi_mlx)(config), *layouts.codec(config))


def _preprocessor(folder: Path) -> dict[str, Any]:
    """Delay and prefix of the -trfs layout; since version 5, transformers writes them into processor_config.json."""
    for name in _PREPROCESSORS:
        if _present(folder, name):
            raw = _read_json(folder, name)
            return raw.get("feature_extractor", raw)
    return {}


def _layout(raw: Mapping[str, Any], shapes: Mapping[str, Shape], folder: Path) -> str:
    if raw.get("format") == FORMAT:
        return "own"
    if any(name.endswith(".scales") for name in shapes):
        raise CheckpointError(f"{folder} was quantised by another program: give the checkpoint that it was made of")
    marks = {
        "model.embed_tokens.embed_tokens.weight": "transformers",
        "emb.0.weight": "original",
        "audio_embs.0.weight": "moshi_mlx",
    }
    for name, layout in marks.items():
        if name in shapes:
            return layout
    kind, some = raw.get("model_type"), ", ".join(sorted(shapes)[:3])
    raise CheckpointError(
        f"{folder} is no Kyutai speech-to-text checkpoint of a known layout: "
        f"its model_type is {kind!r}, and it has tensors such as {some}"
    )


def _weight_files(folder: Path, raw: Mapping[str, Any]) -> tuple[Path, ...]:
    """The file that the config names, the shards of an index, or model.safetensors."""
    name = raw.get("moshi_name") or WEIGHTS
    if not _present(folder, name) and _present(folder, f"{name}.index.json"):
        index = _read_json(folder, f"{name}.index.json").get("weight_map")
        if not isinstance(index, dict) or not index:
            raise CheckpointError(f"{folder / name}.index.json has no weight_map: fetch it again")
        return tuple(_inside(folder, shard) for shard in sorted(set(index.values())))
    if not _present(folder, name):
        pickles = sorted(path.name for path in folder.iterdir() if path.suffix in _PICKLES)
        if pickles:
            raise CheckpointError(
                f"{folder} holds only {', '.join(pickles)}, which can run code when opened: "
                "get the checkpoint as safetensors"
            )
    return (_inside(folder, name),)


def _codec_file(folder: Path, raw: Mapping[str, Any], weights: Iterable[Path]) -> Path:
    """The codec's file: the config names it, or it is the other safetensors file of the folder."""
    if raw.get("mimi_name"):
        return _inside(folder, raw["mimi_name"])
    others = sorted(set(folder.glob("*.safetensors")) - set(weights))
    if len(others) != 1:
        raise CheckpointError(f"{folder} needs one codec file (*.safetensors) that config.json names as mimi_name")
    return others[0]


def _tokenizer_file(folder: Path, raw: Mapping[str, Any]) -> Path:
    if raw.get("tokenizer_name"):
        return _inside(folder, raw["tokenizer_name"])
    for name in TOKENIZERS:
        if _present(folder, name):
            return _inside(folder, name)
    raise CheckpointError(f"{folder} lacks its tokenizer ({' or '.join(TOKENIZERS)}): fetch it again")


def _with_pause_heads(config: SttConfig, shapes: Mapping[str, Shape]) -> SttConfig:
    """The config with as many pause heads as there are tensors of them."""
    heads = sum(name.startswith("extra_heads.") for name in shapes)
    if not heads:
        return config
    classes = next(iter(shapes.get("extra_heads.0.weight", ())), config.decoder.pause_classes)
    decoder = replace(config.decoder, pause_heads=heads, pause_classes=classes)
    return replace(config, decoder=decoder, pause_head=min(config.pause_head, heads - 1))


def _codec_names(layout: str, names: Iterable[str], weights: Sequence[Path]) -> Iterable[str]:
    """The codec's tensors, of which we read the encoder half; our own layout holds nothing else."""
    if layout == "own":
        return ()
    return layouts.codec_names(names) if layout == "transformers" else read_shapes(weights[-1:])


def _check_tensors(rules: Iterable[Rule], shapes: Mapping[str, Shape], unused: Collection[str], folder: Path) -> None:
    """Name every missing, misshapen and unknown tensor."""
    expected = dict(source for rule in rules for source in rule.sources)
    missing = sorted(expected.keys() - shapes.keys())
    extra = sorted(shapes.keys() - expected.keys() - set(unused))
    misshapen = [
        f"{name} {list(shapes[name])} instead of {list(shape)}"
        for name, shape in sorted(expected.items())
        if name in shapes and shapes[name] != shape
    ]
    faults = {"lacks": missing, "has unknown": extra, "has misshapen": misshapen}
    if any(faults.values()):
        lists = "; ".join(f"{fault} {', '.join(names)}" for fault, names in faults.items() if names)
        raise CheckpointError(f"{folder} does not hold the tensors that its config.json asks for: it {lists}")


def _present(folder: Path, name: str) -> tuple[Path, ...]:
    path = folder / name
    try:
        return (path,) if path.is_file() else ()
    except OSError as error:
        raise CheckpointError(f"{folder} cannot be read ({error.strerror}): check its permissions") from error


def _inside(folder: Path, name: str) -> Path:
    """A file of the folder; names in a checkpoint are not trusted with other places."""
    if not isinstance(name, str) or Path(name).name != name:
        raise CheckpointError(f"{folder} names a file outside of itself: {name}")
    if not _present(folder, name):
        raise CheckpointError(f"{folder} lacks {name}: fetch it again")
    if not os.access(folder / name, os.R_OK):
        raise CheckpointError(f"{folder / name} may not be read: check its permissions")
    return folder / name


def _read_json(folder: Path, name: str) -> dict[str, Any]:
    path = _inside(folder, name)
    try:
        value = json.loads(path.read_text("utf-8"))
    except (ValueError, OSError) as error:
        raise CheckpointError(f"{path} is not readable JSON: {error}") from error
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} is not a JSON object")
    return value
