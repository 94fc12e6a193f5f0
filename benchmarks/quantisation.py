"""What quantising costs the bundled model, as the table of the README: `python benchmarks/quantisation.py`."""

from __future__ import annotations

import csv
from functools import partial
from pathlib import Path

import mlx_kstt
from mlx_kstt.proof import Proof
from mlx_kstt.prove import prove
from mlx_kstt.quantization import QuantFormat, Recipe, uniform
from mlx_kstt.samples import Sample

RECIPES: dict[str, str | Recipe] = {
    "q8": "q8",
    "mixed_4_8": "mixed_4_8",
    "q4": "q4",
    "mxfp8": uniform(QuantFormat(8, 32, "mxfp8")),
    "mxfp4": uniform(QuantFormat(4, 32, "mxfp4")),
    "nvfp4": uniform(QuantFormat(4, 16, "nvfp4")),
}


def main() -> None:
    """Each recipe against the full weights, on all bundled recordings."""
    folder = Path(mlx_kstt.__file__).parent / "bundled" / "recordings"
    with (folder / "refs.tsv").open(encoding="utf-8") as file:
        samples = [Sample(folder / row["file"], row["reference"]) for row in csv.DictReader(file, delimiter="\t")]
    print("| recipe | same ids, teacher-forced | KL divergence, nats | words unlike the source's | word error rate |")
    print("|---|---|---|---|---|")
    source = partial(mlx_kstt.load, "tiny")
    for name, recipe in RECIPES.items():
        result = partial(mlx_kstt.load, "tiny", quantize=recipe)
        proof = prove(source, result, samples, disk_bytes=(0, 0), seconds_limit=1e9, announce=print)
        print(_row(name, proof))


def _row(name: str, proof: Proof) -> str:
    result = proof.result.text_errors
    cells = (name, proof.forced, f"{proof.kl_mean:.4f}", proof.word_errors, result)
    return f"| {' | '.join(map(str, cells))} |"


if __name__ == "__main__":
    main()
