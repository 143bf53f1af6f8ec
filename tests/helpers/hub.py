"""A local server that stands in for the Hugging Face Hub: the calls of huggingface_hub, nothing more."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest import mock

import huggingface_hub.constants

from helpers.workspace import environment

COMMIT = "c" * 40
TOKEN = "hf_secretsecretsecret"


class StandIn:
    """One repository of one commit."""

    commit = COMMIT

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.authorised: list[str] = []
        self.status: int | None = None


class Handler(BaseHTTPRequestHandler):
    """What huggingface_hub asks of a server."""

    hub: StandIn

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    @property
    def home(self) -> str:
        return f"http://{self.headers['Host']}"

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        self.note()
        found = re.fullmatch(r"/lab/keepers/resolve/([^/]+)/(.+)", self.path)
        if self.hub.status is not None:
            self.answer(self.hub.status)
        elif found is None:
            self.answer(404, X_Error_Code="RepoNotFound")
        elif found[1] not in ("main", self.hub.commit):
            self.answer(404, X_Error_Code="RevisionNotFound")
        elif found[2] not in self.hub.files:
            self.answer(404, X_Error_Code="EntryNotFound", X_Repo_Commit=self.hub.commit)
        else:
            content = self.hub.files[found[2]]
            self.answer(200, content, X_Repo_Commit=self.hub.commit, ETag=f'"{hashlib.sha256(content).hexdigest()}"')

    def do_POST(self) -> None:
        self.note()
        body = self.body()
        if self.hub.status is not None:
            self.answer(self.hub.status, json.dumps({"error": f"token {TOKEN}"}).encode())
        elif self.path == "/api/repos/create":
            self.tell({"url": f"{self.home}/lab/keepers", "name": "lab/keepers"})
        elif self.path == "/api/validate-yaml":
            self.tell({"warnings": [], "errors": []})
        elif self.path.endswith("/preupload/main"):
            names = [one["path"] for one in json.loads(body)["files"]]
            files = [{"path": name, "uploadMode": "regular", "shouldIgnore": False} for name in names]
            self.tell({"files": files})
        elif self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.hub.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            self.tell(
                {
                    "success": True,
                    "commitOid": self.hub.commit,
                    "commitUrl": f"{self.home}/lab/keepers/commit/{self.hub.commit}",
                }
            )
        else:
            self.answer(404)

    def note(self) -> None:
        self.hub.authorised.append(self.headers.get("Authorization") or "")

    def tell(self, content: dict[str, Any]) -> None:
        self.answer(200, json.dumps(content).encode(), Content_Type="application/json")

    def log_message(self, *args: Any) -> None:
        """Nothing on stderr."""


@contextmanager
def serving(hub: StandIn, *, cache: Path) -> Iterator[StandIn]:
    """Let huggingface_hub take this for the Hub for a while, with a token and a cache of its own."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"hub": hub}))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    constants = huggingface_hub.constants
    try:
        with (
            environment(HF_ENDPOINT=f"http://127.0.0.1:{server.server_port}", HF_TOKEN=TOKEN),
            mock.patch.object(constants, "HF_HUB_CACHE", str(cache)),
            mock.patch.object(constants, "HF_HUB_DISABLE_XET", True, create=True),
        ):
            yield hub
    finally:
        server.shutdown()
        server.server_close()


class OneFile(StandIn):
    """A repository of one file, which is read anew each time; another content is another commit."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def files(self) -> dict[str, bytes]:  # type: ignore[override]
        return {self.path.name: self.path.read_bytes()}

    @files.setter
    def files(self, value: dict[str, bytes]) -> None:
        """Nothing is pushed here."""

    @property
    def commit(self) -> str:  # type: ignore[override]
        return hashlib.sha1(self.path.read_bytes(), usedforsecurity=False).hexdigest()
