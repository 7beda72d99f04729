"""A small stand-in for the Hugging Face hub, to fetch from and to push to, on this machine."""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0" * 40


@contextmanager
def hub(repository: str, folder: Path) -> Iterator[str]:
    """Serve the files of `folder` as the dataset repository `owner/name`; gives the address."""

    def files() -> dict[str, Path]:
        return {str(p.relative_to(folder)): p for p in sorted(folder.rglob("*")) if p.is_file()}

    def commit() -> str:
        """Another one after each change: the library keeps what it knows of one."""
        contents = [name.encode() + path.read_bytes() for name, path in files().items()]
        return hashlib.sha1(b"".join(contents)).hexdigest()

    def info() -> dict[str, object]:
        return {
            "_id": COMMIT[:24],
            "id": repository,
            "sha": commit(),
            "private": False,
            "downloads": 0,
            "tags": [],
            "siblings": [{"rfilename": name} for name in files()],
        }

    def tree() -> list[dict[str, object]]:
        return [
            {"type": "file", "path": name, "size": path.stat().st_size, "oid": COMMIT}
            for name, path in files().items()
        ]

    class Handler(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            resolve = f"/datasets/{repository}/resolve/"
            if path == "/api/datasets":
                self._send(json.dumps([info()]).encode())
            elif path.startswith(f"/api/datasets/{repository}/tree"):
                self._send(json.dumps(tree()).encode())
            elif path.startswith(f"/api/datasets/{repository}"):
                self._send(json.dumps(info()).encode())
            elif path.startswith(resolve) and path[len(resolve) :].partition("/")[2] in files():
                self._send(files()[path[len(resolve) :].partition("/")[2]].read_bytes())
            else:
                self._send(b"", 404)

        def do_POST(self) -> None:
            """Take what is pushed, as plain files."""
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path == "/api/repos/create":
                self._send(json.dumps({"url": f"/datasets/{repository}", "id": COMMIT}).encode())
            elif self.path.startswith(f"/api/datasets/{repository}/preupload/"):
                wanted = [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in json.loads(content)["files"]
                ]
                self._send(json.dumps({"files": wanted}).encode())
            elif self.path.startswith(f"/api/datasets/{repository}/commit/"):
                for line in map(json.loads, content.splitlines()):
                    if line["key"] == "deletedFile":
                        (folder / line["value"]["path"]).unlink()
                    if line["key"] == "file":
                        path = folder / line["value"]["path"]
                        path.parent.mkdir(parents=True, exist_ok=True)
                        path.write_bytes(base64.b64decode(line["value"]["content"]))
                made = {"commitUrl": f"{repository}/commit/{COMMIT}", "commitOid": COMMIT}
                self._send(json.dumps({"success": True, **made}).encode())
            elif self.path == "/api/validate-yaml":
                self._send(b'{"errors": [], "warnings": []}')
            else:
                self._send(b"", 404)

        def _send(self, content: bytes, status: int = 200) -> None:
            self.send_response(status)
            if status != 200:
                self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", commit())
            self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
