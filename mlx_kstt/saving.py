"""Checkpoint folders that are whole or not there.

In: a config, tensors that come one after the other, a tokenizer. Out: a folder in our own layout. Knows nothing of how
tensors are made.
"""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import mlx.core as mx

from .config import FORMAT, SttConfig
from .errors import CheckpointError
from .hub import CONFIG, WEIGHT_INDEX, WEIGHTS
from .mlx_thread import on_mlx_thread

SHARD_BYTES = 5_000_000_000
"""Files of weights are cut where they would grow larger, as on the hub."""

_at_work: set[Path] = set()
"""Temporary folders of this process."""


def check_target(target: Path, *, force: bool) -> None:
    """Refuse a target before any work is done for it.

    Args:
        target: folder to make.
        force: it may be a checkpoint of ours, which is replaced.

    Raises:
        CheckpointError: it exists, or is a place that nothing can be put in the place of.
    """
    with _explained(target):
        _clear_leftovers(target)
        if target == Path.cwd() or target.is_mount():
            raise CheckpointError(f"{target} cannot be replaced as a whole: name a new folder")
        if not target.exists() or (target.is_dir() and not any(target.iterdir())):
            return
        if not force:
            raise CheckpointError(f"{target} exists already: name another target, or replace it with force")
        if not _is_ours(target):
            raise CheckpointError(f"{target} is no checkpoint that this package wrote: remove it yourself if it may go")


@contextmanager
def new_folder(target: Path) -> Iterator[Path]:
    """A temporary folder beside the target, which takes its place if the block ends well and is removed if it does not.

    Args:
        target: as `check_target` lets it pass.

    Raises:
        CheckpointError: the target cannot be written.
    """
    part = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.partial")
    _at_work.add(part)
    try:
        with _explained(target):
            part.mkdir(parents=True)
            yield part
            _sync(part)
            _take_place(part, target)
    finally:
        _remove(part)
        _at_work.discard(part)


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
    """Write one file, whole."""
    try:
        mx.save_safetensors(str(path), tensors, {"format": "mlx"})
    except RuntimeError as error:  # MLX's only kind of error
        raise OSError(errno.ENOSPC, f"{path.name}: {error}") from error
    return path


@contextmanager
def _explained(target: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        way_out = "check the disk's space and the folder's permissions, or name another target"
        raise CheckpointError(f"{target} cannot be written ({error.strerror or error}): {way_out}") from error


def _remove(part: Path) -> None:
    """On the MLX thread, so that a write which an interrupted caller no longer waits for has ended."""
    for _ in range(10):  # of which each Ctrl-C costs one
        with suppress(KeyboardInterrupt):
            on_mlx_thread(shutil.rmtree)(part, ignore_errors=True)
            return


def _sync(folder: Path) -> None:
    """Have all of it on the disk before it gets its name."""
    for path in (*folder.iterdir(), folder):
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _take_place(part: Path, target: Path) -> None:
    """An empty target is replaced by the renaming itself; a full one is put back if that fails."""
    old = part.with_suffix(".old")
    try:
        if target.exists() and any(target.iterdir()):
            target.rename(old)
        part.rename(target)
    except BaseException:
        if old.exists() and not target.exists():
            old.rename(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _is_ours(folder: Path) -> bool:
    try:
        return json.loads((folder / CONFIG).read_bytes())["format"] == FORMAT
    except (OSError, ValueError, LookupError, TypeError):
        return False


def _clear_leftovers(target: Path) -> None:
    """Remove what killed conversions to the same target left behind, and put back what they had moved away."""
    pattern = re.compile(re.escape(f".{target.name}.") + r"(\d+)-[0-9a-f]{8}\.(partial|old)")
    for path in target.parent.iterdir() if target.parent.is_dir() else ():
        match = pattern.fullmatch(path.name)
        if match is None or path in _at_work or not _is_dead(int(match[1])):
            continue
        if match[2] == "old" and not target.exists():
            path.rename(target)
        else:
            shutil.rmtree(path, ignore_errors=True)


def _is_dead(pid: int) -> bool:
    """Our own number counts: what this process is at work on is known, so it is an earlier process's."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass
    return False
