"""Conversion: what comes out is what went in, or what its format makes of it, and it is whole or not there at all."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import mlx.core as mx
import numpy as np
import pytest
from conftest import PACKAGE
from layouts import LAYOUTS, SPECS, Spec, write_layout
from loading import with_codec_of
from mlx.utils import tree_flatten
from reference_quantization import dequantize

import mlx_kstt
from mlx_kstt.config import SttConfig
from mlx_kstt.convert import convert
from mlx_kstt.engine import Model
from mlx_kstt.mlx_thread import on_mlx_thread
from mlx_kstt.quantization import QuantFormat, uniform
from mlx_kstt.samples import Sample

TINY = PACKAGE / "bundled" / "tiny"
QUIET: dict[str, Any] = {"samples": (), "announce": lambda message: None}
CODES = np.random.default_rng(0).integers(0, 256, (150, 8))


def tensors(folder: Path) -> dict[str, np.ndarray]:
    """All tensors of a folder in our layout, as NumPy."""
    found: dict[str, Any] = {}
    for path in folder.glob("*.safetensors"):
        found.update(cast("dict[str, Any]", mx.load(str(path))))
    return {name: np.array(x.astype(mx.float32) if x.dtype == mx.bfloat16 else x) for name, x in found.items()}


@pytest.fixture(params=SPECS, ids=lambda spec: spec.name)
def spec(request: pytest.FixtureRequest) -> Spec:
    return request.param


def test_from_each_layout_come_the_same_tensors_and_tokens(spec: Spec, tmp_path: Path) -> None:
    codes = np.random.default_rng(1).integers(0, spec.card, (90, spec.codebooks))
    found: dict[str, dict[str, np.ndarray]] = {}
    for layout in LAYOUTS:
        source = write_layout(tmp_path / layout, spec, layout)
        with with_codec_of(spec, layout):
            convert(source, tmp_path / f"{layout}-converted", **QUIET)
            before = mlx_kstt.load(source, dtype="float32")
        after = mlx_kstt.load(tmp_path / f"{layout}-converted", dtype="float32")
        assert after.config == before.config
        assert np.array_equal(after.generate(codes=codes), before.generate(codes=codes))
        assert np.array_equal(after.forward(codes, codes[:, 0] % 5), before.forward(codes, codes[:, 0] % 5))
        found[layout] = tensors(tmp_path / f"{layout}-converted")
    for layout, own in found.items():
        own.pop("decoder.pause_heads.weight", None)
        assert own.keys() == found["original"].keys()
        for name, value in own.items():
            assert np.array_equal(value, found["original"][name]), f"{name} of {layout}"


def test_converting_our_own_layout_changes_nothing(tmp_path: Path) -> None:
    convert("tiny", tmp_path / "copy", **QUIET)
    for name, value in tensors(TINY).items():
        assert np.array_equal(value, tensors(tmp_path / "copy")[name])
    assert mlx_kstt.load(tmp_path / "copy").config == mlx_kstt.load("tiny").config


@pytest.mark.parametrize("recipe", ["q4", "q8", "mixed_4_8", uniform(QuantFormat(4, 32, "mxfp4"), embeddings=True)])
def test_convert_and_load_is_load_with_quantize(recipe: Any, tmp_path: Path) -> None:
    convert("tiny", tmp_path / "converted", quantize=recipe, **QUIET)
    one, other = mlx_kstt.load(tmp_path / "converted"), mlx_kstt.load("tiny", quantize=recipe)
    assert one.config == other.config
    text = np.zeros(len(CODES), int)
    assert np.array_equal(one.forward(CODES, text), other.forward(CODES, text))
    assert not np.array_equal(one.forward(CODES, text), mlx_kstt.load("tiny").forward(CODES, text))


@pytest.mark.parametrize("format", [QuantFormat(8, 64), QuantFormat(4, 32)], ids=str)
def test_stored_weights_are_within_half_a_step_and_dequantize_reads_them_back(
    format: QuantFormat, tmp_path: Path
) -> None:
    convert("tiny", tmp_path / "q", quantize=uniform(format), **QUIET)
    convert(tmp_path / "q", tmp_path / "full", dequantize=True, **QUIET)
    full, quantised, source = tensors(tmp_path / "full"), tensors(tmp_path / "q"), tensors(TINY)
    assert full.keys() == source.keys()
    config = mlx_kstt.load(tmp_path / "q").config
    for name, value in source.items():
        layer = name.removesuffix(".weight")
        if layer in config.quantization:
            own = config.quantization[layer]
            parts = [quantised[f"{layer}.{part}"] for part in ("weight", "scales", "biases")]
            step = np.repeat(np.abs(parts[1]), own.group_size, axis=1)
            # MLX moves a group's range so that zero is representable: up to one step, not half of one.
            assert (np.abs(full[name] - value) <= 1.001 * step).all(), name
            expected = dequantize(own.mode, own.bits, own.group_size, *parts)
            np.testing.assert_allclose(full[name], expected, rtol=1e-5, atol=1e-6)
        else:
            assert np.array_equal(full[name], value), name


def test_a_quantised_checkpoint_is_smaller_and_its_config_says_why(tmp_path: Path) -> None:
    convert("tiny", tmp_path / "q4", quantize="q4", dtype="bfloat16", **QUIET)
    raw = json.loads((tmp_path / "q4" / "config.json").read_text())
    assert raw["quantization"]["bits"] == 4
    assert raw["quantization"]["decoder.head"]["bits"] == 8
    assert raw["quantization"]["decoder.embedding"] is False
    stored: Any = mx.load(str(tmp_path / "q4" / "model.safetensors"))
    assert stored["decoder.embedding.weight"].dtype == mx.bfloat16
    assert stored["decoder.head.scales"].dtype == mx.bfloat16
    assert stored["codec.downsample.weight"].dtype == mx.float32
    assert not [name for name in stored if "layer_scale" in name or name.startswith("codec.decoder")]


def test_shards_and_their_index_load_like_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlx_kstt.convert.SHARD_BYTES", 3_000_000)
    convert("tiny", tmp_path / "sharded", **QUIET)
    shards = sorted((tmp_path / "sharded").glob("model-*.safetensors"))
    assert len(shards) >= 4
    assert all(path.stat().st_size < 3_100_000 for path in shards)
    index = json.loads((tmp_path / "sharded" / "model.safetensors.index.json").read_text())
    assert {path.name for path in shards} == set(index["weight_map"].values())
    assert index["weight_map"].keys() == tensors(TINY).keys()
    text = np.zeros(len(CODES), int)
    again = mlx_kstt.load(tmp_path / "sharded").forward(CODES, text)
    assert np.array_equal(again, mlx_kstt.load("tiny").forward(CODES, text))


def test_pause_heads_are_grafted_from_another_layout_of_the_same_model(tmp_path: Path) -> None:
    spec = SPECS[0]
    plain, candle = (write_layout(tmp_path / layout, spec, layout) for layout in ("mlx", "candle"))

    def eight(layer: str) -> QuantFormat | None:
        """The layers whose inputs 32 divides."""
        return QuantFormat(8, 32) if layer.endswith(("qkv", "head", "pause_heads")) else None

    with with_codec_of(spec, "mlx"):
        convert(plain, tmp_path / "grafted", pause_heads_from=candle, quantize=eight, **QUIET)
        convert(candle, tmp_path / "direct", quantize=eight, **QUIET)
    grafted, direct = tensors(tmp_path / "grafted"), tensors(tmp_path / "direct")
    assert grafted.keys() == direct.keys()
    assert all(np.array_equal(grafted[name], direct[name]) for name in direct)
    assert mlx_kstt.load(tmp_path / "grafted").config == mlx_kstt.load(tmp_path / "direct").config


def write_wide_model(folder: Path) -> tuple[Path, int]:
    """A random checkpoint of 60 MB in our layout, and the bytes of its largest tensor."""
    raw = json.loads((TINY / "config.json").read_text())
    raw["decoder"]["transformer"] |= {"dim": 512, "heads": 8, "ffn": 2048}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(raw))
    shutil.copy(TINY / "tokenizer.model", folder)

    @on_mlx_thread
    def write() -> int:
        parameters = dict(tree_flatten(Model(SttConfig.from_dict(raw)).parameters()))
        mx.save_safetensors(str(folder / "model.safetensors"), parameters)
        return max(x.nbytes for x in parameters.values())

    return folder, write()


def refusal(source: Any, target: Path, **options: Any) -> str:
    before = sorted(target.parent.iterdir())
    with pytest.raises(mlx_kstt.KsttError) as caught:
        convert(source, target, **QUIET, **options)
    assert sorted(target.parent.iterdir()) == before, "something was left behind"
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_pause_heads_of_another_model_are_refused(tmp_path: Path) -> None:
    one = write_layout(tmp_path / "trfs", SPECS[0], "trfs")
    assert "is another model: its pause heads fit only its own decoder" in refusal(
        one, tmp_path / "x", pause_heads_from="tiny"
    )
    message = refusal("tiny", tmp_path / "x", pause_heads_from="tiny")
    assert message == "the source has pause heads of its own: leave pause_heads_from out"
    assert "has no pause heads to take" in refusal(one, tmp_path / "x", pause_heads_from=one)


def test_targets_that_cannot_be(tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY, tmp_path / "source"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "thesis.txt").write_text("years of work")
    assert "overlap: name a target outside the source" in refusal(source, source / "inside")
    assert "overlap" in refusal(source, source, force=True)
    assert "overlap" in refusal(source, tmp_path, force=True)
    assert "exists already: name another target, or replace it with force" in refusal(source, tmp_path / "taken")
    assert "is no checkpoint that this package wrote" in refusal(source, tmp_path / "taken", force=True)
    assert (tmp_path / "taken" / "thesis.txt").read_text() == "years of work"


def test_force_replaces_a_checkpoint_of_ours(tmp_path: Path) -> None:
    convert("tiny", tmp_path / "out", **QUIET)
    convert("tiny", tmp_path / "out", quantize="q4", force=True, **QUIET)
    assert mlx_kstt.load(tmp_path / "out").config.quantization
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_quantised_sources_and_impossible_options(tmp_path: Path) -> None:
    convert("tiny", tmp_path / "q8", quantize="q8", **QUIET)
    assert "quantised already: convert the one that it was made of, or" in refusal(tmp_path / "q8", tmp_path / "x")
    assert "is not quantised: leave dequantize out" in refusal("tiny", tmp_path / "x", dequantize=True)
    assert "the quantisation is 'q7'" in refusal("tiny", tmp_path / "x", quantize="q7")
    assert "the group size 128 does not divide the 192 inputs" in refusal(
        "tiny", tmp_path / "x", quantize=uniform(QuantFormat(4, 128))
    )
    assert "dtype is 'int4'" in refusal("tiny", tmp_path / "x", dtype="int4")
    with pytest.raises(mlx_kstt.CheckpointError, match="is quantised already: leave quantize out"):
        mlx_kstt.load(tmp_path / "q8", quantize="q4")


def leftover(target: Path, kind: str, pid: int = 999_999) -> Path:
    """What a killed conversion to the target leaves behind."""
    path = target.with_name(f".{target.name}.{pid}-0123abcd.{kind}")
    path.mkdir()
    (path / "thesis.txt").write_text("years of work")
    return path


def test_leftovers_of_other_targets_are_left_alone(tmp_path: Path) -> None:
    others = [leftover(tmp_path / name, kind) for name in ("stt.q4", "sttx") for kind in ("partial", "old")]
    alive = leftover(tmp_path / "stt", "partial", pid=1)
    dead = leftover(tmp_path / "stt", "partial")
    convert("tiny", tmp_path / "stt", **QUIET)
    assert all(path.exists() for path in (*others, alive))
    assert not dead.exists()


def test_what_a_killed_conversion_had_moved_away_comes_back(tmp_path: Path) -> None:
    leftover(tmp_path / "stt", "old")
    with pytest.raises(mlx_kstt.CheckpointError, match="exists already"):
        convert("tiny", tmp_path / "stt", **QUIET)
    assert (tmp_path / "stt" / "thesis.txt").read_text() == "years of work"


def test_replacing_that_fails_halfway_puts_the_old_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    convert("tiny", tmp_path / "out", **QUIET)
    before, rename = tensors(tmp_path / "out"), Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise KeyboardInterrupt
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        convert("tiny", tmp_path / "out", quantize="q4", force=True, **QUIET)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert tensors(tmp_path / "out").keys() == before.keys()


def test_two_conversions_to_one_target_at_once(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = [pool.submit(convert, "tiny", tmp_path / "out", **QUIET) for _ in range(2)]
        failures = [future.exception() for future in done]
    assert any(failure is None for failure in failures)
    assert mlx_kstt.load(tmp_path / "out").config == mlx_kstt.load("tiny").config
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_places_that_nothing_can_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "cannot be replaced as a whole: name a new folder" in refusal("tiny", Path("."))
    assert "cannot be written (File name too long)" in refusal("tiny", tmp_path / ("x" * 300))
    with pytest.raises(mlx_kstt.CheckpointError, match="names no user's home"):
        convert("tiny", "~nosuchuser/x", **QUIET)


def test_a_target_or_a_recording_that_cannot_be_is_refused_before_the_work(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("mlx_kstt.convert.search", lambda *args: pytest.fail("searched"))
    monkeypatch.setattr("mlx_kstt.convert.write_tensors", lambda *args, **options: pytest.fail("converted"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(mlx_kstt.CheckpointError, match="exists already"):
        convert("tiny", tmp_path / "taken", search_target=0.9)
    with pytest.raises(mlx_kstt.AudioError, match="absent"):
        convert("tiny", tmp_path / "new", samples=[Sample(tmp_path / "absent.wav")])
    with pytest.raises(mlx_kstt.OptionError, match="give only one of them"):
        convert("tiny", tmp_path / "new", quantize="q4", search_target=0.9, **QUIET)


def test_a_tokenizer_of_any_name_is_found_again(tmp_path: Path) -> None:
    source = write_layout(tmp_path / "original", SPECS[0], "original")
    raw = json.loads((source / "config.json").read_text("utf-8"))
    (source / raw["tokenizer_name"]).rename(source / "pieces.spm")
    (source / "config.json").write_text(json.dumps(raw | {"tokenizer_name": "pieces.spm"}), "utf-8")
    with with_codec_of(SPECS[0], "original"):
        convert(source, tmp_path / "out", **QUIET)
    assert mlx_kstt.load(tmp_path / "out").tokenizer.size == SPECS[0].text_card


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import sys, resource, mlx_kstt; from mlx_kstt.convert import convert\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (4_000_000, 4_000_000))\n"
        "try: convert('tiny', sys.argv[1], samples=())\n"
        "except mlx_kstt.CheckpointError as error: print(error)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.stdout.startswith(f"{tmp_path / 'out'} cannot be written (")
    assert result.stdout.endswith("check the disk's space and the folder's permissions, or name another target\n")
    assert list(tmp_path.iterdir()) == []


def test_killed_at_any_moment_the_target_is_whole_or_not_there(tmp_path: Path) -> None:
    source = Path(shutil.copytree(TINY, tmp_path / "source"))
    before = {path.name: path.read_bytes() for path in source.iterdir()}
    program = (
        "import sys; from mlx_kstt.convert import convert; print(flush=True)\n"
        "convert(*sys.argv[1:], quantize='q4', samples=())"
    )
    command = [sys.executable, "-c", program, str(source), str(target := tmp_path / "target")]

    def start() -> subprocess.Popen[bytes]:
        """A conversion that is about to begin."""
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        return process

    process, begin = start(), time.monotonic()
    assert process.wait() == 0
    needed, reference, rng, killed = time.monotonic() - begin, tensors(target), random.Random(7), 0
    for _ in range(100):
        shutil.rmtree(target, ignore_errors=True)
        process = start()
        time.sleep(rng.uniform(0, needed))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        if target.exists():
            found = tensors(target)
            assert all(np.array_equal(found[name], value) for name, value in reference.items())
            assert mlx_kstt.load(target).config.quantization
        assert {path.name: path.read_bytes() for path in source.iterdir()} == before
        if killed == 20:
            break
    assert killed == 20
    shutil.rmtree(target, ignore_errors=True)
    convert(source, target, **QUIET)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"], (
        "leftovers of the killed are cleared"
    )


def test_ctrl_c_leaves_nothing(tmp_path: Path) -> None:
    program = (
        "import os, signal, sys, threading; from mlx_kstt.convert import convert\n"
        "threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        "try:\n    while True: convert('tiny', sys.argv[1], quantize='q4', samples=(), force=True)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    result = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "out")], capture_output=True, text=True, timeout=60
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "interrupted\n", "")
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    if (tmp_path / "out").exists():
        mlx_kstt.load(tmp_path / "out")


def test_memory_is_the_output_and_twice_the_largest_tensor(tmp_path: Path) -> None:
    """Peak of MLX's memory while converting a model of 60 MB, above what was there before."""
    source, largest = write_wide_model(tmp_path / "source")
    program = (
        "import sys, mlx_kstt, mlx.core as mx; from mlx_kstt.convert import convert\n"
        "mx.set_cache_limit(0); mx.reset_peak_memory()\n"
        "convert(sys.argv[1], sys.argv[2], quantize='q4', samples=()); print(mx.get_peak_memory())"
    )
    command = [sys.executable, "-c", program, str(source), str(tmp_path / "out")]
    peak = int(subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout)
    output = (tmp_path / "out" / "model.safetensors").stat().st_size
    assert peak <= output + 2 * largest
