"""Which cluster `audioflow submit` asks, whatever Ray's own variables say: two that write down what
they are asked, and no Ray."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from audioflow.engine import dashboard
from audioflow.engine.submit import Jobs, Parcel
from audioflow.errors import InputError, RecipeError, StoppedError
from tests.conftest import ROOT, free_port


class Head(ThreadingHTTPServer):
    """A dashboard that takes a job, and remembers what it was asked, and with which tokens.

    answers: what it says where a path begins so, in place of that.
    """

    def __init__(self, answers: Mapping[str, tuple[int, str]] | None = None) -> None:
        asked: list[str] = []
        tokens: set[str] = set()
        self.asked, self.tokens = asked, tokens

        class Answers(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                asked.append(f"{self.command} {self.path}")
                tokens.add(self.headers.get("Authorization") or "")
                told = {"version": "4", "ray_version": "2.60.0"}
                if self.command == "POST":
                    told = {"job_id": "one", "submission_id": "one"}
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                own = [each for path, each in (answers or {}).items() if self.path.startswith(path)]
                status, text = own[0] if own else (200, json.dumps(told))
                body = text.encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            do_GET = do_POST = do_PUT = _answer

            def log_message(self, *arguments: object) -> None:
                pass

        super().__init__(("127.0.0.1", 0), Answers)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


@contextmanager
def serving(head: Head) -> Iterator[Head]:
    thread = threading.Thread(target=head.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield head
    finally:
        head.shutdown()
        head.server_close()


@pytest.fixture
def heads() -> Iterator[tuple[Head, Head]]:
    with serving(Head()) as one, serving(Head()) as other:
        yield one, other


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


def test_a_token_in_the_home_of_the_user_is_sent_without_a_word_about_it(
    heads: tuple[Head, Head], tmp_path: Path
) -> None:
    """In a process of its own: Ray reads once, when it is imported, how it is to authenticate."""
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("a-token-of-this-test")
    env = {name: text for name, text in os.environ.items() if not name.startswith("RAY_")}
    env |= {"HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}
    program = "import sys; from audioflow.engine.submit import Jobs; Jobs(sys.argv[1])"
    made = subprocess.run(
        [sys.executable, "-c", program, heads[0].url], env=env, check=False, capture_output=True
    )
    assert made.returncode == 0, made.stderr.decode()[-2000:]
    assert heads[0].tokens == {"Bearer a-token-of-this-test"}


# What is no dashboard, or none for us


@pytest.fixture
def open_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")


@pytest.mark.usefixtures("open_to_all")
def test_where_nothing_listens_it_is_told_why_that_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    port = free_port()
    told = (
        f"no Ray answers at http://127.0.0.1:{port}: Connection refused; give the address of .*"
        "own machine alone, unless .* `ray start --head --dashboard-host=0.0.0.0`; "
        f"else .* `ssh -L {port}:127.0.0.1:{port} HEAD`, as http://127.0.0.1:{port}$"
    )
    for path in ("", "/birds/"):
        with pytest.raises(InputError, match=told.replace(": Conn", f"{path.rstrip('/')}: Conn")):
            Jobs(f"http://127.0.0.1:{port}{path}")
    with pytest.raises(InputError, match=r"no Ray answers at https://127.0.0.1:.*refused"):
        Jobs(f"https://127.0.0.1:{port}")
    monkeypatch.setattr(dashboard, "silence", lambda address: f"{address} is unknown")
    told = r": \[head\]:8265 is unknown; give the address .*, as http://HEAD:8265$"
    with pytest.raises(InputError, match=told):
        Jobs("head")


@pytest.mark.usefixtures("open_to_all")
def test_what_accepts_and_never_answers_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dashboard, "ANSWER_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        url = f"http://127.0.0.1:{mute.getsockname()[1]}"
        told = f"something listens at {url}, and does not answer within 0.2 s: it is no dashboard"
        with pytest.raises(InputError, match=told):
            Jobs(url)


@pytest.mark.usefixtures("open_to_all")
@pytest.mark.parametrize(
    ("answer", "told"),
    [
        ((200, "<html>It works</html>"), "is no dashboard that takes jobs: it names no version of"),
        ((200, "{}"), "is no dashboard that takes jobs: it names no version of Ray; give the"),
        ((200, "[]"), "is no dashboard that takes jobs: it names no version of Ray; give the"),
        ((404, ""), "is no dashboard that takes jobs: Version check returned 404"),
        ((502, ""), "is no dashboard that takes jobs: 502 Server Error"),
        ((401, "Unauthorized: Missing authentication token"), "does not let this client in"),
    ],
)
def test_what_answers_and_is_no_dashboard_is_told(answer: tuple[int, str], told: str) -> None:
    with serving(Head({"/api/version": answer})) as head:
        with pytest.raises(InputError, match=f"{head.url}.* {told}"):
            Jobs(head.url)
        with pytest.raises(InputError, match=r"wrong version number.* A dashboard itself speaks"):
            Jobs(head.url.replace("http", "https"))


@pytest.mark.usefixtures("open_to_all")
def test_what_is_refused_after_the_first_answer_is_told(tmp_path: Path) -> None:
    with serving(Head({"/api/packages": (401, "Unauthorized"), "/api/jobs": (500, "no")})) as head:
        jobs = Jobs(f"{head.url}/")
        with pytest.raises(InputError, match=f"{head.url} does not let this client in"):
            jobs.submit(Parcel(["true"], tmp_path, {}, {}))
        told = f"the job a could not be told to stop, and may go on: .*{head.url} ray job stop a"
        with pytest.raises(StoppedError, match=told):
            jobs.stop("a")
        head.asked.clear()
        wrong = {"uv": {"packages": [1]}}
        with pytest.raises(RecipeError, match=r"--runtime-env: Ray does not take it: .*\['uv'\]"):
            jobs.submit(Parcel(["true"], tmp_path, {}, wrong))
        both = {"uv": ["a"], "pip": ["b"]}
        with pytest.raises(RecipeError, match=r"'uv' field, .* cannot be specified at the same ti"):
            jobs.submit(Parcel(["true"], tmp_path, {}, both))
        assert head.asked == []
