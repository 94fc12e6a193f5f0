"""The half of the fake hub that takes uploads: those without Xet, the hub's newer protocol.

In: requests that make a repository, announce large files by their SHA-256 as Git LFS does, send them, and commit. Out:
the fake hub's repositories. Knows one owner, whose token is the only one.
"""

from __future__ import annotations

import base64
import hashlib
import json
from http.server import BaseHTTPRequestHandler
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fake_hub import FakeHub, FakeRepo

LARGE = ".safetensors"
OWNER, TOKEN = "me", "hf_token_of_me"
ATTRIBUTES = {".gitattributes": b"*.safetensors filter=lfs diff=lfs merge=lfs -text\n"}
"""What a new repository holds."""


class UploadHandler(BaseHTTPRequestHandler):
    """Answers POST and PUT."""

    hub: FakeHub

    def take(self, path: str, body: bytes) -> None:
        """Answer a request that sends something."""
        if path.startswith("/large/"):
            self._take_large(path.removeprefix("/large/"), body)
        elif self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self.send(401, b"", {"X-Error-Message": "Invalid credentials in Authorization header"})
        elif path == "/api/repos/create":
            self._create(**json.loads(body))
        elif path == "/api/validate-yaml":
            self._validate(json.loads(body)["content"])
        elif path.endswith(".git/info/lfs/objects/batch"):
            self.send_json({"objects": [self._place(**file) for file in json.loads(body)["objects"]]})
        else:
            name, _, task = path.removeprefix("/api/models/").removesuffix("/main").rpartition("/")
            if not name.startswith(f"{OWNER}/"):
                self.send(403, b"", {"X-Error-Message": "You have read access but not the required permissions"})
            elif task == "preupload":
                self._preupload(self.hub.repos[name, "main"], json.loads(body))
            else:
                self._commit(name, self.hub.repos[name, "main"], body)

    def _create(self, name: str, organization: str, **_: object) -> None:
        full = f"{organization}/{name}"
        if organization != OWNER:
            self.send(403, b"", {"X-Error-Message": f"You cannot create a model under the namespace {organization}"})
            return
        exists = (full, "main") in self.hub.repos
        if not exists:
            self.hub.add(full, ATTRIBUTES)
        self.send_json({"url": f"{self.hub.endpoint}/{full}"}, 409 if exists else 200)

    def _validate(self, card: str) -> None:
        """The only rule known here is that YAML is not indented with tabs."""
        errors = [{"message": "tabs must not be used for indentation"}] if "\t" in card else []
        self.send_json({"errors": errors, "warnings": []}, 400 if errors else 200)

    def _preupload(self, repo: FakeRepo, asked: dict[str, list[dict[str, Any]]]) -> None:
        """Which files are large, and which are here already."""
        files = [
            {
                "path": (name := file["path"]),
                "uploadMode": "lfs" if name.endswith(LARGE) else "regular",
                "shouldIgnore": False,
                "oid": repo.etag(name) if name in repo.files else None,
            }
            for file in asked["files"]
        ]
        self.send_json({"files": files})

    def _place(self, oid: str, size: int) -> dict[str, object]:
        """Where a large file goes; nowhere if it has come before."""
        place = {"upload": {"href": f"{self.hub.endpoint}/large/{oid}"}}
        return {"oid": oid, "size": size, **({} if oid in self.hub.large else {"actions": place})}

    def _take_large(self, oid: str, body: bytes) -> None:
        right = hashlib.sha256(body).hexdigest() == oid
        if right:
            self.hub.large[oid] = body
        self.send(200 if right else 400, b"")

    def _commit(self, name: str, repo: FakeRepo, body: bytes) -> None:
        files = dict(repo.files)
        for line in body.splitlines():
            key, value = (item := json.loads(line))["key"], item["value"]
            if key == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif key == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif key == "deletedFile":
                del files[value["path"]]
        commit = self.hub.add(name, files).commit
        self.send_json({"commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}", "commitOid": commit})

    def send_json(self, value: object, status: int = 200) -> None:
        self.send(status, json.dumps(value).encode())

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, *, broken: bool = False) -> None:
        """Answer; a broken answer ends in the middle of the body."""
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body)), "Connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[: len(body) // 2] if broken else body)
