"""A server on loopback for what is downloaded, with the faults of real ones."""

from __future__ import annotations

import hashlib
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from unittest.mock import patch

from almining.data.fetch.download import Rules


@dataclass
class Server:
    """What is served, how, and what was asked for.

    Args:
        files: bytes by path.
        cut: a path's connection ends after so many bytes, once.
        status: answers other than 200, by path.
        moved: where a path redirects to.
        ranges: whether parts are served.
        marks: whether ETags are sent.
        strict: whether If-Range is heeded.
        weak: whether they are weak ones.
        lies: what to say in Content-Range, to whatever is asked.
        heads: headers to send besides.
        length: whether to say how long a file is.
        asked: (path, Range) of every request.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    cut: dict[str, int] = field(default_factory=dict)
    status: dict[str, int] = field(default_factory=dict)
    moved: dict[str, str] = field(default_factory=dict)
    ranges: bool = True
    marks: bool = True
    weak: bool = False
    lies: str = ""
    strict: bool = True
    heads: dict[str, str] = field(default_factory=dict)
    length: bool = True
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    base: str = ""

    def url(self, path: str) -> str:
        return f"{self.base}{path}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    site: Server

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        site, path = self.site, self.path.partition("?")[0]
        asked = self.headers.get("Range")
        site.asked.append((path, asked))
        self.close_connection = True
        if path in site.moved:
            self._head(302, Location=site.moved[path])
        elif path in site.status or path not in site.files:
            self._head(site.status.get(path, 404))
        else:
            self._send(path, site.files[path], asked)

    def _head(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers and self.site.length:
            self.send_header("Content-Length", "0")
        self.send_header("Connection", "close")
        self.end_headers()

    def _send(self, path: str, content: bytes, asked: str | None) -> None:
        site = self.site
        tag = f'"{hashlib.sha256(content).hexdigest()}"'
        tag = f"W/{tag}" if site.weak else tag
        headers = {"ETag": tag, **site.heads} if site.marks else {**site.heads}
        start = 0
        heeded = not site.strict or self.headers.get("If-Range") == tag
        if asked and site.ranges and heeded:
            start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])
        if start >= max(1, len(content)):
            return self._head(416)
        if start or site.lies:
            said = site.lies or f"bytes {start}-{len(content) - 1}/{len(content)}"
            headers["Content_Range"] = said
        body = content[start:]
        if site.length:
            headers["Content_Length"] = str(len(body))
        self._head(206 if start or site.lies else 200, **headers)
        self.wfile.write(body[: site.cut.pop(path, len(body))])


RULES = Rules(("127.0.0.1",), ("http",))


@contextmanager
def serving(**site: object) -> Iterator[Server]:
    """Serve on a free port of loopback."""
    held = Server(**site)
    handler = type("Handler", (_Handler,), {"site": held})
    direct = patch.dict(os.environ, no_proxy="127.0.0.1")
    with direct, ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.block_on_close = True
        held.base = f"http://127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield held
        finally:
            server.shutdown()
            thread.join()
