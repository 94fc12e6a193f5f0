"""Fetching checkpoints from a hub on this machine."""

from __future__ import annotations

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, use_hub

from mlx_kstt import hub as kstt_hub
from mlx_kstt.checkpoints import BUNDLED
from mlx_kstt.errors import HubError
from mlx_kstt.hub import fetch, needed_files

NAME = "kyutai/stt-1b-en_fr-candle"


def as_json(value: object) -> bytes:
    return json.dumps(value).encode()


MIMI, TOKENIZER = "mimi-pytorch-e351c8d8@125.safetensors", "tokenizer_en_fr_audio_8000.model"
NEVER = {
    "README.md": b"# no",
    ".gitattributes": b"no",
    "pytorch_model.bin": b"pickle",
    "other.safetensors": b"no",
    "a.wav": b"RIFF",
}
ORIGINAL = {
    "config.json": as_json({"model_type": "stt", "mimi_name": MIMI, "tokenizer_name": TOKENIZER}),
    "model.safetensors": bytes(range(256)) * 800,
    MIMI: b"m" * 30_000,
    TOKENIZER: b"t" * 500,
}
TRANSFORMERS = {
    "config.json": as_json({"model_type": "kyutai_speech_to_text"}),
    "preprocessor_config.json": b'{"sampling_rate": 24000}',
    "tokenizer.json": b"{}",
    "model.safetensors": b"w" * 1000,
}
OWN = {"config.json": as_json({"format": "mlx_kstt"}), "model.safetensors": b"w" * 9, "tokenizer.model": b"t"}
INDEX = as_json({"weight_map": {"a": "model-2.safetensors", "b": "model-1.safetensors", "c": "model-2.safetensors"}})
SHARDS = {"model.safetensors.index.json": INDEX, "model-1.safetensors": b"1" * 20, "model-2.safetensors": b"2" * 30}


def without(files: dict[str, bytes], *names: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if name not in names}


LAYOUTS = {
    "original": ORIGINAL,
    "moshi_name": {
        **without(ORIGINAL, "model.safetensors"),
        "config.json": as_json({"mimi_name": MIMI, "tokenizer_name": TOKENIZER, "moshi_name": "model.q4.safetensors"}),
        "model.q4.safetensors": b"q" * 70,
    },
    "transformers": TRANSFORMERS,
    "transformers, sharded": {**without(TRANSFORMERS, "model.safetensors"), **SHARDS},
    "transformers, with heads and tokenizer.model": {
        **without(TRANSFORMERS, "tokenizer.json"),
        "tokenizer.model": b"t",
        "extra_heads.safetensors": b"h" * 40,
    },
    "transformers, without a preprocessor": without(TRANSFORMERS, "preprocessor_config.json"),
    "own": OWN,
    "own, sharded": {**without(OWN, "model.safetensors"), **SHARDS},
}


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub sleeps between its retries
    with FakeHub() as server:
        use_hub(monkeypatch, server.endpoint, tmp_path / "home")
        yield server


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def failure(*args: object, **options: object) -> str:
    """The one sentence of the HubError that fetching raises."""
    with pytest.raises(HubError) as caught:
        fetch(*args, **{"announce": lambda line: None, **options})  # pyright: ignore[reportArgumentType]
    message = str(caught.value)
    assert "\n" not in message and not message.endswith(".")
    return message


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_gets_its_files_and_no_other(hub: FakeHub, layout: str) -> None:
    files = LAYOUTS[layout]
    repo = hub.add(NAME, files | NEVER)
    folder = fetch(NAME, announce=lambda line: None)
    assert folder.name == repo.commit
    assert contents(folder) == files
    assert sorted(hub.downloads()) == sorted(files)


def test_the_bundled_model_is_of_our_own_layout() -> None:
    folder = BUNDLED["tiny"]
    held = [path.name for path in folder.iterdir()]
    names = needed_files(lambda name: json.loads((folder / name).read_bytes()), held, "tiny")
    assert sorted(names) == sorted(held)


def test_whole_weights_win_over_shards_and_tokenizer_json_over_the_model(hub: FakeHub) -> None:
    hub.add(NAME, TRANSFORMERS | SHARDS | {"tokenizer.model": b"t"})
    assert contents(fetch(NAME, announce=lambda line: None)) == TRANSFORMERS


