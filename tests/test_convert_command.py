"""`python -m mlx_kstt convert`: what it prints, writes and refuses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import RECORDINGS
from fake_hub import FakeHub, use_hub
from fake_hub_uploads import TOKEN

import mlx_kstt
from mlx_kstt.cli import main
from mlx_kstt.proof import Proof

ROOT = Path(mlx_kstt.__file__).parents[1]
AUDIO = str(RECORDINGS / "01_en-us+f4.flac")


def convert(*arguments: str | Path) -> int:
    return main(["convert", "--hf-path", "tiny", *map(str, arguments)])


def test_it_proves_what_it_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "tiny-q8"
    assert convert("--mlx-path", target, "-q", "--q-bits", "8", "--prove", AUDIO) == 0
    said = capsys.readouterr()
    assert "| token agreement, teacher-forced |  | 100.00 % (" in said.out
    assert said.err == f"mlx_kstt: comparing source and result on recordings\nmlx_kstt: {target} is ready\n"
    card = (target / "README.md").read_text("utf-8")
    front = card.split("---")[1].strip().splitlines()
    assert front == ["library_name: mlx_kstt", "pipeline_tag: automatic-speech-recognition", "tags:", "- mlx"]
    assert said.out.strip() in card
    proof = Proof.from_dict(json.loads((target / "proof.json").read_text("utf-8")))
    assert (proof.recordings, proof.forced.rate, proof.word_errors.part) == (1, 1.0, 0)
    assert proof.to_markdown() in card
    assert mlx_kstt.load(target).transcribe(AUDIO).text == "please open the window and close the door"


def test_a_search_is_reported_and_its_choice_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert convert("--mlx-path", tmp_path / "found", "--q-search", "0.9", "--prove", AUDIO) == 0
    said = capsys.readouterr()
    assert "Chosen to keep 90 % of the text ids: " in said.out
    config = json.loads((tmp_path / "found" / "config.json").read_text("utf-8"))
    assert config["quantization"]["decoder.head"]["bits"] == 8


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--q-bits", "4"], "--q-bits needs -q"),
        (["--q-embeddings"], "--q-embeddings needs -q"),
        (["-q", "--q-mode", "affine", "--quant-predicate", "q8"], "--q-mode does not go with --quant-predicate"),
        (["--quant-predicate", "q8", "--q-search", "0.9"], "exclude each other"),
        (["--q-search", "2"], "2 is not a share between 0 and 1, such as 0.99"),
        (["--prove", AUDIO, "--no-prove"], "not allowed with"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        convert("--mlx-path", tmp_path / "x", *arguments)
    assert caught.value.code == 2
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["-q", "--q-bits", "8", "--q-mode", "mxfp4"], 2, "the bits is 8; with mode mxfp4 it must be one of 4"),
        (["-q", "--q-group-size", "128"], 2, "the group size 128 does not divide the 192 inputs of decoder."),
        (["--dequantize"], 2, "the source is not quantised: leave dequantize out"),
        (["--hf-path", "nothing/at/all"], 1, "nothing/at/all"),
        (["--prove", "absent.wav"], 1, "absent.wav"),
    ],
)
def test_failures(arguments: list[str], status: int, message: str, tmp_path: Path, capsys) -> None:
    assert convert("--mlx-path", tmp_path / "x", *arguments) == status
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("mlx_kstt: ")
    assert message in error
    assert list(tmp_path.iterdir()) == []


def test_uploading_without_a_token_fails_before_the_work(tmp_path: Path, monkeypatch, capsys) -> None:
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "home")
        monkeypatch.delenv("HF_TOKEN", raising=False)
        assert convert("--mlx-path", tmp_path / "x", "--no-prove", "--upload-repo", "me/tiny-q4") == 1
    assert "cannot be uploaded without a token: log in with `hf auth login` or set HF_TOKEN" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()


def test_the_script_is_the_command(tmp_path: Path) -> None:
    command = [
        sys.executable,
        str(ROOT / "convert.py"),
        "--hf-path",
        "tiny",
        "--mlx-path",
        str(tmp_path / "q4"),
        "-q",
        "--no-prove",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert (result.returncode, result.stdout) == (0, "")
    assert mlx_kstt.load(tmp_path / "q4").config.quantization


def test_every_option_reaches_the_converter(tmp_path: Path) -> None:
    target = tmp_path / "out"
    kinds = ("-q", "--q-mode", "mxfp8", "--q-embeddings", "--dtype", "bfloat16", "--no-prove")
    assert convert("--mlx-path", target, *kinds) == 0
    formats = {name: str(format) for name, format in mlx_kstt.load(target).config.quantization.items()}
    assert formats["decoder.embedding"] == "8 bits, group 64, affine"
    assert formats["decoder.transformer.layers.0.mlp.down"] == "8 bits, group 32, mxfp8"
    assert convert("--mlx-path", tmp_path / "six", "-q", "--q-bits", "6", "--q-group-size", "32", "--no-prove") == 0
    assert main(["convert", "--hf-path", str(tmp_path / "six"), "--mlx-path", str(target), "--no-prove"]) == 1
    options = ["--dequantize", "--force", "--no-prove"]
    assert main(["convert", "--hf-path", str(tmp_path / "six"), "--mlx-path", str(target), *options]) == 0
    assert mlx_kstt.load(target).config.quantization == {}


@pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")  # the hub's library uses its own deprecations
def test_what_is_uploaded_says_how_to_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "home")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        assert convert("--mlx-path", tmp_path / "x", "-q", "--no-prove", "--upload-repo", "me/tiny-q4") == 0
        assert capsys.readouterr().err.splitlines()[-1].endswith(f"is at {hub.endpoint}/me/tiny-q4")
        files = hub.repos["me/tiny-q4", "main"].files
        assert 'mlx_kstt.load("me/tiny-q4")' in files["README.md"].decode()
        assert mlx_kstt.load("me/tiny-q4").config.quantization


def test_a_hub_without_it_or_out_of_reach(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    with FakeHub() as hub:
        use_hub(monkeypatch, hub.endpoint, tmp_path / "home")
        assert convert("--hf-path", "kyutai/nothing", "--mlx-path", tmp_path / "x") == 1
        assert "has no public model kyutai/nothing" in capsys.readouterr().err
    assert convert("--hf-path", "kyutai/nothing", "--mlx-path", tmp_path / "x") == 1
    assert "cannot be fetched from" in capsys.readouterr().err
    assert convert("--hf-path", "kyutai/nothing", "--offline", "--mlx-path", tmp_path / "x") == 1
    assert "the network is switched off" in capsys.readouterr().err
    assert not (tmp_path / "x").exists()
