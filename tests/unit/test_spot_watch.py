"""What the watcher of spot machines makes of what EC2's address says; a real server says it."""

import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True)
class Node:
    node_manager_address: str
    is_head_node: bool = False


def test_a_node_is_found_by_its_address_among_workers() -> None:
    nodes = [("aa", Node("10.0.0.2", is_head_node=True)), ("bb", Node("10.0.0.2"))]
    nodes += [("cc", Node("10.0.0.3"))]
    assert spot_watch.the_worker(nodes, "head:6379", "10.0.0.2") == "bb"
    for there, count in (([], 0), ([*nodes, ("dd", Node("10.0.0.2"))], 2)):
        with pytest.raises(
            LookupError, match=rf"{count} worker nodes at 10\.0\.0\.2 in the Ray at head:6379, not"
        ):
            spot_watch.the_worker(there, "head:6379", "10.0.0.2")


@pytest.mark.parametrize(
    ("script", "told"),
    [
        ("echo no such cluster >&2; exit 3", "`ray drain-node` ended with 3: no such cluster"),
        ("echo Error: a token is missing >&2; echo more >&2; exit 1", "1: Error: a token is miss"),
        ("echo Check failed: has_token; echo stack; kill -ABRT $$", "-6: Check failed: has_token"),
    ],
)
def test_what_ray_does_not_take_is_told_in_its_own_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, told: str
) -> None:
    (tmp_path / "ray").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "ray").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    with pytest.raises(LookupError, match=re.escape(told)):
        spot_watch.drain("head:6379", "aa", "terminate", 120)


def test_an_address_without_a_port_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        spot_watch.main(["--address", "head"])
    assert "--address 'head' is not HOST:PORT" in capsys.readouterr().err
