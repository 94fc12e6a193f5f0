"""The command info: what it says of every layout, of quantised checkpoints and of real sizes."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any, cast

import pytest
import tokenizers
from fake_hub import use_hub
from layouts import LAYOUTS, SPECS, write_layout
from loading import with_codec_of
from mlx.utils import tree_flatten
from random_models import PAUSE_HEADS, decoder_tensors, pause_head_tensors
from test_published_files import LARGE

import mlx_kstt
from mlx_kstt import layouts
from mlx_kstt.checkpoints import BUNDLED
from mlx_kstt.cli import main
from mlx_kstt.config import SttConfig
from mlx_kstt.engine import Model
from mlx_kstt.foreign_configs import from_kyutai
from mlx_kstt.inspection import format_groups
from mlx_kstt.layouts import Rule
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.quantization import QuantFormat, uniform

# isort: split
import mlx.core as mx

ROOT = str(Path(mlx_kstt.__file__).parents[1])
NAMES = {"original": "original", "candle": "original", "mlx": "moshi_mlx"} | dict.fromkeys(
    ("trfs", "trfs-sharded"), "transformers"
)
TINY = """\
tiny
  layout       own
  weights      12.1 MB in 1 file
  stored as    decoder float32; codec float32
  window       125 frames, 10 s
  delay        0.5 s
  prefix       0 s
  pause heads  4; number 2 decides, above 0.3
  tokenizer    SentencePiece, 512 pieces

Parts, once loaded in bfloat16
  part       parameters    memory
  codec           0.7 M    2.7 MB
  embedding       0.5 M  986.5 kB
  layers          1.8 M    3.5 MB
  heads           0.1 M  206.2 kB
  together        3.0 M    7.4 MB

Quantisation
  all layers  none

Read by each decoder step, in bfloat16
  what          size
  weights     3.8 MB
  rings     384.0 kB
  together    4.1 MB

No decoder step can be faster than the memory
  memory  GB/s  per frame  real time
  M1        68    0.06 ms  1,315.4 x
"""
MIXED = """
Quantisation
  embedding              none
  layer 0 attention.qkv  4 bits, group 64, affine
  layer 0 attention.out  8 bits, group 64, affine
  layers 1-2 attention   4 bits, group 64, affine
  layer 3 attention.qkv  4 bits, group 64, affine
  layer 3 attention.out  8 bits, group 64, affine
  layer 0 mlp.gate_up    4 bits, group 64, affine
  layer 0 mlp.down       8 bits, group 64, affine
  layers 1-2 mlp         4 bits, group 64, affine
  layer 3 mlp.gate_up    4 bits, group 64, affine
  layer 3 mlp.down       8 bits, group 64, affine
  head                   8 bits, group 64, affine
  pause heads            8 bits, group 64, affine

"""


def info(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> dict[str, Any]:
    """What the command says as JSON."""
    assert main(["info", *map(str, arguments), "--format", "json"]) == 0
    told = capsys.readouterr()
    assert told.err == ""
    return json.loads(told.out)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    """The one sentence with which the command fails."""
    assert main(["info", *map(str, arguments)]) == 1
    told = capsys.readouterr()
    assert told.out == "" and told.err.count("\n") == 1
    return told.err


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What wrong usage says."""
    with pytest.raises(SystemExit) as ended:
        main(["info", *arguments])
    told = capsys.readouterr()
    assert (ended.value.code, told.out) == (2, "")
    return told.err.splitlines()[-1]


def quantised_copy(folder: Path, recipe: str) -> SttConfig:
    """The bundled model as a checkpoint that is quantised, its values random."""
    shutil.copytree(BUNDLED["tiny"], folder)
    config = SttConfig.from_dict(json.loads((folder / "config.json").read_bytes()))
    config = replace(config, quantization=config.decoder.plan(recipe))
    (folder / "config.json").write_text(json.dumps(config.to_dict()))
    _save(config, folder / "model.safetensors")
    return config


@on_mlx_thread
def _save(config: SttConfig, path: Path) -> None:
    model = Model(config)
    model.decoder.set_dtype(mx.bfloat16)
    mx.save_safetensors(str(path), dict(cast("list[tuple[str, mx.array]]", tree_flatten(model.parameters()))))


