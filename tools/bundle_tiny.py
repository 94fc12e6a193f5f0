"""Make the bundled demonstration model out of its transformers checkpoint.

    python tools/bundle_tiny.py CHECKPOINT_FOLDER TARGET_FOLDER

The weights stay float32, so that the ids are the reference's.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from mlx_kstt.convert import convert

PAUSE_THRESHOLD = 0.3
"""Suits this model; 0.5, as in the released 1B, is late (its training notes)."""


def main(source: Path, target: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer to the target."""
    convert(source, target, dtype="float32", samples=())
    (target / "README.md").unlink()
    config = target / "config.json"
    raw = json.loads(config.read_text("utf-8")) | {"pause_threshold": PAUSE_THRESHOLD}
    config.write_text(json.dumps(raw, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
