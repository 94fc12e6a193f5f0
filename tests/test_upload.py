"""Uploading folders to a hub on this machine, without Xet: what arrives, what it becomes, and what is said instead."""

from __future__ import annotations

import errno
import hashlib
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_hub import FakeHub, use_hub
from fake_hub_uploads import ATTRIBUTES, OWNER, TOKEN

from mlx_kstt.checkpoints import BUNDLED
from mlx_kstt.errors import HubError
from mlx_kstt.hub import fetch
from mlx_kstt.upload import check_upload, upload

NAME = f"{OWNER}/stt-tiny-q4"
CARD = b"---\nlibrary_name: mlx_kstt\n---\n# A model\n"
FILES = {
    "README.md": CARD,
    "config.json": b'{"format": "mlx_kstt"}',
    "model.safetensors": bytes(range(256)) * 20,
    "tokenizer.model": b"\0\1pieces",
}
# The library uses its HTTP library in a way that is deprecated there.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    """A hub that knows us."""
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # huggingface_hub sleeps between its retries
    with FakeHub() as server:
        use_hub(monkeypatch, server.endpoint, tmp_path / "home")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        yield server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a checkpoint looks like from outside."""
    folder = tmp_path / "checkpoint"
    folder.mkdir()
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def publish(folder: Path, repo: str = NAME) -> str:
    return upload(folder, repo, lambda line: None)


def failure(folder: Path, repo: str = NAME) -> str:
    """The one sentence of the HubError that uploading raises."""
    with pytest.raises(HubError) as caught:
        publish(folder, repo)
    message = str(caught.value)
    assert "\n" not in message and not message.endswith(".")
    return message


def sent(hub: FakeHub) -> list[str]:
    return [path for method, path in hub.requests if method in ("POST", "PUT")]


def test_a_folder_arrives_byte_for_byte(hub: FakeHub, folder: Path) -> None:
    assert publish(folder) == f"{hub.endpoint}/{NAME}"
    assert hub.repos[NAME, "main"].files == FILES | ATTRIBUTES
    assert list(hub.large.values()) == [FILES["model.safetensors"]]
    assert contents(folder) == FILES


def test_the_round_trip_of_the_bundled_model(hub: FakeHub) -> None:
    publish(BUNDLED["tiny"])
    fetched = fetch(NAME, announce=lambda line: None)
    assert contents(fetched) == contents(BUNDLED["tiny"])


def test_the_size_is_announced_before_anything_is_sent(hub: FakeHub, folder: Path) -> None:
    heard: list[tuple[str, list[str]]] = []
    upload(folder, NAME, lambda line: heard.append((line, sent(hub))))
    assert heard == [(f"Uploading 5.2 kB in 4 files to {hub.endpoint}/{NAME}", [])]


def test_what_is_there_already_is_not_sent_again(hub: FakeHub, folder: Path) -> None:
    publish(folder)
    before = hub.repos[NAME, "main"]
    hub.requests.clear()
    assert publish(folder) == f"{hub.endpoint}/{NAME}"
    assert hub.repos[NAME, "main"] == before
    assert not [path for path in sent(hub) if path.startswith("/large/") or "/commit/" in path]


def test_weights_of_an_earlier_upload_go_and_other_files_stay(hub: FakeHub, folder: Path) -> None:
    """A loader would prefer model.safetensors to new shards, and tokenizer.json to a new tokenizer.model."""
    notes = {"notes.md": b"mine", "notes.json": b"{}"}
    hub.add(NAME, {"model.safetensors": b"old", "tokenizer.json": b"{}", "config.json": b"{}"} | notes | ATTRIBUTES)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model-00002-of-00002.safetensors").write_bytes(b"more")
    (folder / "model.safetensors.index.json").write_text("{}")
    publish(folder)
    assert hub.repos[NAME, "main"].files == contents(folder) | notes | ATTRIBUTES
    for path in folder.glob("model*"):
        path.unlink()
    (folder / "model.safetensors").write_bytes(b"whole again")
    publish(folder)
    assert hub.repos[NAME, "main"].files == contents(folder) | notes | ATTRIBUTES


def test_an_interrupted_upload_is_completed(hub: FakeHub, folder: Path) -> None:
    hub.failures["/commit/main"] = 500
    assert "500" in failure(folder)
    assert hub.repos[NAME, "main"].files == ATTRIBUTES
    hub.failures.clear()
    hub.requests.clear()
    publish(folder)
    assert hub.repos[NAME, "main"].files == FILES | ATTRIBUTES
    assert not [path for path in sent(hub) if path.startswith("/large/")]


def test_without_a_token_nobody_is_asked(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_TOKEN")
    assert failure(folder) == (
        f"{NAME} cannot be uploaded without a token: log in with `hf auth login` or set HF_TOKEN"
    )
    with pytest.raises(HubError, match="without a token"):
        check_upload(NAME)
    assert hub.requests == []


def test_a_token_that_was_saved_by_a_login(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    Path(constants.HF_TOKEN_PATH).parent.mkdir(parents=True, exist_ok=True)
    Path(constants.HF_TOKEN_PATH).write_text(TOKEN)
    publish(folder)
    assert hub.repos[NAME, "main"].files == FILES | ATTRIBUTES


@pytest.mark.parametrize("name", ["tiny", "a/b/c", "me/", "me/two words", "../tiny", "me/x--y", "me/x.git", ""])
def test_a_malformed_name_asks_nobody(hub: FakeHub, folder: Path, name: str) -> None:
    expected = f"{name!r} cannot be the name of a repository on the hub: name one as owner/name"
    assert failure(folder, name) == expected
    assert hub.requests == []


def test_a_token_that_the_hub_does_not_know(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_outdated")
    assert f"{hub.endpoint} does not accept the token" in (message := failure(folder))
    assert "`hf auth login`" in message


@pytest.mark.parametrize("exists", [False, True])
def test_a_repository_of_somebody_else(hub: FakeHub, folder: Path, exists: bool) -> None:
    files = {"model.safetensors": b"theirs"}
    if exists:
        hub.add("kyutai/stt", files)
    assert "your token may not write to kyutai/stt" in (message := failure(folder, "kyutai/stt"))
    assert "`hf auth whoami`" in message
    assert [repo.files for (name, _), repo in hub.repos.items() if name == "kyutai/stt"] == [files] * 2 * exists


@pytest.mark.parametrize("end", ["/repos/create", "/preupload/main", "/batch", "/commit/main"])
@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_hub_in_trouble(hub: FakeHub, folder: Path, end: str, status: int) -> None:
    hub.failures[end] = status
    message = failure(folder)
    assert f"HTTP status {status}: try again later" in message
    assert message.endswith(f"or upload it later with `hf upload {NAME} {folder}`")


def test_a_large_file_that_does_not_arrive(hub: FakeHub, folder: Path) -> None:
    """The library raises this from a thread of its own, wrapped."""
    hub.failures[hashlib.sha256(FILES["model.safetensors"]).hexdigest()] = 503
    assert "HTTP status 503: try again later" in failure(folder)


def test_a_hub_that_is_gone(tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)
    with FakeHub() as server:
        endpoint = server.endpoint
    use_hub(monkeypatch, endpoint, tmp_path)
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    assert failure(folder).startswith(f"{NAME} cannot be uploaded to {endpoint} (")
    assert "check the network connection" in failure(folder)


def test_a_network_that_is_switched_off(hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "with the network switched off: unset HF_HUB_OFFLINE" in failure(folder)
    assert hub.requests == []


def test_a_card_that_the_hub_refuses(hub: FakeHub, folder: Path) -> None:
    (folder / "README.md").write_text("---\ntags:\n\t- mlx\n---\n")
    message = failure(folder)
    assert "Invalid metadata in README.md" in message and "tabs must not be used" in message
    assert hub.repos[NAME, "main"].files == ATTRIBUTES


@pytest.mark.parametrize("status", [400, 413])
def test_a_request_that_the_hub_refuses(hub: FakeHub, folder: Path, status: int) -> None:
    hub.failures["/commit/main"] = status
    assert f"refuses {NAME} with HTTP status {status}" in failure(folder)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (PermissionError("token refresh failed"), "your token may not write"),  # XetAuthenticationError is one
        (PermissionError(errno.EACCES, "Permission denied", "/x/model.safetensors"), "/x/model.safetensors cannot be"),
        (RuntimeError("hf_xet: connection reset"), "(hf_xet: connection reset): check the network connection"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "check the network connection"),
    ],
)
def test_what_goes_wrong_while_uploading(
    hub: FakeHub, folder: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, expected: str
) -> None:
    import huggingface_hub

    def broken(*args: object, **options: object) -> None:
        raise error

    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", broken)
    assert expected in failure(folder)
