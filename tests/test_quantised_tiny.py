"""What quantising costs the bundled model, from end to end, is what the README's table says."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest
from conftest import Recording

import mlx_kstt
from mlx_kstt.prove import prove
from mlx_kstt.quantization import QuantFormat, Recipe, uniform
from mlx_kstt.samples import Sample

README = (Path(__file__).parent.parent / "README.md").read_text("utf-8")
RECIPES: dict[str, str | Recipe] = {
    "q8": "q8",
    "q4": "q4",
    "mxfp8": uniform(QuantFormat(8, 32, "mxfp8")),
    "mxfp4": uniform(QuantFormat(4, 32, "mxfp4")),
}


@pytest.mark.parametrize("name", RECIPES)
def test_the_readmes_figures(name: str, recordings: list[Recording], capsys: pytest.CaptureFixture[str]) -> None:
    """Near-ties fall either way on another processor: a few ids and a word or two of difference are allowed."""
    (row,) = re.findall(rf"^\| {name} \| (.*) \|$", README, re.MULTILINE)
    ids, positions, words, _, errors, said = _counts(row)
    samples = [Sample(recording.path, recording.text) for recording in recordings]
    result = partial(mlx_kstt.load, "tiny", quantize=RECIPES[name], dtype="float32")
    source = partial(mlx_kstt.load, "tiny", dtype="float32")
    proof = prove(source, result, samples, disk_bytes=(0, 0), seconds_limit=1e9, announce=print)
    with capsys.disabled():
        print(f"\n{name}: ids {proof.forced}, words unlike the source's {proof.word_errors}", end="")
        print(f", word error rate {proof.result.text_errors}")
    assert proof.forced.whole == positions == 1425
    assert abs(proof.forced.part - ids) <= 4
    assert abs(proof.word_errors.part - words) <= 2
    assert proof.result.text_errors.whole == said == 169
    assert abs(proof.result.text_errors.part - errors) <= 2


def _counts(row: str) -> list[int]:
    return [int(number) for pair in re.findall(r"(\d+) of (\d+)", row) for number in pair]
