"""`audioflow serve` as a user starts it: real files over HTTP; on a Ray that runs, and its own."""

import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.engine.serve_model import Model
from audioflow.engine.serve_system import find_served
from audioflow.media.parts import Part
from audioflow.serving.answers import Scored
from audioflow.serving.decoding import Decoders
from audioflow.serving.limits import Limits
from audioflow.storage import local_path
from tests.conftest import ROOT, free_port
from tests.ray.conftest import BASE, build_run

BIN = Path(sys.executable).parent
START_S = 180


class Server:
    """The command in a process of its own, and requests to it."""

    def __init__(self, *arguments: str, log: Path, temporary: Path | None = None) -> None:
        self.port = free_port()
        more = {"TMPDIR": str(temporary)} if temporary else {}
        self._log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [BIN / "audioflow", "serve", *arguments, "--port", str(self.port)],
                cwd=ROOT,
                env=os.environ | {"RAY_AUTH_MODE": "disabled"} | more,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        return self._log.read_text()

    def ask(
        self, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of an answer."""
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        url = f"http://127.0.0.1:{self.port}{path}"
        request = urllib.request.Request(url, body, told, method=method)
        try:
            with urllib.request.urlopen(request, timeout=90) as answer:
                return answer.status, json.loads(answer.read() or b"null"), dict(answer.headers)
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read() or b"null"), dict(error.headers)

    def score(self, path: Path) -> tuple[int, Any]:
        return self.ask("POST", "/invocations", path.read_bytes())[:2]

    def wait(self) -> set[int]:
        """Wait until it is ready; the other statuses that `/ping` had until then."""
        seen: set[int] = set()
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline:
            assert self.process.poll() is None, self.said
            with suppress(OSError, ValueError):  # not yet listening, or Ray Serve's own words
                status = self.ask("GET", "/ping")[0]
                if status == 200:
                    return seen
                seen.add(status)
            time.sleep(0.1)
        raise TimeoutError(self.said)

    def stop(self, number: int) -> int:
        """Its exit code after a signal."""
        self.process.send_signal(number)
        return self.process.wait(60)


@contextmanager
def serving(*arguments: str, log: Path, temporary: Path | None = None) -> Iterator[Server]:
    server = Server(*arguments, log=log, temporary=temporary)
    try:
        yield server
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.process.pid, signal.SIGKILL)
        server.process.wait()


def scored_files(run: Run, system: str) -> dict[Path, dict[str, Any]]:
    """By file, its row in a score table; whole recordings alone."""
    folder = local_path(run.folder.url)
    scores = pl.read_parquet(f"{folder}/scores/{system}/*.parquet")
    clips = pl.read_parquet(f"{folder}/manifest/*.parquet").select("clip_id", "uri")
    rows = scores.join(clips, on="clip_id").sort("clip_id")
    return {Path(row["uri"]): row for row in rows.iter_rows(named=True)}


def test_a_running_ray_is_joined_and_left_as_it_was(done: Run, tmp_path: Path) -> None:
    import ray
    from ray import serve

    files = scored_files(done, "fused")
    some = [next(path for path in files if path.suffix == end) for end in (".mp4", ".wav")]
    lone = next(path for path, row in files.items() if row["available"] == ["video"])
    address = ray.get_runtime_context().gcs_address
    arguments = [local_path(done.folder.url), "--system", "fused", "--address", address]
    arguments += ["--max-body-mb", "2", "--log-every-s", "1", "--max-duration-s", "20"]
    with serving(*arguments, log=tmp_path / "log") as server:
        assert server.wait() <= {404, 503}
        _scores_are_those_of_the_table(server, files, [*some, lone])
        _many_at_once(server, files)
        _bad_bodies(server, tmp_path)
        _other_paths(server)
        time.sleep(1.5)  # until they were told
        assert server.stop(signal.SIGTERM) == 0, server.said
        assert "refused: " in server.said
        assert "too_large" in server.said
        assert server.said.splitlines()[-1].endswith("requests in hand are finished first"), (
            server.said
        )
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 2
    assert not serve.status().applications


def _scores_are_those_of_the_table(
    server: Server, files: dict[Path, dict[str, Any]], some: list[Path]
) -> None:
    for path in some:
        status, told = server.score(path)
        assert status == 200, told
        row = files[path]
        assert told["probability"] == pytest.approx(row["scores"], abs=1e-5)
        assert told["class"] == row["predicted"] == told["classes"][told["label"]]
        assert told["available"] == row["available"]


def _many_at_once(server: Server, files: dict[Path, dict[str, Any]]) -> None:
    """Requests side by side get their own scores, also those of the same content."""
    paths = [*list(files)[:8], *list(files)[:4]]
    with ThreadPoolExecutor(len(paths)) as threads:
        answers = list(threads.map(server.score, paths))
    for path, (status, told) in zip(paths, answers, strict=True):
        assert status == 200, told
        assert told["probability"] == pytest.approx(files[path]["scores"], abs=1e-5)


def _bad_bodies(server: Server, folder: Path) -> None:
    page = b"<html>not a sound</html>" * 50
    status, told, _ = server.ask("POST", "/invocations", page, content_type="audio/wav")
    assert (status, told["error"]) == (422, "not_media")
    assert str(folder) not in told["reason"]
    status, told, _ = server.ask("POST", "/invocations", b"")
    assert (status, told["error"]) == (400, "empty")
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(10**12))
    connection.endheaders()  # and no body: the answer does not wait for it
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["error"]) == (413, "too_large")
    connection.close()
    chunks = (b"x" * 2**16 for _ in range(64))  # 4 MB, of a length that is not told
    status, told, _ = server.ask("POST", "/invocations", chunks)
    assert (status, told["reason"]) == (413, "the body is larger than 2 MB, the limit here")


def _other_paths(server: Server) -> None:
    status, told, _ = server.ask("GET", "/")
    assert status == 200
    assert (told["system"], told["ready"], told["untrained"]) == ("fused", True, [])
    assert told["backbones"] == ["acoustic", "color"]
    assert server.ask("HEAD", "/ping")[0] == 200
    assert server.ask("GET", "/execution-parameters")[1]["MaxPayloadInMB"] == 2
    status, told, headers = server.ask("GET", "/invocations")
    assert (status, told["error"], headers["allow"]) == (405, "method_not_allowed", "POST")
    status, told, _ = server.ask("POST", "/score", b"x")
    assert (status, told["error"]) == (404, "not_found")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--num-gpus", "4"], "--num-gpus: a replica needs 4 GPU, and no node has that"),
        (["--replicas", "50"], "--replicas: 50 times a replica have to be there at once, each"),
    ],
)
def test_what_a_cluster_can_never_give_is_refused_at_once(
    done: Run, tmp_path: Path, more: list[str], told: str
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    arguments = [local_path(done.folder.url), "--system", "audio", "--address", address]
    with serving(*arguments, *more, log=tmp_path / "log") as server:
        assert server.process.wait(START_S) == 2, server.said
        assert told in server.said
        assert "The cluster has 1 node with 2 CPU, 1 GPU" in server.said
        assert "loading" not in server.said
    assert _serve_is_gone()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_stopped_before_there_is_room_leaves_nothing(
    done: Run, tmp_path: Path, number: int
) -> None:
    import ray

    address = ray.get_runtime_context().gcs_address
    arguments = [local_path(done.folder.url), "--system", "audio", "--address", address]
    taken = ray.remote(num_cpus=2)(Taken).remote()
    ray.get(taken.there.remote(), timeout=60)
    try:
        with serving(*arguments, log=tmp_path / "log") as server:
            deadline = time.monotonic() + START_S
            while not any(name.startswith("SERVE_REPLICA::audioflow#scorer") for name in _named()):
                assert time.monotonic() < deadline, server.said
                time.sleep(0.2)
            assert server.stop(number) == 0, server.said
            assert "loading audio" in server.said
            assert "Traceback" not in server.said
            assert "ready" not in server.said
    finally:
        ray.kill(taken)
    assert _serve_is_gone()


class Taken:
    """Takes the CPUs that a replica would need."""

    def there(self) -> None:
        """It is."""


def _serve_is_gone() -> bool:
    deadline = time.monotonic() + 20  # until Ray has heard of the last of its actors
    while any(name.startswith("SERVE_") for name in _named()):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.2)
    return True


def _named() -> list[str]:
    """The names of all actors there are."""
    import ray

    return [one["name"] for one in ray.util.list_named_actors(all_namespaces=True)]


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short name: Ray's sockets lie in it."""
    with tempfile.TemporaryDirectory(prefix="af-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def test_a_server_with_a_ray_of_its_own_refuses_what_is_too_much_and_ends_with_it(
    done: Run, tmp_path: Path, temporary: Path
) -> None:
    head = f"{local_path(done.folder.url)}/heads/audio"
    files = scored_files(done, "audio")
    path = next(iter(files))
    arguments = [head, "--address", "local", "--num-cpus", "1", "--max-waiting", "1"]
    arguments += ["--timeout-s", "8"]
    with serving(*arguments, log=tmp_path / "log", temporary=temporary) as server:
        server.wait()
        slow = _begun(server, path)
        status, told, headers = server.ask("POST", "/invocations", path.read_bytes())
        assert (status, told["error"], headers["retry-after"]) == (503, "overloaded", "1")
        answer = slow.getresponse()  # the rest of its body never comes
        assert (answer.status, json.loads(answer.read())["error"]) == (408, "upload_timeout")
        status, told = server.score(path)
        assert status == 200, told
        assert told["probability"] == pytest.approx(files[path]["scores"], abs=1e-5)
        group = server.process.pid
        _stopped_with_one_in_hand(server, path)
        assert f"ready at http://127.0.0.1:{server.port}" in server.said
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and _alive(group):
            time.sleep(0.1)
        assert not _alive(group), "processes of its Ray are left"
        assert not list(temporary.glob("audioflow-serve-*")), "bodies are left"


def _stopped_with_one_in_hand(server: Server, path: Path) -> None:
    """Who is being served gets an answer, who comes later none."""
    data = path.read_bytes()
    connection = _begun(server, path, len(data))
    server.process.send_signal(signal.SIGINT)
    while "stopping" not in server.said:
        time.sleep(0.05)
    connection.send(data[100:])
    answer = connection.getresponse()
    assert answer.status == 200
    assert len(json.loads(answer.read())["probability"]) == 6
    assert server.process.wait(60) == 0, server.said


def _begun(server: Server, path: Path, size: int = 10**6) -> http.client.HTTPConnection:
    """A request whose body comes but in part."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.putrequest("POST", "/invocations")
    connection.putheader("Content-Length", str(size))
    connection.endheaders(path.read_bytes()[:100])
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if server.ask("GET", "/info")[1]["in_hand"] == 1:
            return connection
    raise TimeoutError(server.said)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


FOLDED: dict[str, Any] = {
    "manifest": {
        "reader": "folder",
        "splits": {"folds": 3, "test": 0.3},
        "merge": {"rain": "water", "waterfall": "water"},
    },
    "embed": BASE["embed"]
    | {
        "backbones": {"acoustic": {}},
        "augment": {"variants": 2, "splits": ["train", "test"], "offsets_s": [0.2, 0.4]},
    },
    "systems": {
        "sound": {
            "backbone": "acoustic",
            "head": "linear",
            "train": {"epochs": 6, "lr": 0.01, "batch_size": 8, "fine": True},
            "calibration": {"method": "temperature", "thresholds": {"f1": "best"}},
        }
    },
    "score": {"splits": ["test"], "variants": "mean"},
    "fuse": {},
}


def test_folds_variants_merged_classes_and_thresholds_are_served_as_they_are_scored(
    corpus: Path, tmp_path: Path, ray_session: None
) -> None:
    run = build_run(corpus, tmp_path, sections=FOLDED)
    for job in ("manifest", "embed", "train", "score"):
        run_job(job, run)
    rows = {path: row for path, row in scored_files(run, "sound").items() if row["split"] == "test"}
    assert len(rows) >= 6
    served = find_served(run.folder / "heads" / "sound", None)
    assert served.about.variants == 3
    assert "water" in served.about.classes
    decoders = Decoders(served.wanted, Limits(decoders=1))
    media: dict[str, list[Part]] = {
        str(path): decoders.decode(str(path), time.monotonic() + 60) for path in rows
    }
    decoders.close()
    found = Model(served).scores(media)
    for path, row in rows.items():
        one = found[str(path)]
        assert isinstance(one, Scored)
        assert one.scores.tolist() == pytest.approx(row["scores"], abs=1e-5)
        assert one.above == row["above_threshold"]
    recorded = Model(find_served(run.folder / "heads" / "sound", None, "recorded"))
    differ = [
        abs(one.scores - found[clip_id].scores).max()
        for clip_id, one in recorded.scores(media).items()
    ]
    assert max(differ) > 1e-4, "the mean over variants is another one"
