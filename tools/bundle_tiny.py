"""Make the bundled demonstration model out of its transformers checkpoint.

    python tools/bundle_tiny.py CHECKPOINT_FOLDER [TARGET_FOLDER]

The weights stay float32, so that the ids are the reference's.
"""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import mlx_kstt.checkpoints as checkpoints

# isort: split
import mlx.core as mx
from mlx.utils import tree_flatten

PAUSE_THRESHOLD = 0.3
"""Suits this model; 0.5, as in the released 1B, is late (its training notes)."""


def main(source: Path, target: Path) -> None:
    """Write config.json, model.safetensors and the tokenizer to the target."""
    checkpoint = checkpoints.read_checkpoint(source, delay=None, prefix=None)
    model, _ = checkpoints.load_model(checkpoint, mx.float32)
    config = replace(checkpoint.config, pause_threshold=PAUSE_THRESHOLD)
    target.mkdir(parents=True, exist_ok=True)
    mx.save_safetensors(str(target / "model.safetensors"), dict(tree_flatten(model.parameters())), {"format": "mlx"})
    (target / "config.json").write_text(json.dumps(config.to_dict(), indent=2) + "\n", "utf-8")
    shutil.copyfile(checkpoint.tokenizer, target / checkpoint.tokenizer.name)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(*sys.argv[2:3]) if sys.argv[2:] else checkpoints.BUNDLED["tiny"])
