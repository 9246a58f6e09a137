"""Which cluster `audioflow submit` asks, whatever Ray's own variables say: two that write down what
they are asked, and no Ray."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audioflow.engine.submit import Jobs, Parcel


class Head(ThreadingHTTPServer):
    """A dashboard that takes a job, and remembers what it was asked."""

    def __init__(self) -> None:
        asked: list[str] = []
        self.asked = asked

        class Answers(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                told = {"version": "4", "ray_version": "2.60.0"}
                if self.command == "POST":
                    told = {"job_id": "one", "submission_id": "one"}
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                body = json.dumps(told).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@pytest.fixture
def heads() -> Iterator[tuple[Head, Head]]:
    both = Head(), Head()
    for head in both:
        threading.Thread(target=head.serve_forever, daemon=True).start()
    yield both
    for head in both:
        head.shutdown()
        head.server_close()


@pytest.mark.parametrize("name", ["RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"])
def test_the_address_that_is_given_is_the_one_that_is_asked(
    heads: tuple[Head, Head], tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    meant, other = heads
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    monkeypatch.setenv(name, other.url)
    jobs = Jobs(meant.url)
    assert jobs.submit(Parcel(["true"], tmp_path, {}, {})) == "one"
    assert "POST /api/jobs/" in meant.asked
    assert other.asked == []
    assert os.environ[name] == other.url
    assert Jobs(None).address == other.url


def test_the_commands_that_are_shown_ask_the_same_cluster(
    heads: tuple[Head, Head], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a shell that has other addresses, and no mode of authentication."""
    meant, other = heads
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a-token")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    command = Jobs(meant.url).command("status", "a b")
    assert command == (
        f"RAY_API_SERVER_ADDRESS={meant.url} RAY_AUTH_MODE=token ray job status 'a b'"
    )
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS"):
        monkeypatch.setenv(name, other.url)
    meant.asked.clear()
    subprocess.run(["/bin/sh", "-c", command], check=False, capture_output=True, timeout=120)
    assert "GET /api/jobs/a%20b" in meant.asked
    assert other.asked == []
