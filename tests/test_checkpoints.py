"""Bad checkpoints are refused with one sentence that says what is wrong; our own layout and odd folders load."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from conftest import PACKAGE
from layouts import SPECS, write_layout
from loading import load_layout
from mlx.utils import tree_flatten
from safetensors.numpy import load_file, save_file
from vocabularies import write_sentencepiece

import mlx_kstt
from mlx_kstt.config import FORMAT, VERSION, SttConfig
from mlx_kstt.mlx_thread import on_mlx_thread

TINY = PACKAGE / "bundled" / "tiny"
SPEC = SPECS[0]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    """A copy of the bundled checkpoint, in our own layout."""
    return Path(shutil.copytree(TINY, tmp_path / "own"))


@pytest.fixture
def trfs(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "trfs", SPEC, "trfs")


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write_layout(tmp_path / "original", SPEC, "original")


def edit_json(path: Path, **changes: object) -> None:
    """Set keys; None removes one."""
    raw = json.loads(path.read_text("utf-8")) | changes
    path.write_text(json.dumps({key: value for key, value in raw.items() if value is not None}), "utf-8")


def edit_tensors(path: Path, edit: Callable[[dict[str, np.ndarray]], object]) -> None:
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path)


def refusal(folder: Path, **options: Any) -> str:
    """The one sentence with which a folder is refused."""
    with pytest.raises(mlx_kstt.CheckpointError) as caught:
        mlx_kstt.load(folder, **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_an_empty_folder(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{tmp_path} lacks config.json: fetch it again"


def test_no_such_folder(tmp_path: Path) -> None:
    message = refusal(tmp_path / "nothing")
    assert message == f"{tmp_path / 'nothing'} is no folder, no hub repo (owner/name) and no bundled model (tiny)"


def test_a_file_instead_of_its_folder(own: Path) -> None:
    assert refusal(own / "config.json").endswith("config.json is a file; give the folder that holds the checkpoint")


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_config_that_is_no_json_object(own: Path, content: bytes) -> None:
    (own / "config.json").write_bytes(content)
    assert "config.json is not" in refusal(own)


@pytest.mark.parametrize("keep", [0, 5, 1000, -1])
def test_truncated_weights(own: Path, keep: int) -> None:
    path = own / "model.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    assert "model.safetensors is truncated or no safetensors file" in refusal(own)


def test_missing_weights(own: Path) -> None:
    (own / "model.safetensors").unlink()
    assert refusal(own) == f"{own} lacks model.safetensors: fetch it again"


def test_only_a_pickle(own: Path) -> None:
    (own / "model.safetensors").rename(own / "pytorch_model.bin")
    assert refusal(own).endswith(
        "holds only pytorch_model.bin, which can run code when opened: get the checkpoint as safetensors"
    )


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_pickle_under_the_name_of_safetensors_is_not_run(own: Path, protocol: int) -> None:
    trap = own / "sprung"
    (own / "model.safetensors").write_bytes(pickle.dumps(_Trap(str(trap)), protocol))
    assert "is a pickle, which can run code when opened" in refusal(own)
    assert not trap.exists()


class _Trap:
    def __init__(self, path: str) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (self.path, "w")


def test_every_missing_extra_and_misshapen_tensor_is_named(trfs: Path) -> None:
    def edit(tensors: dict[str, np.ndarray]) -> None:
        del tensors["model.norm.weight"], tensors["codec_model.downsample.conv.weight"]
        tensors["stray.one"] = tensors["stray.two"] = np.zeros(3, np.float32)
        tensors["lm_head.weight"] = tensors["lm_head.weight"][:, 1:].copy()

    shape = load_file(trfs / "model.safetensors")["lm_head.weight"].shape
    edit_tensors(trfs / "model.safetensors", edit)
    assert refusal(trfs) == (
        f"{trfs} does not hold the tensors that its config.json asks for: "
        "it lacks codec_model.downsample.conv.weight, model.norm.weight; has unknown stray.one, stray.two; "
        f"has misshapen lm_head.weight [{shape[0]}, {shape[1] - 1}] instead of [{shape[0]}, {shape[1]}]"
    )


def test_our_own_layout_is_as_strict(own: Path) -> None:
    edit_tensors(own / "model.safetensors", lambda tensors: tensors.pop("decoder.norm.weight"))
    assert refusal(own).endswith("it lacks decoder.norm.weight")


@pytest.mark.parametrize("name", ["decoder.stray.weight", "upsample.x", "codec.stray"])
def test_our_own_layout_holds_nothing_that_may_be_ignored(own: Path, name: str) -> None:
    edit_tensors(own / "model.safetensors", lambda tensors: tensors.update({name: np.zeros(3, np.float32)}))
    assert refusal(own).endswith(f"it has unknown {name}")


def test_types_that_are_no_weights(own: Path) -> None:
    edit_tensors(own / "model.safetensors", lambda tensors: tensors.update({"x": np.zeros(3, np.int8)}))
    assert "has tensors of types other than F32, F16, BF16, U32, U8: x I8" in refusal(own)


def test_the_tokenizer_of_another_model(own: Path, tmp_path: Path) -> None:
    write_sentencepiece(own / "tokenizer.model", 301, "unigram")
    assert refusal(own).endswith("tokenizer.model has 301 pieces, but the model writes 512: fetch its own")


def test_no_weight_is_a_transposed_view(tmp_path: Path) -> None:
    """MLX would copy it whenever a convolution reads it."""
    for layout in ("candle", "trfs"):
        model = load_layout(write_layout(tmp_path / layout, SPEC, layout), SPEC)._engine

        @on_mlx_thread
        def views(model: Any = model) -> list[str]:
            parameters = [*tree_flatten(model._codec.parameters()), *tree_flatten(model._decoder.parameters())]
            return [name for name, x in parameters if not memoryview(cast("Any", x)).c_contiguous]

        assert views() == []


def test_one_pause_head_decides_where_there_is_one(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "candle", SPEC, "candle")
    edit_tensors(folder / "model.safetensors", lambda t: [t.pop(f"extra_heads.{h}.weight") for h in (1, 2, 3)])
    config = load_layout(folder, SPEC).config
    assert (config.decoder.pause_heads, config.pause_head) == (1, 0)


def test_the_rope_base_where_a_config_does_not_say(trfs: Path) -> None:
    edit_json(trfs / "config.json", rope_parameters=None, rope_theta=None)
    assert mlx_kstt.load(trfs).config.decoder.transformer.rope_base == 100_000.0


def test_a_missing_shard(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "trfs-sharded", SPEC, "trfs-sharded")
    shard = sorted(folder.glob("model-*.safetensors"))[1]
    shard.unlink()
    assert refusal(folder) == f"{folder} lacks {shard.name}: fetch it again"


def test_a_tensor_in_two_shards(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "trfs-sharded", SPEC, "trfs-sharded")
    first, second = sorted(folder.glob("model-*.safetensors"))[:2]
    name, value = next(iter(load_file(first).items()))
    edit_tensors(second, lambda tensors: tensors.update({name: value}))
    assert f"repeats tensors of another file of the checkpoint: {name}" in refusal(folder)


def test_names_that_lead_out_of_the_folder(original: Path) -> None:
    edit_json(original / "config.json", mimi_name="../mimi.safetensors")
    assert refusal(original) == f"{original} names a file outside of itself: ../mimi.safetensors"


def test_another_kind_of_model(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    save_file({"model.layers.0.mlp.up_proj.weight": np.zeros((2, 2), np.float32)}, tmp_path / "model.safetensors")
    assert "is no Kyutai speech-to-text checkpoint of a known layout" in refusal(tmp_path)


def test_a_checkpoint_quantised_elsewhere(original: Path) -> None:
    edit_tensors(original / "model.safetensors", lambda tensors: tensors.update({"x.scales": np.zeros(1, np.float32)}))
    assert "was quantised by another program" in refusal(original)


@pytest.mark.parametrize(
    ("layout", "key", "value", "message"),
    [
        ("trfs", "hidden_size", None, "config.json lacks hidden_size"),
        ("trfs", "hidden_act", "gelu", "config.json has hidden_act 'gelu'; only 'silu' is supported"),
        ("trfs", "num_key_value_heads", 1, "config.json has num_key_value_heads 1; only"),
        ("trfs", "codec_config", {"upsampling_ratios": [8, 6, 5]}, "make frames of 480 samples"),
        ("original", "dim", None, "config.json lacks dim"),
        ("original", "cross_attention", True, "config.json has cross_attention True; only False is supported"),
        ("original", "norm", "layer_norm", "config.json has norm 'layer_norm'"),
        ("original", "delays", [0, 1, 1], "config.json has delays [0, 1, 1]; only streams that are not delayed"),
        ("trfs", "rope_parameters", {"rope_type": "linear", "factor": 8}, "rope_parameters has rope_type 'linear'"),
    ],
)
def test_configs_that_are_not_implemented(tmp_path: Path, layout: str, key: str, value: object, message: str) -> None:
    folder = write_layout(tmp_path / layout, SPEC, layout)
    edit_json(folder / "config.json", **{key: value})
    assert message in refusal(folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surprise": 1}, "config.json has unknown keys: surprise"),
        ({"delay": None}, "config.json lacks delay"),
        (
            {"version": VERSION + 1},
            f"config.json has version {VERSION + 1}; this package reads {VERSION}: update mlx_kstt",
        ),
        ({"decoder": {"vocabulary": 3}}, "config.json lacks decoder.transformer.context"),
    ],
)
def test_our_own_config_is_read_strictly(own: Path, changes: dict[str, object], message: str) -> None:
    edit_json(own / "config.json", **changes)
    assert message in refusal(own)


def test_our_own_config_goes_there_and_back() -> None:
    raw = json.loads((TINY / "config.json").read_text("utf-8"))
    assert raw["format"] == FORMAT
    assert json.loads(json.dumps(SttConfig.from_dict(raw).to_dict())) == raw


def test_missing_and_damaged_tokenizers(own: Path) -> None:
    (own / "tokenizer.model").write_bytes(b"nothing of the kind")
    assert "tokenizer.model is not a SentencePiece model" in refusal(own)
    (own / "tokenizer.model").rename(own / "tokenizer.json")
    assert "tokenizer.json is not a tokenizer.json" in refusal(own)
    (own / "tokenizer.json").unlink()
    assert "lacks its tokenizer (tokenizer.json or tokenizer.model)" in refusal(own)


def test_delay_and_prefix_must_be_known(original: Path, trfs: Path) -> None:
    edit_json(original / "config.json", stt_config=None)
    with pytest.raises(
        mlx_kstt.CheckpointError, match="does not state its audio_delay_seconds: give delay= in seconds"
    ):
        load_layout(original, SPEC)
    (trfs / "preprocessor_config.json").unlink()
    assert "audio_delay_seconds: give delay=" in refusal(trfs)
    assert "audio_silence_prefix_seconds: give prefix=" in refusal(trfs, delay=1.0)
    config = mlx_kstt.load(trfs, delay=1.0, prefix=0.25).config
    assert (config.delay, config.prefix) == (1.0, 0.25)


def test_delay_and_prefix_as_transformers_5_writes_them(trfs: Path) -> None:
    (trfs / "preprocessor_config.json").unlink()
    extractor = {"audio_delay_seconds": 0.75, "audio_silence_prefix_seconds": 0.125}
    (trfs / "processor_config.json").write_text(json.dumps({"feature_extractor": extractor}))
    config = mlx_kstt.load(trfs).config
    assert (config.delay, config.prefix) == (0.75, 0.125)


def test_an_existing_folder_wins_over_a_keyword(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(TINY, "tiny")
    edit_json(Path("tiny/config.json"), delay=0.25)
    assert mlx_kstt.load("tiny").config.delay == 0.25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dtype": "int8"}, "dtype is 'int8'; it must be one of float32, bfloat16, float16"),
        ({"delay": -1}, "delay is -1; it must be between 0 and 60 seconds"),
        ({"prefix": float("nan")}, "prefix is nan; it must be between 0 and 60 seconds"),
    ],
)
def test_impossible_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(mlx_kstt.OptionError, match=message):
        mlx_kstt.load("tiny", **options)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_decoder_takes_the_dtype_and_the_codec_stays_float32(dtype: str, recordings) -> None:
    stt = mlx_kstt.load("tiny", dtype=dtype)
    sound = recordings[0].sound()
    exact = mlx_kstt.load("tiny", dtype="float32")
    assert np.array_equal(stt.encode(sound), exact.encode(sound))
    codes = exact.encode(sound)
    text = exact.generate(codes=codes)[:-1]
    logits, rounded = exact.forward(codes, text), stt.forward(codes, text)
    error = np.abs(logits - rounded).max() / np.abs(logits).max()
    assert 1e-5 < error < 0.05
    assert stt.transcribe(recordings[0].path).text == recordings[0].reference_text


def test_pause_heads_come_with_their_tensors_whatever_the_config_says(tmp_path: Path) -> None:
    folder = write_layout(tmp_path / "candle", SPEC, "candle")
    edit_json(folder / "config.json", extra_heads_num_heads=None, extra_heads_dim=None)
    assert load_layout(folder, SPEC).config.decoder.pause_heads == 4
