"""A web server of weight files that breaks off, is busy, and knows (or not) of parts of files."""

import socket
import struct
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class WeightsServer:
    """One file at every path. `faults` are used up one per request: `503`, `drop`, `slow`.

    `drop` breaks off in the middle of what is still to come. tag: the ETag; "" sends none.
    ranges: whether parts of the file are given.
    """

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.tag = '"one"'
        self.date = ""
        self.ranges = True
        self.faults: list[str] = []
        self.status = 200
        self.requests: list[dict[str, str]] = []
        self.sent_bytes = 0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.weights = self  # type: ignore[attr-defined]
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/weights/net.pth"

    def __enter__(self) -> "WeightsServer":
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: WeightsServer = self.server.weights  # type: ignore[attr-defined]
        server.requests.append({"path": self.path} | dict(self.headers.items()))
        fault = server.faults.pop(0) if server.faults else ""
        if fault == "503" or server.status != 200:
            self.send_response(server.status if server.status != 200 else 503)
            self.end_headers()
            return
        start = self._start(server)
        size = len(server.content)
        if start is not None and start >= size:
            self.send_response(416)
            self.end_headers()
            return
        self.send_response(200 if start is None else 206)
        if start is not None:
            self.send_header("Content-Range", f"bytes {start}-{size - 1}/{size}")
        for name, value in (("ETag", server.tag), ("Last-Modified", server.date)):
            if value:
                self.send_header(name, value)
        content = server.content[start or 0 :]
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self._send(server, content, fault)

    def _start(self, server: WeightsServer) -> int | None:
        wanted = self.headers.get("Range")
        known = self.headers.get("If-Range")
        if not wanted or not server.ranges or (known and known not in (server.tag, server.date)):
            return None
        return int(wanted.removeprefix("bytes=").rstrip("-"))

    def _send(self, server: WeightsServer, content: bytes, fault: str) -> None:
        sent = content[: len(content) // 2] if fault == "drop" else content
        try:
            for at in range(0, len(sent), 2**16):
                piece = sent[at : at + 2**16]
                server.sent_bytes += len(piece)  # before whoever gets the last one looks
                self.wfile.write(piece)
                if fault == "slow":
                    time.sleep(0.05)
            self.wfile.flush()
        except OSError:
            return
        if fault == "drop":
            time.sleep(0.05)  # what was written must arrive before the reset
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing on the terminal."""
