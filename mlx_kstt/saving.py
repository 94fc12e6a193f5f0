"""Checkpoint folders that are whole or not there.

In: a config, tensors that come one after the other, a tokenizer. Out: a folder in our own layout. Knows nothing of how
tensors are made.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlx.core as mx

from .config import FORMAT, SttConfig
from .errors import CheckpointError
from .hub import CONFIG, WEIGHT_INDEX, WEIGHTS
from .mlx_thread import on_mlx_thread

SHARD_BYTES = 5_000_000_000
"""Files of weights are cut where they would grow larger, as on the hub."""


@contextmanager
def new_folder(target: Path, *, force: bool) -> Iterator[Path]:
    """A temporary folder beside the target, which takes its place if the block ends well and is removed if it does not.

    Args:
        target: a folder that does not exist, or is empty.
        force: replace a checkpoint of ours that is there.

    Raises:
        CheckpointError: the target exists, or cannot be written.
    """
    target = target.resolve()
    _refuse_existing(target, force)
    _clear_leftovers(target)
    part = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        part.mkdir(parents=True)
        yield part
        _take_place(part, target)
    except OSError as error:
        way_out = "check the disk's space and the folder's permissions, or name another target"
        raise CheckpointError(f"{target} cannot be written ({error.strerror or error}): {way_out}") from error
    finally:
        # On the MLX thread, so that a write which an interrupted caller no longer waits for has ended.
        on_mlx_thread(shutil.rmtree)(part, ignore_errors=True)


def write_config(folder: Path, config: SttConfig) -> None:
    """Write config.json."""
    (folder / CONFIG).write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")


def write_tensors(folder: Path, tensors: Iterator[tuple[str, mx.array]], *, shard_bytes: int) -> None:
    """Write model.safetensors, or shards and their index; never more than one file's tensors are in memory.

    Args:
        folder: an empty one.
        tensors: evaluated; each is pulled on the MLX thread.
        shard_bytes: size above which a file is cut.
    """
    pull = on_mlx_thread(lambda: next(tensors, None))
    shards: list[Path] = []
    places: dict[str, int] = {}
    held: dict[str, mx.array] = {}
    size = 0
    while (item := pull()) is not None:
        name, tensor = item
        if held and size + tensor.nbytes > shard_bytes:
            shards.append(_save(folder / f"{len(shards)}.safetensors", held))
            held, size = {}, 0
        held[name], places[name] = tensor, len(shards)
        size += tensor.nbytes
    shards.append(_save(folder / f"{len(shards)}.safetensors", held))
    _name_shards(folder, shards, places)


def _name_shards(folder: Path, shards: list[Path], places: Mapping[str, int]) -> None:
    """Give the files their names, and several files an index."""
    stem, count = WEIGHTS.removesuffix(".safetensors"), len(shards)
    names = [f"{stem}-{i:05}-of-{count:05}.safetensors" for i in range(1, count + 1)] if count > 1 else [WEIGHTS]
    for path, name in zip(shards, names, strict=True):
        path.rename(folder / name)
    if count > 1:
        total = sum((folder / name).stat().st_size for name in names)
        weight_map = {name: names[place] for name, place in places.items()}
        raw = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / WEIGHT_INDEX).write_text(json.dumps(raw, indent=2) + "\n", "utf-8")


@on_mlx_thread
def _save(path: Path, tensors: dict[str, mx.array]) -> Path:
    """Write one file, whole and on the disk."""
    try:
        mx.save_safetensors(str(path), tensors, {"format": "mlx"})
    except RuntimeError as error:  # MLX's only kind of error
        raise OSError(errno.ENOSPC, f"{path.name}: {error}") from error
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return path


def _take_place(part: Path, target: Path) -> None:
    old = target.with_name(f".{target.name}.{os.getpid()}.old")
    if target.exists():
        target.rename(old)
    part.rename(target)
    shutil.rmtree(old, ignore_errors=True)


def _refuse_existing(target: Path, force: bool) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not force:
        raise CheckpointError(f"{target} exists already: name another target, or replace it with force")
    if not _is_ours(target):
        raise CheckpointError(f"{target} is no checkpoint that this package wrote: remove it yourself if it may go")


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / CONFIG).read_bytes())["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _clear_leftovers(target: Path) -> None:
    """What killed conversions to the same target left behind."""
    for kind in ("partial", "old"):
        for path in target.parent.glob(f".{target.name}.*.{kind}"):
            if _is_dead(path.name.split(".")[-2]):
                if kind == "old" and not target.exists():
                    path.rename(target)
                else:
                    shutil.rmtree(path, ignore_errors=True)


def _is_dead(pid: str) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return True
    except PermissionError:
        return False
    return False
