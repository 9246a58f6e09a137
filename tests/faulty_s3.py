"""A proxy in front of an S3 server that fails as networks and overloaded stores do.

    with FaultyS3(s3_server) as proxy:
        proxy.add(Rule(("slow_down", "drop"), every=7))
        storage_options = {"endpoint_url": proxy.url}

`proxy.injected` counts what was done to requests, `proxy.requests` lists those that came.
"""

import http.client
import re
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

FAULTS = (
    "slow_down",  # 503 with S3's error document
    "error",  # 500 with S3's error document
    "html",  # 502 with the page of some proxy
    "forbidden",  # 403
    "refuse",  # the connection is reset before an answer
    "drop",  # the connection is reset in the middle of the body
    "truncate",  # half of the body the Content-Length tells, then an orderly end
    "stall",  # one byte of the body, then nothing
    "silent",  # no answer at all
    "trickle",  # the whole body, byte group by byte group
)

_DOCUMENTS = {
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "forbidden": (403, "AccessDenied", "Access Denied"),
}
_HOP_BY_HOP = ("connection", "transfer-encoding", "keep-alive", "content-length", "date", "server")


@dataclass
class Rule:
    """Which requests fail and how: the faults in turn, on every n-th request that matches.

    `times` limits how often; `path` is a regular expression searched for in path and query.
    """

    faults: tuple[str, ...]
    method: str = ""
    path: str = ""
    every: int = 1
    times: int | None = None
    seen: int = 0
    done: int = 0

    def __post_init__(self) -> None:
        unknown = set(self.faults) - set(FAULTS)
        assert not unknown, f"{unknown} are not in {FAULTS}"

    def fault(self, method: str, path: str) -> str:
        """The fault for this request; "" for none."""
        if (self.method and method != self.method) or not re.search(self.path, path):
            return ""
        self.seen += 1
        if self.seen % self.every or self.done == self.times:
            return ""
        self.done += 1
        return self.faults[(self.done - 1) % len(self.faults)]


class FaultyS3:
    """A running proxy; `url` is the endpoint for clients."""

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.rules: list[Rule] = []
        self.injected: Counter[str] = Counter()
        self.requests: list[tuple[str, str]] = []
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "FaultyS3":
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.stopped.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, *rules: Rule) -> None:
        """From now on these rules hold too; the first one that has a fault counts."""
        with self._lock:
            self.rules += rules

    def clear(self) -> None:
        """No rules, nothing counted."""
        with self._lock:
            self.rules.clear()
            self.injected.clear()
            self.requests.clear()

    def choose(self, method: str, path: str) -> str:
        """Count a request, and the fault it gets."""
        with self._lock:
            self.requests.append((method, path))
            fault = next((f for rule in self.rules if (f := rule.fault(method, path))), "")
            if fault:
                self.injected[fault] += 1
            return fault


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: FaultyS3

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is what these tests are about: no traceback for it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def handle_any(self) -> None:
        body = self._body()
        fault = self.server.proxy.choose(self.command, self.path)
        if fault == "refuse":
            self._reset()
        elif fault == "silent":
            self.server.proxy.stopped.wait(60)
            self._reset()
        elif fault in _DOCUMENTS:
            status, code, message = _DOCUMENTS[fault]
            text = f"<Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._answer(status, {"Content-Type": "application/xml"}, text.encode())
        elif fault == "html":
            self._answer(502, {"Content-Type": "text/html"}, b"<html><body>Bad gateway<br></html>")
        else:
            self._forward(body, fault)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().split(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():
            pass
        return b"".join(parts)

    def _forward(self, body: bytes, fault: str) -> None:
        headers = {
            name: value for name, value in self.headers.items() if name.lower() not in _HOP_BY_HOP
        }
        upstream = http.client.HTTPConnection(self.server.proxy.target, timeout=60)
        try:
            upstream.request(self.command, self.path, body or None, headers)
            answer = upstream.getresponse()
            content = answer.read()
            kept = {k: v for k, v in answer.getheaders() if k.lower() not in _HOP_BY_HOP}
            length = answer.getheader("Content-Length")
        finally:
            upstream.close()
        if self.command == "HEAD" and length is not None:
            kept["Content-Length"] = length
        self._answer(answer.status, kept, content, fault)

    def _answer(
        self, status: int, headers: dict[str, str], content: bytes, fault: str = ""
    ) -> None:
        if fault in ("drop", "truncate", "stall") and not content:
            self._reset()  # no body to cut: the answer itself is lost, the request was carried out
            return
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "HEAD":
            return
        if fault == "trickle":
            step = max(1, len(content) // 10)
            for start in range(0, len(content), step):
                self.wfile.write(content[start : start + step])
                self.wfile.flush()
                self.server.proxy.stopped.wait(0.02)
            return
        sent = {"drop": len(content) // 2, "truncate": len(content) // 2, "stall": 1}.get(fault)
        self.wfile.write(content[:sent])
        self.wfile.flush()
        if fault == "stall":
            self.server.proxy.stopped.wait(60)
        if fault in ("drop", "stall"):
            self._reset()
        elif fault == "truncate":
            self.close_connection = True

    def _reset(self) -> None:
        """End the connection as a crashed peer does."""
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
