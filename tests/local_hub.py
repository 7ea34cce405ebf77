"""A little of the Hugging Face hub on this machine: repositories in memory, over HTTP.

It answers what huggingface_hub asks when it makes a repository, uploads a folder and downloads it.
All files are of the kind `regular`: the hub itself takes large ones through its chunk store.
"""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import pytest

TOKEN, COMMIT = "hf_test", "0123456789" * 4


class Hub(ThreadingHTTPServer):
    """files: by repository and name.    created: what was asked when repositories were made.

    refusals: the status of answers to requests whose path ends so.
    """

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.created: list[dict[str, Any]] = []
        self.refusals: dict[str, int] = {}

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        path = urlsplit(self.path).path
        refused = [s for end, s in self.server.refusals.items() if path.endswith(end)]
        if refused:
            self._answer(refused[0], {"error": "as the test asked"})
        elif self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._answer(401, {"error": "Invalid username or password."})
        elif path == "/api/repos/create":
            self._create(json.loads(body))
        elif path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif path.endswith("/preupload/main"):
            kinds = {"uploadMode": "regular", "shouldIgnore": False}
            files = [{"path": file["path"], **kinds} for file in json.loads(body)["files"]]
            self._answer(200, {"files": files})
        else:
            repository = path.removeprefix("/api/models/").removesuffix("/commit/main")
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    content = base64.b64decode(entry["value"]["content"])
                    self.server.files[repository][entry["value"]["path"]] = content
            url = f"{self.server.url}/{repository}/commit/{COMMIT}"
            self._answer(200, {"commitUrl": url, "commitOid": COMMIT})

    def _create(self, asked: dict[str, Any]) -> None:
        repository = f"{asked['organization']}/{asked['name']}"
        url = {"url": f"{self.server.url}/{repository}"}
        self.server.created.append(asked)
        self._answer(409 if repository in self.server.files else 200, url)
        self.server.files.setdefault(repository, {})

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        repository = next((name for name in self.server.files if f"/{name}/" in f"{path}/"), "")
        files = self.server.files.get(repository, {})
        if not repository:
            self._answer(404, {"error": "Repository not found"})
        elif "/tree/" in path:
            sizes = {name: len(content) for name, content in files.items()}
            entry = {"type": "file", "oid": "0" * 40}
            self._answer(200, [{"path": n, "size": s, **entry} for n, s in sizes.items()])
        elif "/resolve/" in path:
            content = files[path.rpartition("/")[2]]
            etag = hashlib.sha1(content).hexdigest()
            self._send(200, content, {"ETag": f'"{etag}"', "X-Repo-Commit": COMMIT})
        else:
            self._answer(200, {"id": repository, "sha": COMMIT, "siblings": []})

    do_HEAD = do_GET

    def _answer(self, status: int, value: Any) -> None:
        self._send(status, json.dumps(value).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


@contextmanager
def local_hub(monkeypatch: pytest.MonkeyPatch, cache: str) -> Iterator[Hub]:
    """A hub to which huggingface_hub talks, with a token that it accepts."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", hub.url)
        address = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", address)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
        monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", f"{cache}/no-token")
        monkeypatch.setenv("HF_TOKEN", TOKEN)
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join()
