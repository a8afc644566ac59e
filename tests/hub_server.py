"""A small Hugging Face hub on loopback: folders served as model repositories, with faults on demand.

    with serve({("org/model", "main"): folder, ("org/model", "step10"): other}) as hub:
        Hub(cache_dir=tmp_path, endpoint=hub.url).look("org/model", "step10")
        subprocess.run([...], env=os.environ | hub.environment)

It answers what huggingface_hub asks for when it looks a revision up, lists a repository's refs and downloads files. As
on the real hub, weights lie on a second host (here: another port), to which `resolve` redirects.
"""

import gzip
import hashlib
import json
import os
import re
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

LFS_SUFFIXES = (".safetensors", ".bin", ".gguf", ".pt", ".h5", ".msgpack")
API = "api"


@dataclass
class Fault:
    """What goes wrong with the answers about one file.

    Attributes:
        times: how many requests it spoils; None: all. HEAD requests count where status or length are spoilt.
        status: answer with this HTTP status instead.
        drop_after: cut the connection after so many bytes of a body.
        reset: cut it by a TCP reset, not by an orderly close.
        stall_after: send nothing more after so many bytes of a body, and leave the connection open.
        bytes_per_second: how slowly a body comes.
        cut_to: announce and send only so many bytes of a body, as if the file were that short.
        garble: send other bytes than the file's.
        endless: send zeros after the file until the client hangs up, its length not announced.
        unpacks_to: send it, whatever the client accepts, as a gzip body that grows to so many bytes.
        spoilt: how many requests it has spoilt so far.
    """

    times: int | None = None
    status: int | None = None
    drop_after: int | None = None
    reset: bool = False
    stall_after: int | None = None
    bytes_per_second: float | None = None
    cut_to: int | None = None
    garble: bool = False
    endless: bool = False
    unpacks_to: int | None = None
    spoilt: int = field(default=0, init=False)


@dataclass(frozen=True)
class Request:
    """A request as it came in: `name` is the file asked for (empty: the API); some of its headers."""

    method: str
    path: str
    name: str
    range: str | None
    authorization: str | None
    encoding: str | None
    on_cdn: bool


@dataclass
class HubServer:
    """A running hub. All that says what is served may be changed while it runs.

    Attributes:
        refs: the folder of each (repository, revision). Assigning another folder moves the branch; the commit that it
            pointed to before can still be downloaded.
        tags: revisions among `refs` that are tags; the others are branches.
        gated: repositories whose files are refused.
        faults: by file name, or by `commit/name` for one commit's alone; `API` stands for all calls of the API.
        bytes_per_second: of the network, which all weights that are under way share; None for as fast as can be.
        twist: changes what the API is about to say, in place, as a hostile hub may.
        headers: sent with files in place of the right ones.
        sent: bytes of endless bodies.
        requests: what was asked for, in order.
        url, cdn: addresses of the hub and of its second host.
    """

    refs: dict[tuple[str, str], Path]
    tags: set[tuple[str, str]] = field(default_factory=set)
    gated: set[str] = field(default_factory=set)
    faults: dict[str, Fault] = field(default_factory=dict)
    bytes_per_second: float | None = None
    twist: Callable[[Any], None] = lambda answer: None
    headers: dict[str, str] = field(default_factory=dict)
    sent: int = 0
    requests: list[Request] = field(default_factory=list)
    url: str = ""
    cdn: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    commits: dict[tuple[str, str], Path] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)
    network: threading.Lock = field(default_factory=threading.Lock)

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that point a subprocess to this hub and to nothing else."""
        return {
            "HF_ENDPOINT": self.url,
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "HF_HUB_OFFLINE": "0",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }

    @property
    def downloads(self) -> list[str]:
        """The names of the files whose bodies were asked for, in order."""
        return [r.name for r in self.requests if r.method == "GET" and r.name and r.on_cdn == is_lfs(r.name)]

    def ranges(self, name: str) -> list[str | None]:
        """The Range header of each request for a file's body."""
        return [r.range for r in self.requests if r.method == "GET" and r.name == name and r.on_cdn == is_lfs(name)]

    def commit(self, repo: str, revision: str) -> str | None:
        """The commit that a branch, a tag or a commit hash stands for; None if there is none."""
        folder = self.refs.get((repo, revision))
        if folder is None:
            return revision if (repo, revision) in self.commits else None
        about = [f"{path.name} {path.stat().st_size} {path.stat().st_mtime_ns}" for path in _files(folder)]
        commit = hashlib.sha1("\n".join([repo, str(folder), *about]).encode()).hexdigest()
        self.commits[repo, commit] = folder
        return commit

    def file(self, repo: str, commit: str, name: str) -> Path | None:
        """Where a commit's file lies; None if it has none of that name."""
        folder = self.commits[repo, commit]
        return next((path for path in _files(folder) if path.relative_to(folder).as_posix() == name), None)

    def remove(self, repo: str, revision: str) -> None:
        """Let a revision vanish, and its commit with it."""
        self.commits.pop((repo, self.commit(repo, revision) or ""), None)
        del self.refs[repo, revision]

    def fault(self, name: str, body: bool, commit: str = "") -> Fault:
        """The fault that spoils the answer now being given; counts it."""
        fault = self.faults.get(f"{commit}/{name}") or self.faults.get(name, Fault())
        with self.lock:
            touched = body or fault.status is not None or fault.cut_to is not None
            if not touched or fault.spoilt == fault.times:
                return Fault()
            fault.spoilt += 1
        return fault


