"""What EC2 says to a machine about its own end, from a server on this machine."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator


class Metadata(http.server.BaseHTTPRequestHandler):
    """EC2's address: it wants a session token, and has a notice where `notice` is set."""

    notice: dict[str, str] | None = None

    def do_PUT(self) -> None:
        assert self.path == "/latest/api/token"
        self.answer(200, "a-session")

    def do_GET(self) -> None:
        if self.headers["X-aws-ec2-metadata-token"] != "a-session":
            self.answer(401, "")
        elif self.path != "/latest/meta-data/spot/instance-action" or self.notice is None:
            self.answer(404, "")
        else:
            self.answer(200, json.dumps(self.notice))

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Nothing is written."""


@contextlib.contextmanager
def metadata() -> Iterator[tuple[type[Metadata], str]]:
    handler = type("Notices", (Metadata,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield handler, f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
