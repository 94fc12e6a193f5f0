"""Convert random checkpoints of real size to q4.

    python benchmarks/convert_real_size.py [1b|2.6b [LAYOUT...]]

Prints time and peak memory of each conversion, which runs in a process of its own, and shows that the result loads and
steps. Needs 6 GB of disk for the 1B and 13 GB for the 2.6B, and writes them below the temporary folder.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from random_checkpoint import write

LAYOUTS = ("original", "candle", "mlx", "trfs")

CONVERT = """
import resource, sys, time
import mlx_kstt
from mlx_kstt.convert import convert
import mlx.core as mx
begin = time.monotonic()
convert(sys.argv[1], sys.argv[2], quantize="q4", samples=())
seconds = time.monotonic() - begin
resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "linux" else 1e9)
print(f"{seconds:.0f} s | {mx.get_peak_memory() / 1e9:.2f} GB | {resident:.2f} GB")
"""
STEP = """
import sys, time
import mlx_kstt
import numpy as np
begin = time.monotonic()
stream = mlx_kstt.load(sys.argv[1]).open()
loaded = time.monotonic() - begin
stream.push(np.zeros(1920, np.float32))
begin = time.monotonic()
stream.push(np.zeros(3 * 1920, np.float32))
print(f"{loaded:.0f} s | {(time.monotonic() - begin) / 3:.2f} s")
"""


def main(size: str, *layouts: str) -> None:
    """One row per layout."""
    print("| layout | source | result | time | peak of MLX | peak resident | load | frame |")
    print("|---|---|---|---|---|---|---|---|")
    for layout in layouts or LAYOUTS:
        with tempfile.TemporaryDirectory() as folder:
            source, target = write(size, layout, Path(folder) / "source"), Path(folder) / "q4"
            converted = _run(CONVERT, source, target)
            print(f"| {layout} | {_size(source)} | {_size(target)} | {converted} | {_run(STEP, target)} |", flush=True)


def _run(program: str, *arguments: Path) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def _size(folder: Path) -> str:
    return f"{sum(path.stat().st_size for path in folder.iterdir()) / 1e9:.2f} GB"


if __name__ == "__main__":
    main(*sys.argv[1:] or ("1b",))