@contextmanager
def serve(refs: Mapping[tuple[str, str], Path], **settings: Any) -> Iterator[HubServer]:
    """Serve folders as (repository, revision) until the block ends; settings are attributes of `HubServer`."""
    hub = HubServer(dict(refs), **settings)
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_port}" for server in servers)
    threads = [threading.Thread(target=server.serve_forever, args=(0.02,)) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        for server, thread in zip(servers, threads, strict=True):
            server.shutdown()
            thread.join()
            server.server_close()


def is_lfs(name: str) -> bool:
    """Whether the hub keeps a file of that name apart from git, on its second host."""
    return name.endswith(LFS_SUFFIXES)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for the answers that are under way

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exc_info()[1], ConnectionError):  # a client that hangs up is no error
            super().handle_error(request, client_address)


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def log_message(self, format: str, *args: Any) -> None:
        pass

    def answer(self) -> None:
        path = urlsplit(self.path).path
        on_cdn = self.headers["Host"] == urlsplit(self.hub.cdn).netloc
        api = re.fullmatch(r"/api/(?:models|datasets)/([^/]+(?:/[^/]+)??)(?:/(refs)|/revision/([^/]+))?", path)
        resolve = re.fullmatch(r"(?:/datasets)?/([^/]+(?:/[^/]+)?)/resolve/([^/]+)/(.+)", path)
        name = unquote(resolve[3]) if resolve else ""
        told = [self.headers[header] for header in ("Range", "Authorization", "Accept-Encoding")]
        self.hub.requests.append(Request(self.command, self.path, name, *told, on_cdn))
        if api:
            fault = self.hub.fault(API, body=True)
            if fault.status:
                return self.refuse(fault.status)
            if api[2]:
                return self.answer_refs(api[1])
            return self.answer_info(api[1], unquote(api[3] or "main"))
        if resolve:
            return self.answer_file(resolve[1], unquote(resolve[2]), name, on_cdn)
        return self.refuse(404)

    def answer_refs(self, repo: str) -> None:
        known = [key for key in self.hub.refs if key[0] == repo]
        if not known:
            return self.refuse(401, "RepoNotFound")

        def described(kind: str, keys: list[tuple[str, str]]) -> list[dict[str, str | None]]:
            return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": self.hub.commit(r, n)} for r, n in keys]

        return self.send_json(
            {
                "branches": described("heads", [key for key in known if key not in self.hub.tags]),
                "tags": described("tags", [key for key in known if key in self.hub.tags]),
                "converts": [],
            }
        )

    def answer_info(self, repo: str, revision: str) -> None:
        commit = self.found(repo, revision)
        if commit is None:
            return None
        folder = self.hub.commits[repo, commit]
        siblings = []
        for path in _files(folder):
            size, (sha1, sha256) = path.stat().st_size, _hashes(path, path.stat().st_mtime_ns)
            lfs = {"lfs": {"sha256": sha256, "size": size, "pointerSize": 134}} if is_lfs(path.name) else {}
            siblings.append({"rfilename": path.relative_to(folder).as_posix(), "size": size, "blobId": sha1, **lfs})
        gated = "manual" if repo in self.hub.gated else False
        return self.send_json(
            {"id": repo, "modelId": repo, "sha": commit, "private": False, "gated": gated, "siblings": siblings}
        )

    def answer_file(self, repo: str, revision: str, name: str, on_cdn: bool) -> None:
        commit = self.found(repo, revision)
        if commit is None:
            return None
        if repo in self.hub.gated:
            return self.refuse(403, "GatedRepo")
        path = self.hub.file(repo, commit, name)
        if path is None:
            return self.send_head(404, 0, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": commit})
        sha1, sha256 = _hashes(path, path.stat().st_mtime_ns)
        if is_lfs(name) and not on_cdn:
            size = str(path.stat().st_size)
            headers = {"X-Repo-Commit": commit, "X-Linked-ETag": f'"{sha256}"', "X-Linked-Size": size}
            place = f"{self.hub.cdn}/{repo}/resolve/{commit}/{quote(name)}"
            return self.send_head(302, 0, {**headers, **self.hub.headers, "Location": place})
        fault = self.hub.fault(name, body=self.command == "GET", commit=commit)
        if fault.status:
            return self.refuse(fault.status)
        headers = {"X-Repo-Commit": commit, "ETag": f'"{sha256 if is_lfs(name) else sha1}"', "Accept-Ranges": "bytes"}
        return self.send_file(path.read_bytes(), headers | self.hub.headers, fault, throttled=is_lfs(name))

    def found(self, repo: str, revision: str) -> str | None:
        """The commit of a revision; None once the request has been refused."""
        commit = self.hub.commit(repo, revision)
        if commit is None and any(known == repo for known, _ in self.hub.refs):
            self.refuse(404, "RevisionNotFound")
        elif commit is None:
            # As the real hub answers strangers, so that private repositories are not told from missing ones.
            self.refuse(401, "RepoNotFound")
        return commit

    def send_file(self, content: bytes, headers: Mapping[str, str], fault: Fault, throttled: bool) -> None:
        if fault.garble:
            content = bytes(byte ^ 1 for byte in content)
        content = content[: fault.cut_to]
        if fault.unpacks_to is not None:
            content = gzip.compress(content.ljust(fault.unpacks_to, b"\0"))
            headers = {**headers, "Content-Encoding": "gzip"}
        if fault.endless and self.command == "GET":
            return self.send_endlessly(content, headers)
        start, size = 0, len(content)
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers["Range"] or "")
        if wanted:
            start, end = int(wanted[1]), min(int(wanted[2] or size), size - 1)
            if start >= size:
                return self.send_head(416, 0, {"Content-Range": f"bytes */{size}"})
            content = content[start : end + 1]
            self.send_head(206, len(content), {**headers, "Content-Range": f"bytes {start}-{end}/{size}"})
        else:
            self.send_head(200, size, headers)
        if self.command == "GET":
            self.send_body(content, fault, throttled)
        return None

    def send_body(self, content: bytes, fault: Fault, throttled: bool) -> None:
        stalls = fault.stall_after is not None and fault.stall_after < len(content)
        content = content[: fault.drop_after][: fault.stall_after]
        rate, turn = fault.bytes_per_second, nullcontext()
        if throttled and self.hub.bytes_per_second:
            rate, turn = self.hub.bytes_per_second, self.hub.network
        step = max(1, int(rate / 50)) if rate else len(content) or 1
        for start in range(0, len(content), step):
            with turn:
                if rate and self.hub.closing.wait(step / rate):
                    return
            self.wfile.write(content[start : start + step])
        if stalls:
            self.hub.closing.wait()
        if fault.reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            os.close(self.connection.detach())

    def send_endlessly(self, content: bytes, headers: Mapping[str, str], most: int = 64 << 20) -> None:
        self.send_head(200, None, headers)
        while self.hub.sent < most and not self.hub.closing.is_set():
            self.wfile.write(content)
            self.hub.sent += len(content)
            content = bytes(1 << 16)

    def send_json(self, value: Any) -> None:
        self.hub.twist(value)
        content = json.dumps(value).encode()
        self.send_head(200, len(content), {"Content-Type": "application/json"})
        self.wfile.write(content)

    def refuse(self, status: int, code: str = "") -> None:
        self.send_head(status, 0, {"X-Error-Code": code} if code else {})

    def send_head(self, status: int, length: int | None, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        # One request per connection: no thread outlives its answer.
        announced = {} if length is None else {"Content-Length": str(length)}
        for name, value in {**announced, "Connection": "close", **headers}.items():
            self.send_header(name, value)
        self.end_headers()


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


@lru_cache
def _hashes(path: Path, modified: int) -> tuple[str, str]:
    """The names that git and git-lfs give to the file's content."""
    content = path.read_bytes()
    git = hashlib.sha1(f"blob {len(content)}\0".encode() + content)
    return git.hexdigest(), hashlib.sha256(content).hexdigest()
