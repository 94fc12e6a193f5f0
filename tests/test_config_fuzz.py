"""A config with nonsense in any place is refused with one sentence, or means something; never a traceback."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import PACKAGE
from layouts import SPECS, write_layout

import mlx_kstt
from mlx_kstt.checkpoints import read_checkpoint

NONSENSE: tuple[Any, ...] = ("x", 0, -1, 1.5, [], {}, True, float("nan"), float("inf"), None)


def places(raw: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """The path to each value in a JSON object."""
    for key, value in raw.items():
        yield (*path, key)
        if isinstance(value, dict):
            yield from places(value, (*path, key))


def changed(raw: dict[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    copy = json.loads(json.dumps(raw))
    inner = copy
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return copy


@pytest.mark.parametrize("layout", ["own", "original", "trfs"])
def test_nonsense(layout: str, tmp_path: Path) -> None:
    folder = tmp_path / layout
    if layout == "own":
        shutil.copytree(PACKAGE / "bundled" / "tiny", folder)
    else:
        write_layout(folder, SPECS[0], layout)
    names = [name for name in ("config.json", "preprocessor_config.json") if (folder / name).exists()]
    refused = 0
    for name in names:
        raw = json.loads((folder / name).read_text("utf-8"))
        for path in places(raw):
            for value in NONSENSE:
                (folder / name).write_text(json.dumps(changed(raw, path, value)), "utf-8")
                try:
                    read_checkpoint(folder, delay=None, prefix=None)
                except mlx_kstt.KsttError as error:
                    assert "\n" not in str(error)
                    refused += 1
        (folder / name).write_text(json.dumps(raw), "utf-8")
    assert refused > 100