def write_hollow(path: Path, rules: Iterable[Rule], dtype: str, width: int) -> None:
    """A safetensors file with the tensors that the rules ask for: a header, and a hole in the disk."""
    header: dict[str, Any] = {}
    end = 0
    for name, shape in dict(source for rule in rules for source in rule.sources).items():
        start, end = end, end + width * prod(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)


def on_a_terminal(*arguments: str) -> str:
    """What the command shows on a terminal of 80 columns."""
    master, slave = pty.openpty()
    environment = os.environ | {"PYTHONPATH": ROOT, "COLUMNS": "80", "TERM": "xterm", "NO_COLOR": "1"}
    command = [sys.executable, "-m", "mlx_kstt", "info", *arguments]
    with subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, env=environment):
        os.close(slave)
        shown = b""
        with suppress(OSError):  # how a terminal ends on Linux
            while block := os.read(master, 65536):
                shown += block
    os.close(master)
    return re.sub(r"\x1b\[[\d;]*m", "", shown.decode())


def test_what_is_said_of_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", "tiny", "--bandwidth", "m1"]) == 0
    assert capsys.readouterr() == (TINY, "")


def test_a_terminal_gets_the_same_in_drawn_tables() -> None:
    shown = on_a_terminal("tiny", "--bandwidth", "m1")
    assert "\u2500" * 20 in shown
    assert max(map(len, shown.splitlines())) <= 80
    assert shown.replace("\u2500", "").split() == TINY.split()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout(layout: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = SPECS[0]
    folder = write_layout(tmp_path / layout, spec, layout)
    with with_codec_of(spec, layout):
        told = info(capsys, folder)
    assert (told["model"], told["layout"]) == (str(folder), NAMES[layout])
    assert told["file_bytes"] == sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    assert told["stored_dtypes"] == {"decoder": ["float32"], "codec": ["float32"]}
    assert told["window"] == {"frames": 37, "seconds": 2.96}
    assert (told["delay"], told["prefix"]) == (0.5, 0.0)
    kind = "tokenizer.json" if NAMES[layout] == "transformers" else "SentencePiece"
    assert told["tokenizer"] == {"kind": kind, "pieces": spec.text_card}
    heads = layout == "candle"
    assert told["pause_heads"] == ({"number": PAUSE_HEADS, "head": 2, "threshold": 0.5} if heads else None)
    parameters = sum(x.size for x in (decoder_tensors(spec) | (pause_head_tensors(spec) if heads else {})).values())
    assert sum(part["parameters"] for name, part in told["parts"].items() if name != "codec") == parameters


@pytest.fixture
def hollow(tmp_path: Path) -> Path:
    """The 2.6B as Kyutai publishes it, with zeros for weights and no delay in its config."""
    config = from_kyutai(LARGE, delay=2.5, prefix=1.0)
    write_hollow(tmp_path / "model.safetensors", layouts.original(config), "BF16", 2)
    write_hollow(tmp_path / "mimi.safetensors", layouts.codec(config), "F32", 4)
    pieces = [(f"piece{i}", 0.0) for i in range(LARGE["text_card"])]
    tokenizers.Tokenizer(tokenizers.models.Unigram(pieces, unk_id=0)).save(str(tmp_path / "pieces.json"))
    names = {"mimi_name": "mimi.safetensors", "tokenizer_name": "pieces.json"}
    (tmp_path / "config.json").write_text(json.dumps(LARGE | names))
    return tmp_path


def test_a_checkpoint_of_real_size_is_not_loaded(
    hollow: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Numbers of the performance facts, 2.1 and 2.2."""
    monkeypatch.setattr(mx, "load", lambda path: pytest.fail("a tensor was read"))
    told = info(capsys, hollow, "--delay", "2.5", "--prefix", "1")
    assert told["file_bytes"] > 5_234_000_000
    assert told["stored_dtypes"] == {"decoder": ["bfloat16"], "codec": ["float32"]}
    assert (told["delay"], told["prefix"], told["window"]) == (2.5, 1.0, {"frames": 375, "seconds": 30.0})
    step = told["step_bytes"]
    assert (step["dtype"], round(step["weights"] / 1e6), step["rings"]) == ("bfloat16", 4949, 147_456_000)
    limits = {limit["memory"]: (round(1e3 * limit["seconds"]), limit["times_real_time"]) for limit in told["limits"]}
    assert limits["iPhone 16 Pro"] == (85, pytest.approx(0.94, abs=0.005))
    assert limits["M1"] == (75, pytest.approx(1.07, abs=0.005))
    assert limits["M4 Max"] == (9, pytest.approx(8.6, abs=0.05))


def test_a_checkpoint_that_does_not_state_its_delay(hollow: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "give delay= in seconds" in complaint(capsys, hollow)
    assert "give prefix= in seconds" in complaint(capsys, hollow, "--delay", "2.5")


def test_quantisation_by_layers(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantised_copy(tmp_path / "mixed", "mixed_4_8")
    assert main(["info", str(tmp_path / "mixed")]) == 0
    told = capsys.readouterr().out
    assert "  stored as    decoder bfloat16; codec float32\n" in told
    assert MIXED in told


def test_quantisation_as_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    quantised_copy(tmp_path / "q4", "q4")
    four, eight = ({"bits": bits, "group_size": 64, "mode": "affine"} for bits in (4, 8))
    assert info(capsys, tmp_path / "q4")["quantization"] == [
        {"layers": "embedding", "format": None},
        {"layers": "layers 0-3 attention", "format": four},
        {"layers": "layers 0-3 mlp", "format": four},
        {"layers": "head", "format": eight},
        {"layers": "pause heads", "format": eight},
    ]


def test_equal_neighbours_are_one_group() -> None:
    decoder = from_kyutai(LARGE, delay=2.5, prefix=1.0).decoder
    mxfp4, eight = QuantFormat(4, 32, "mxfp4"), QuantFormat(8, 64)
    plan = dict(decoder.plan(uniform(mxfp4, embeddings=True)))
    for layer in (0, 1, 47):
        plan[f"decoder.transformer.layers.{layer}.mlp.down"] = eight
    assert format_groups(decoder, plan) == [
        ("embedding", QuantFormat(4, 64)),
        ("layers 0-47 attention", mxfp4),
        ("layers 0-1 mlp.gate_up", mxfp4),
        ("layers 0-1 mlp.down", eight),
        ("layers 2-46 mlp", mxfp4),
        ("layer 47 mlp.gate_up", mxfp4),
        ("layer 47 mlp.down", eight),
        ("head", QuantFormat(8, 32, "mxfp8")),
    ]


@pytest.mark.parametrize(
    ("asked", "memory", "bandwidth"),
    [("m4 pro", "M4 Pro", 273), ("100", "100 GB/s", 100), ("68.25", "68.25 GB/s", 68.25)],
)
def test_the_memory_is_a_chip_or_a_number(
    asked: str, memory: str, bandwidth: float, capsys: pytest.CaptureFixture[str]
) -> None:
    told = info(capsys, "tiny", "--bandwidth", asked)
    seconds = told["step_bytes"]["total"] / bandwidth / 1e9
    assert told["limits"] == [
        {
            "memory": memory,
            "bandwidth": bandwidth,
            "seconds": pytest.approx(seconds),
            "times_real_time": pytest.approx(0.08 / seconds),
        }
    ]


@pytest.mark.parametrize("asked", ["0", "-1", "nan", "inf"])
def test_an_impossible_bandwidth(asked: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert f"{asked} is not a bandwidth: give a number of GB/s above 0" in refusal(
        capsys, f"--bandwidth={asked}", "tiny"
    )


def test_an_unknown_chip(capsys: pytest.CaptureFixture[str]) -> None:
    message = refusal(capsys, "tiny", "--bandwidth", "M3 Maxx")
    assert "'M3 Maxx' is no chip whose bandwidth is known; similar ones are M3 Max" in message


def test_a_missing_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert "nowhere is no folder" in complaint(capsys, "nowhere")


def test_a_hub_model_that_is_not_cached(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    use_hub(monkeypatch, "http://127.0.0.1:9", tmp_path)
    assert "run once online" in complaint(capsys, "some/repo", "--offline", "--revision", "v2")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no device that is always full")
def test_standard_output_that_takes_nothing() -> None:
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-m", "mlx_kstt", "info", "tiny"]
        environment = os.environ | {"PYTHONPATH": ROOT}
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=environment, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("mlx_kstt: standard output cannot be written (No space left on device)")
