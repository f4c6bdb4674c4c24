"""A small Hugging Face Hub on loopback, for tests: real sockets, real headers, folders as repos.

It serves what huggingface_hub 2.4 asks for when it resolves, lists and downloads a model, in plain
HTTP (no xet). `requests` is the log that tests count.
"""

import hashlib
import json
import math
import re
import ssl
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

MAIN = "1" * 40
API = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/(?P<kind>revision|tree)/(?P<rev>[^/]+))?")
FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<rev>[^/]+)/(?P<path>.+)")


@dataclass(slots=True)
class Repo:
    """One model: branches and tags -> commits, commits -> the folder that each one serves."""

    gated: bool = False
    private: bool = False
    refs: dict[str, str] = field(default_factory=dict)
    commits: dict[str, Path] = field(default_factory=dict)

    def commit(self, revision: str) -> str | None:
        sha = self.refs.get(revision, revision)
        return sha if sha in self.commits else None


class Hub:
    """A server that runs inside `with`. How it fails is set by attributes, at any time."""

    def __init__(self, certificate: Path | None = None) -> None:
        self.repos: dict[str, Repo] = {}
        self.requests: list[str] = []
        self.headers: list[Mapping[str, str]] = []
        self.status = 0  # answer everything with this status
        self.silent_after = math.inf  # so many requests are answered, the others never
        self.bytes_per_s = 0.0  # of a file's body; 0 is full speed
        self.cut_after = 0  # bytes of a large file's body, then the line is cut; 0 never
        self.cuts = math.inf  # so many times
        self.lost = ""  # a file that is listed, and is not there
        self.spoilt = False  # a large file's bytes are others than were announced
        self.short = 0  # bytes that a large file lacks, and its header too
        self.announced = 0  # the size of a large file, where it is not its own
        self.etag = ""  # given for every file in place of its own
        self.garbled = False  # answers with JSON, but of something else
        self.code = ""  # X-Error-Code beside `status`
        self.closed = threading.Event()
        bound = type("BoundHandler", (Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), bound)
        self.server.daemon_threads = True
        scheme = "http"
        if certificate:  # with its key
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self.server.socket = context.wrap_socket(self.server.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> "Hub":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def add(
        self,
        name: str,
        folder: Path,
        *,
        gated: bool = False,
        private: bool = False,
        revisions: Mapping[str, str] | None = None,
    ) -> None:
        """Serve the folder as the commits of `revisions`; a second call adds or moves revisions."""
        repo = self.repos.setdefault(name, Repo())
        repo.gated, repo.private = gated, private
        for ref, sha in (revisions or {"main": MAIN}).items():
            repo.refs[ref] = sha
            repo.commits[sha] = folder

    def fail_with(self, status: int, code: str = "") -> None:
        self.status, self.code = status, code

    def fetched(self) -> list[str]:
        """The files whose bodies were asked for, in the order of their names."""
        gets = (FILE.fullmatch(line.removeprefix("GET ")) for line in self.requests)
        return sorted(match["path"] for match in gets if match)


class Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path = unquote(urlsplit(self.path).path)
        self.hub.requests.append(f"{self.command} {path}")
        self.hub.headers.append(dict(self.headers))
        if len(self.hub.requests) > self.hub.silent_after:
            self.hub.closed.wait()
            self.close_connection = True
        elif self.hub.status:
            self.refuse(self.hub.status, self.hub.code)
        elif match := API.fullmatch(urlsplit(self.path).path):
            self.answer(unquote(match["rev"] or "main"), match["kind"], match["repo"])
        elif match := FILE.fullmatch(urlsplit(self.path).path):
            self.answer(unquote(match["rev"]), "file", match["repo"], unquote(match["path"]))
        else:
            self.refuse(404)

    def answer(self, revision: str, kind: str, name: str, path: str = "") -> None:
        repo = self.hub.repos.get(name)
        token = self.headers.get("Authorization")
        if repo is None or (repo.private and not token):
            return self.refuse(404 if token else 401, "RepoNotFound")
        sha = repo.commit(revision)
        if sha is None:
            return self.refuse(404, "RevisionNotFound")
        folder = repo.commits[sha]
        if kind == "file":
            if repo.gated:
                return self.refuse(403 if token else 401, "GatedRepo")
            return self.send_file(folder / path, sha)
        files = {str(f.relative_to(folder)): f for f in sorted(folder.rglob("*")) if f.is_file()}
        if kind == "tree":
            return self.send_json([entry(name, file) for name, file in files.items()])
        if self.hub.garbled:
            return self.send_json(["welcome", "to the hotel"])
        siblings = [sibling(name, file, self.hub.announced) for name, file in files.items()]
        return self.send_json({"id": name, "sha": sha, "siblings": siblings})

    def refuse(self, status: int, code: str = "") -> None:
        self.send(status, {"X-Error-Code": code} if code else {}, b"")

    def send_json(self, answer: Any) -> None:
        self.send(200, {"Content-Type": "application/json"}, json.dumps(answer).encode())

    def send_file(self, file: Path, sha: str) -> None:
        headers = {"X-Repo-Commit": sha}
        if not file.is_file() or file.name == self.hub.lost:
            return self.send(404, headers | {"X-Error-Code": "EntryNotFound"}, b"")
        body = file.read_bytes()
        headers["ETag"] = f'"{self.hub.etag or digest(file)}"'
        if is_large(file):
            body = body[: len(body) - self.hub.short]
            body = bytes(255 - byte for byte in body[:1]) + body[1:] if self.hub.spoilt else body
        if match := re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", "")):
            start = int(match[1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
            return self.send(206, headers, body[start:], cut=is_large(file))
        return self.send(200, headers, body, cut=is_large(file))

    def handle(self) -> None:
        with suppress(ConnectionError):  # the client hung up
            super().handle()

    def send(
        self, status: int, headers: Mapping[str, str], body: bytes, *, cut: bool = False
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if cut and self.hub.cut_after and self.hub.cuts > 0:
            self.hub.cuts -= 1
            body, self.close_connection = body[: self.hub.cut_after], True
        step = max(1, int(self.hub.bytes_per_s / 20)) if self.hub.bytes_per_s else len(body) or 1
        for start in range(0, len(body), step):
            self.wfile.write(body[start : start + step])
            if self.hub.bytes_per_s and self.hub.closed.wait(0.05):
                return


def is_large(file: Path) -> bool:
    """Whether the Hub would keep it outside of git."""
    return file.suffix in (".safetensors", ".bin", ".pt")


def digest(file: Path) -> str:
    """As the Hub names it: SHA-256 of a large file, git's SHA-1 of another."""
    body = file.read_bytes()
    if is_large(file):
        return hashlib.sha256(body).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(body) + body).hexdigest()


def sibling(path: str, file: Path, announced: int) -> dict[str, object]:
    size = announced if announced and is_large(file) else file.stat().st_size
    large = {"lfs": {"sha256": digest(file), "size": size, "pointerSize": 134}}
    known = {"rfilename": path, "size": size, "blobId": digest(file)[:40]}
    return known | (large if is_large(file) else {})


def entry(path: str, file: Path) -> dict[str, object]:
    size, oid = file.stat().st_size, digest(file)[:40]
    large = {"oid": digest(file), "size": size, "pointerSize": 134}
    lfs = {"lfs": large} if is_large(file) else {}
    return {"type": "file", "path": path, "size": size, "oid": oid} | lfs