def test_the_size_is_announced_before_anything_large_is_fetched(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL | NEVER)
    heard: list[tuple[str, list[str]]] = []
    fetch(NAME, announce=lambda line: heard.append((line, hub.downloads())))
    assert heard == [(f"Fetching {NAME}: 235.3 kB in 3 files", ["config.json"])]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_cached_checkpoint_needs_no_network(hub: FakeHub, layout: str) -> None:
    hub.add(NAME, LAYOUTS[layout] | NEVER)
    folder = fetch(NAME, announce=lambda line: None)
    hub.requests.clear()
    assert fetch(NAME, announce=pytest.fail) == folder
    assert fetch(NAME, revision=folder.name, offline=True, announce=pytest.fail) == folder
    assert hub.requests == []


def test_a_cached_checkpoint_loads_with_the_hub_down(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with FakeHub() as server:
        use_hub(monkeypatch, server.endpoint, tmp_path)
        server.add(NAME, ORIGINAL)
        folder = fetch(NAME, announce=lambda line: None)
        endpoint = server.endpoint
    assert fetch(NAME, announce=pytest.fail) == folder
    assert "cannot be fetched from" in (message := failure("kyutai/other")) and endpoint in message
    assert "or name a local folder" in message


@pytest.mark.parametrize("lost", [MIMI, TOKENIZER, "model.safetensors"])
def test_a_partly_cached_checkpoint_is_completed(hub: FakeHub, lost: str) -> None:
    hub.add(NAME, ORIGINAL)
    folder = fetch(NAME, announce=lambda line: None)
    (folder / lost).resolve().unlink()
    hub.requests.clear()
    lines: list[str] = []
    assert fetch(NAME, announce=lines.append) == folder
    assert contents(folder) == ORIGINAL
    assert (hub.downloads(), len(lines)) == ([lost], 1)
    assert "1 file" in lines[0] and "1 files" not in lines[0]


def test_an_interrupted_download_is_completed(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL)
    hub.failures["model.safetensors"] = 503
    assert "503" in (message := failure(NAME)) and "try again later" in message
    assert "run once online" in failure(NAME, offline=True)
    hub.failures.clear()
    assert contents(fetch(NAME, announce=lambda line: None)) == ORIGINAL


def test_a_connection_that_keeps_breaking(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL)
    hub.breaks[MIMI] = 1000
    assert "check the network connection" in failure(NAME)
    hub.breaks.clear()
    assert contents(fetch(NAME, announce=lambda line: None)) == ORIGINAL


def test_files_unchanged_since_another_commit_are_not_counted(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL)
    fetch(NAME, announce=lambda line: None)
    hub.add(NAME, ORIGINAL | {TOKENIZER: b"new"}, revision="v2")
    hub.requests.clear()
    lines: list[str] = []
    folder = fetch(NAME, revision="v2", announce=lines.append)
    assert lines == [f"Fetching {NAME}: 3 bytes in 1 file"]
    assert hub.downloads() == [TOKENIZER]
    assert contents(folder) == ORIGINAL | {TOKENIZER: b"new"}


@pytest.mark.parametrize("by_environment", [False, True])
def test_offline_never_touches_the_network(hub: FakeHub, monkeypatch: pytest.MonkeyPatch, by_environment: bool) -> None:
    hub.add(NAME, ORIGINAL)
    if by_environment:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    message = failure(NAME, offline=not by_environment)
    assert "run once online" in message and "local folder" in message
    assert hub.requests == []


def test_an_unknown_repository(hub: FakeHub) -> None:
    message = failure("kyutai/no-such-model")
    assert "no public model kyutai/no-such-model" in message and "hf auth login" in message


def test_an_unknown_revision(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL)
    assert "no revision 'v9'" in failure(NAME, revision="v9")


def test_a_gated_repository(hub: FakeHub) -> None:
    hub.add(NAME, ORIGINAL, gated=True)
    assert f"accept its terms at {hub.endpoint}/{NAME}" in failure(NAME)


@pytest.mark.parametrize("name", ["no spaces please", "a/b/c", "kyutai/", "..", "kyutai/../x"])
def test_a_malformed_name_asks_nobody(hub: FakeHub, name: str) -> None:
    assert f"{name!r} is neither a local folder nor a repository" in failure(name)
    assert hub.requests == []


@pytest.mark.parametrize(
    ("status", "advice"), [(500, "try again later"), (429, "try again later"), (418, "hf auth whoami")]
)
def test_an_answer_that_is_an_error(hub: FakeHub, status: int, advice: str) -> None:
    hub.add(NAME, ORIGINAL)
    hub.failures[NAME] = status
    assert f"HTTP status {status}" in (message := failure(NAME)) and advice in message


@pytest.mark.parametrize(
    ("files", "lacking"),
    [
        (NEVER, "config.json"),
        (without(ORIGINAL, MIMI), MIMI),
        (without(ORIGINAL, TOKENIZER, "model.safetensors"), f"{TOKENIZER}, model.safetensors"),
        (without(TRANSFORMERS, "tokenizer.json"), "tokenizer.json"),
        (without(OWN, "model.safetensors") | without(SHARDS, "model-2.safetensors"), "model-2.safetensors"),
    ],
)
def test_what_a_repository_lacks_is_named(hub: FakeHub, files: dict[str, bytes], lacking: str) -> None:
    hub.add(NAME, files)
    assert f"it lacks {lacking}:" in failure(NAME)
    assert not [name for name in hub.downloads() if name.endswith(".safetensors")]


@pytest.mark.parametrize("config", [{"model_type": "llama"}, {}, {"mimi_name": MIMI}])
def test_another_kind_of_model_is_refused_before_its_weights(hub: FakeHub, config: dict[str, str]) -> None:
    hub.add(NAME, ORIGINAL | {"config.json": as_json(config)})
    assert f"{config.get('model_type')!r}" in failure(NAME)
    assert hub.downloads() == ["config.json"]


@pytest.mark.parametrize("content", [b"", b"[1]", b"\xff\xfe", b"version https://git-lfs"])
def test_a_config_that_is_not_json(hub: FakeHub, content: bytes) -> None:
    hub.add(NAME, ORIGINAL | {"config.json": content})
    assert "config.json of kyutai/stt-1b-en_fr-candle is not a JSON object" in failure(NAME)


@pytest.mark.parametrize(
    "name", ["../../../.ssh/id.model", "/etc/passwd.model", "a\\..\\b.model", "", 7, None, "x.bin"]
)
def test_an_unsafe_name_in_the_config_is_refused(hub: FakeHub, name: object) -> None:
    hub.add(NAME, ORIGINAL | {"config.json": as_json({"mimi_name": MIMI, "tokenizer_name": name})})
    assert f"names the file {name!r}" in failure(NAME)
    assert hub.downloads() == ["config.json"]


@pytest.mark.parametrize(
    "weight_map", [None, ["x"], {"a": "../x.safetensors"}, {"a": 1, "b": "x.safetensors"}, {"a": "x.bin"}]
)
def test_an_unsafe_weight_index_is_refused(hub: FakeHub, weight_map: object) -> None:
    index = {"model.safetensors.index.json": as_json({"weight_map": weight_map})}
    hub.add(NAME, without(OWN, "model.safetensors") | index)
    assert "use another checkpoint" in failure(NAME)


def test_a_disk_that_is_too_small_is_noticed_first(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add(NAME, ORIGINAL)
    usage = type("Usage", (), {"free": 100_000})
    monkeypatch.setattr(kstt_hub.shutil, "disk_usage", lambda folder: usage)
    message = failure(NAME, announce=pytest.fail)
    assert "needs 235.3 kB" in message and "has 100.0 kB left" in message and "HF_HOME" in message


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "is full: free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "/cache/blobs"), "set HF_HOME to another folder"),
        (OSError(errno.EFBIG, "File too large"), "set HF_HOME to another folder"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "check the network connection"),
        (RuntimeError("hf_xet: connection reset"), "check the network connection"),
    ],
)
def test_what_goes_wrong_while_downloading(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    import huggingface_hub

    def broken(*args: object, **options: object) -> str:
        raise error

    hub.add(NAME, ORIGINAL)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", broken)
    assert expected in failure(NAME)
