"""A model hub on 127.0.0.1: the few answers of the real one that huggingface_hub asks for.

In: repositories as dictionaries of file contents. Out: a list of the requests that came, and the repositories with what
was uploaded (see fake_hub_uploads.py). Knows nothing of checkpoints.
"""

from __future__ import annotations

import hashlib
import sys
import threading
from dataclasses import dataclass, field
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from fake_hub_uploads import LARGE, UploadHandler

_UNWANTED = (
    "HF_HUB_OFFLINE",
    "TRANSFORMERS_OFFLINE",
    "HF_HUB_CACHE",
    "HUGGINGFACE_HUB_CACHE",
    "HF_TOKEN",
    "HUGGING_FACE_HUB_TOKEN",
    "HF_TOKEN_PATH",
)


@dataclass(frozen=True)
class FakeRepo:
    """One revision of one repository; the real hub stores files that end in LARGE by their SHA-256."""

    commit: str
    revision: str
    files: dict[str, bytes]
    gated: bool = False

    def etag(self, name: str) -> str:
        content = self.files[name]
        if name.endswith(LARGE):
            return hashlib.sha256(content).hexdigest()
        return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()

    def sibling(self, name: str) -> dict[str, object]:
        size = len(self.files[name])
        large = {"lfs": {"size": size, "sha256": self.etag(name), "pointerSize": 134}} if name.endswith(LARGE) else {}
        return {"rfilename": name, "size": size, "blobId": self.etag(name), **large}

    def entry(self, name: str) -> dict[str, object]:
        """The same facts as they stand in a listing of the repository's tree."""
        size = len(self.files[name])
        large = {"lfs": {"size": size, "oid": self.etag(name), "pointerSize": 134}} if name.endswith(LARGE) else {}
        return {"type": "file", "path": name, "size": size, "oid": self.etag(name), **large}


@dataclass
class FakeHub:
    """The server; use it as a context manager.

    Attributes:
        requests: (method, path) of every request so far.
        large: contents of uploaded large files by their SHA-256, committed or not.
        failures: the end of a path -> the HTTP status to answer instead.
        breaks: the end of a path -> how many times more to close the connection in the middle of its contents.
    """

    repos: dict[tuple[str, str], FakeRepo] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    large: dict[str, bytes] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    breaks: dict[str, int] = field(default_factory=dict)

    def __enter__(self) -> FakeHub:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def add(self, name: str, files: dict[str, bytes], *, revision: str = "main", gated: bool = False) -> FakeRepo:
        commit = hashlib.sha1(repr((name, sorted(files.items()))).encode()).hexdigest()
        repo = FakeRepo(commit, revision, files, gated)
        self.repos |= {(name, revision): repo, (name, commit): repo}
        return repo

    def downloads(self) -> list[str]:
        """Names of the files whose contents were asked for, in order."""
        return [
            path.split("/resolve/")[1].split("/", 1)[1]
            for method, path in self.requests
            if method == "GET" and "/resolve/" in path
        ]

    def failure(self, path: str) -> int | None:
        return next((status for end, status in self.failures.items() if path.endswith(end)), None)

    def breaks_now(self, path: str) -> bool:
        for end, times in self.breaks.items():
            if path.endswith(end) and times:
                self.breaks[end] -= 1
                return True
        return False


class _Handler(UploadHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def do_PUT(self) -> None:
        self._answer()

    def log_message(self, format: str, *args: object) -> None:
        """Silence: `FakeHub.requests` is the log."""

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append((self.command, path))
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if status := self.hub.failure(path):
            self.send(status, b"")
        elif self.command in ("POST", "PUT"):
            self.take(path, body)
        elif "/tree/" in path:
            self._tree(*path.removeprefix("/api/models/").split("/tree/"))
        elif path.startswith("/api/models/"):
            self._model_info(path.removeprefix("/api/models/"))
        else:
            name, _, rest = path.removeprefix("/").partition("/resolve/")
            revision, _, file = rest.partition("/")
            self._file(name, revision, file)

    def _model_info(self, path: str) -> None:
        name, _, revision = path.partition("/revision/")
        if repo := self._repo(name, revision or "main"):
            siblings = [repo.sibling(file) for file in sorted(repo.files)]
            self.send_json({"id": name, "sha": repo.commit, "siblings": siblings})

    def _tree(self, name: str, revision: str) -> None:
        if repo := self._repo(name, revision):
            self.send_json([repo.entry(file) for file in sorted(repo.files)])

    def _file(self, name: str, revision: str, file: str) -> None:
        repo = self._repo(name, revision)
        if repo is None:
            return
        if repo.gated:
            self._error(403, "GatedRepo")
        elif file not in repo.files:
            self._error(404, "EntryNotFound")
        else:
            self._content(repo, file)

    def _content(self, repo: FakeRepo, file: str) -> None:
        content = repo.files[file]
        first = int(self.headers.get("Range", "bytes=0-").removeprefix("bytes=").partition("-")[0])
        headers = {
            "ETag": f'"{repo.etag(file)}"',
            "X-Repo-Commit": repo.commit,
            "X-Linked-Size": str(len(content)),
            "Accept-Ranges": "bytes",
        }
        if first:
            headers["Content-Range"] = f"bytes {first}-{len(content) - 1}/{len(content)}"
        broken = self.command == "GET" and self.hub.breaks_now(file)
        self.send(206 if first else 200, content[first:], headers, broken=broken)

    def _repo(self, name: str, revision: str) -> FakeRepo | None:
        """The repository at that revision; where there is none, the real hub's answer is sent."""
        repo = self.hub.repos.get((name, revision))
        if repo is None:
            known = any(name == other for other, _ in self.hub.repos)
            self._error(404, "RevisionNotFound") if known else self._error(401, "RepoNotFound")
        return repo

    def _error(self, status: int, code: str) -> None:
        self.send(status, b"", {"X-Error-Code": code, "X-Error-Message": code})


def use_hub(monkeypatch: pytest.MonkeyPatch, endpoint: str, home: Path) -> None:
    """Point huggingface_hub at this endpoint and cache folder until the test ends.

    It reads its environment when it is imported, so that the next import must be its first.
    """
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HOME", str(home))
    monkeypatch.setenv("HF_HUB_DISABLE_TELEMETRY", "1")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    for name in _UNWANTED:
        monkeypatch.delenv(name, raising=False)
    for module in [name for name in sys.modules if name.partition(".")[0] == "huggingface_hub"]:
        monkeypatch.delitem(sys.modules, module)
