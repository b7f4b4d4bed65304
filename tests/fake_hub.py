"""A Hugging Face Hub on this machine: repositories are made, committed to and read, no more."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any, cast
from urllib.parse import parse_qs

SHA = "0123456789abcdef0123456789abcdef01234567"
NO_ENTRY = {"X_Error_Code": "EntryNotFound"}


class Hub(ThreadingHTTPServer):
    """What was pushed: files by the repository's path (models are owner/name)."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, dict[str, bytes]] = {}
        self.made: list[dict[str, Any]] = []
        self.refuse = 0  # an HTTP status for all that is asked from now on

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""

    def _answer(self, status: int, content: object = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refused(self) -> bool:
        hub = cast(Hub, self.server)
        if hub.refuse:
            self._answer(hub.refuse, {"error": "Invalid username or password."})
        return bool(hub.refuse)

    def do_POST(self) -> None:
        hub = cast(Hub, self.server)
        content = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self._refused():
            return
        path = self.path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(content)
            hub.made.append(asked)
            kind = asked.get("type") or "model"
            owner = f"{asked.get('organization', 'me')}/{asked['name']}"
            name = f"datasets/{owner}" if kind == "dataset" else owner
            hub.files.setdefault(name, {})
            self._answer(200, {"url": f"{hub.url}/{name}"})
        elif "/preupload/" in path:
            files = [
                {"path": one["path"], "uploadMode": "regular", "shouldIgnore": False}
                for one in json.loads(content)["files"]
            ]
            self._answer(200, {"files": files})
        elif "/paths-info/" in path:
            name = path.removeprefix("/api/").partition("/paths-info/")[0].removeprefix("models/")
            asked = parse_qs(content.decode())["paths"]
            every = _entries(hub.files.get(name, {}), "")
            self._answer(200, [one for one in every if one["path"] in asked])
        elif "/commit/" in path:
            name = path.removeprefix("/api/").partition("/commit/")[0].removeprefix("models/")
            for line in content.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    value = entry["value"]
                    hub.files[name][value["path"]] = base64.b64decode(value["content"])
            self._answer(200, {"commitOid": SHA, "commitUrl": f"{hub.url}/{name}/commit/{SHA}"})
        else:
            self._answer(200, {})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        hub = cast(Hub, self.server)
        if self._refused():
            return
        path = self.path.partition("?")[0].lstrip("/")
        if path.startswith("api/") and "/tree/" not in path:
            name = path.removeprefix("api/").partition("/revision/")[0].removeprefix("models/")
            if name in hub.files:
                siblings = [{"rfilename": file} for file in hub.files[name]]
                self._answer(200, {"id": name, "sha": SHA, "siblings": siblings})
                return
        if path.startswith("api/") and "/tree/" in path:
            name, _, rest = path.removeprefix("api/").partition("/tree/")
            below = rest.partition("/")[2]
            found = _entries(hub.files.get(name.removeprefix("models/"), {}), below)
            self._answer(200 if found else 404, found, **({} if found else NO_ENTRY))
            return
        name, _, rest = path.partition("/resolve/")
        file = rest.partition("/")[2]
        if file in hub.files.get(name, {}):
            content = hub.files[name][file]
            self._answer(200, content, ETag=f'"{_etag(content)}"', X_Repo_Commit=SHA)
            return
        self._answer(404, {"error": "Repository not found"}, X_Error_Code="RepoNotFound")


def _entries(files: dict[str, bytes], below: str) -> list[dict[str, Any]]:
    """Returns the files and folders below a folder, as the Hub lists them."""
    inside = {k: v for k, v in files.items() if not below or k.startswith(f"{below}/")}
    folders = {str(p) for file in inside for p in PurePosixPath(file).parents} - {".", below}
    return [
        *({"type": "directory", "path": name, "oid": SHA, "size": 0} for name in sorted(folders)),
        *(
            {"type": "file", "path": file, "size": len(content), "oid": _etag(content)}
            for file, content in inside.items()
        ),
    ]


def _etag(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


@contextmanager
def serving() -> Iterator[Hub]:
    """A hub that listens meanwhile."""
    hub = Hub()
    thread = threading.Thread(target=hub.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        hub.shutdown()
        hub.server_close()
        thread.join()
