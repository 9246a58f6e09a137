"""What the watcher of spot machines makes of what EC2's address says; a real server says it."""

import http.server
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from cluster import spot_watch

NOW = datetime(2026, 1, 31, 8, 20, 0, tzinfo=UTC)


class Address(http.server.BaseHTTPRequestHandler):
    token = (200, "a-session")
    action = (404, "")

    def do_PUT(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token-ttl-seconds"].isdigit()
        self.answer(*self.token)

    def do_GET(self) -> None:
        assert self.headers["X-aws-ec2-metadata-token"] == "a-session"
        assert self.path == "/latest/meta-data/spot/instance-action"
        self.answer(*self.action)

    def answer(self, status: int, text: str) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        """Nothing is written."""


@pytest.fixture
def address() -> Iterator[tuple[Any, str]]:
    handler: Any = type("Answers", (Address,), {})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield handler, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def test_a_notice_is_read_and_none_is_none(address: tuple[Any, str]) -> None:
    handler, place = address
    assert spot_watch.notice(place) is None
    handler.action = (200, '{"action": "terminate", "time": "2026-01-31T08:22:00Z"}')
    found = spot_watch.notice(place)
    assert found == {"action": "terminate", "time": "2026-01-31T08:22:00Z"}
    assert spot_watch.seconds_left(found, NOW) == 120


@pytest.mark.parametrize(
    ("what", "answer", "told"),
    [
        ("token", (403, ""), "no token: status 403"),
        ("action", (500, ""), "status 500"),
    ],
)
def test_an_address_that_answers_otherwise_is_an_error_that_passes(
    address: tuple[Any, str], what: str, answer: tuple[int, str], told: str
) -> None:
    handler, place = address
    setattr(handler, what, answer)
    with pytest.raises(OSError, match=told):
        spot_watch.notice(place)


def test_nobody_at_the_address_is_an_error_that_passes() -> None:
    with pytest.raises(OSError, match="refused"):
        spot_watch.notice("127.0.0.1:1")


@pytest.mark.parametrize(
    ("found", "left"),
    [
        ({"time": "2026-01-31T08:21:30Z"}, 90),
        ({"time": "2026-01-31T08:19:00Z"}, 0),
        ({"time": "soon"}, 0),
        ({}, 0),
    ],
)
def test_the_seconds_that_are_left(found: dict[str, str], left: int) -> None:
    assert spot_watch.seconds_left(found, NOW) == left


def fake_ray(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    """What `ray` would answer on a cluster."""
    (folder / "ray").write_text(f"#!/bin/sh\n{script}\n")
    (folder / "ray").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_a_node_is_found_by_its_address_among_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = '[{"node_id": "aa", "is_head_node": true}, {"node_id": "bb", "is_head_node": false}]'
    fake_ray(tmp_path, monkeypatch, f"echo a line before; echo '{rows}'")
    assert spot_watch.node_id("head:6379", "10.0.0.2") == "bb"
    fake_ray(tmp_path, monkeypatch, "echo '[]'")
    with pytest.raises(LookupError, match=r"0 worker nodes at 10\.0\.0\.2 in the Ray at head:6379"):
        spot_watch.node_id("head:6379", "10.0.0.2")
    fake_ray(tmp_path, monkeypatch, "echo no such cluster >&2; exit 3")
    with pytest.raises(LookupError, match=r"`ray list` ended with 3: no such cluster"):
        spot_watch.node_id("head:6379", "10.0.0.2")


def test_an_address_without_a_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        spot_watch.main(["--address", "head"])
    assert "--address 'head' is not HOST:PORT" in capsys.readouterr().err
