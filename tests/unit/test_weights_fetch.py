"""Weight files are fetched whole and verified, from servers that break off and over S3."""

import errno
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from audioflow.retries import Retrying
from audioflow.stores import StorageOptions
from audioflow.weights import KnownWeights, WeightsError
from audioflow.weights.fetch import Fetched, Source, fetch, part_of
from audioflow.weights.store import digest, note_of, place, store_folder
from tests.faulty_s3 import FaultyS3, Rule
from tests.unit.weights_server import WeightsServer

QUICK = Retrying(attempts=4, first_wait_s=0.01, most_wait_s=0.02, patience_s=20)
DATA = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(DATA).hexdigest()
MD5 = hashlib.md5(DATA).hexdigest()


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture
def server() -> Iterator[WeightsServer]:
    with WeightsServer(DATA) as running:
        yield running


def known(server: WeightsServer, **facts: Any) -> KnownWeights:
    return KnownWeights("net", server.url, "MIT", "A. Author", **facts)


def got(weights: KnownWeights, **options: Any) -> Fetched:
    return fetch(weights, Source(weights.url, retrying=QUICK), **options)


def left_in(store: Path) -> list[str]:
    """The files of the store that are neither locks nor hashes."""
    names = (path.relative_to(store).as_posix() for path in store.rglob("*") if path.is_file())
    return sorted(name for name in names if not name.endswith(".lock") and "hashes/" not in name)


# Verified


@pytest.mark.parametrize(
    ("facts", "by"),
    [
        ({"sha256": SHA256}, "sha256"),
        ({"sha256": SHA256[:8]}, "sha256"),
        ({"sha256": SHA256.upper()}, "sha256"),
        ({"md5": MD5}, "md5"),
        ({}, "pinned"),
        ({"size_bytes": len(DATA)}, "pinned"),
    ],
)
def test_a_file_is_fetched_verified_and_noted(
    server: WeightsServer, store: Path, facts: dict[str, Any], by: str
) -> None:
    weights = known(server, **facts)
    told: list[tuple[int, int | None]] = []
    found = got(weights, progress=lambda done, total: told.append((done, total)))
    assert found == Fetched(place(weights), SHA256, by, True)
    assert found.path.read_bytes() == DATA
    assert found.path.name == "net.pth"
    assert told[-1] == (len(DATA), len(DATA))
    note = json.loads(note_of(found.path).read_text())
    assert (note["sha256"], note["verified"], note["licence"]) == (SHA256, by, "MIT")
    key = found.path.parent.name
    assert left_in(store) == [f"{key}/net.pth", f"{key}/net.pth.json"]
    requests = len(server.requests)
    assert got(weights) == replace(found, new=False)
    assert len(server.requests) == requests, "what is here is not fetched again"


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"sha256": "0" * 64}, f"expected sha256 {'0' * 64}, found {SHA256}"),
        ({"sha256": "01234567"}, f"expected sha256 01234567, found {SHA256}"),
        ({"md5": "f" * 32}, f"expected md5 {'f' * 32}, found {MD5}"),
        ({"size_bytes": 17}, f"expected 17 bytes, found {len(DATA)}"),
    ],
)
def test_another_file_is_not_kept_and_both_hashes_are_told(
    server: WeightsServer, store: Path, facts: dict[str, Any], told: str
) -> None:
    with pytest.raises(WeightsError, match=f"net as it was published: {told}.*not kept") as caught:
        got(known(server, **facts))
    assert server.url in str(caught.value)
    assert left_in(store) == []


def test_a_web_page_in_place_of_the_file_is_not_pinned(server: WeightsServer, store: Path) -> None:
    server.content = b"\n<!DOCTYPE html><p>Please log in"
    with pytest.raises(WeightsError, match="expected a weight file, found a web page"):
        got(known(server))
    assert left_in(store) == []


def test_a_pinned_file_that_changed_on_the_server_is_refused(server: WeightsServer) -> None:
    weights = known(server)
    got(weights).path.unlink()
    server.content, server.tag = DATA[::-1], '"two"'
    with pytest.raises(WeightsError, match=f"{SHA256}, which it had at the first fetch, found "):
        got(weights)


def test_a_damaged_file_in_the_store_is_fetched_again(server: WeightsServer) -> None:
    weights = known(server, sha256=SHA256)
    path = got(weights).path
    path.write_bytes(DATA[:-1] + b"x")
    assert got(weights).new
    assert path.read_bytes() == DATA


# Servers that fail


def test_a_download_goes_on_where_it_was_cut(server: WeightsServer) -> None:
    server.faults = ["drop", "drop", "503", "drop"]
    found = got(known(server, sha256=SHA256))
    assert found.path.read_bytes() == DATA
    assert [each.get("If-Range") for each in server.requests] == [None] + ['"one"'] * 4
    assert server.sent_bytes < len(DATA) * 1.1, "what came is not sent again"


def test_a_later_call_goes_on_where_the_first_one_gave_up(
    server: WeightsServer, store: Path
) -> None:
    weights = known(server, sha256=SHA256)
    server.faults = ["drop"] + ["503"] * 8
    with pytest.raises(
        WeightsError, match=r"fetched after 4 attempts: .*; \d{4,} bytes are kept, and the next"
    ):
        got(weights)
    kept = part_of(place(weights)).stat().st_size
    server.faults = []
    assert got(weights).path.read_bytes() == DATA
    assert server.requests[-1]["Range"] == f"bytes={kept}-"


def test_a_server_without_parts_sends_it_all_again(server: WeightsServer) -> None:
    server.faults, server.ranges = ["drop"], False
    assert got(known(server, sha256=SHA256)).path.read_bytes() == DATA
    assert server.sent_bytes > len(DATA) * 1.4


@pytest.mark.parametrize("tag", ['"two"', 'W/"weak"', ""])
def test_parts_of_two_versions_are_never_put_together(server: WeightsServer, tag: str) -> None:
    weights = known(server, sha256=hashlib.sha256(DATA[::-1]).hexdigest())
    server.tag = '"one"' if tag == '"two"' else tag
    server.faults = ["drop"] + ["503"] * 8
    with pytest.raises(WeightsError, match="bytes are kept"):
        got(weights)
    server.content, server.tag, server.faults = DATA[::-1], tag, []
    assert got(weights).path.read_bytes() == DATA[::-1]


def test_a_file_that_became_shorter_begins_anew(server: WeightsServer) -> None:
    server.tag, server.faults = "", ["drop"] + ["503"] * 8
    with pytest.raises(WeightsError, match="bytes are kept"):
        got(known(server))
    server.content, server.faults = DATA[:1000], []
    assert got(known(server)).path.read_bytes() == DATA[:1000]


@pytest.mark.parametrize(
    ("status", "told", "requests"),
    [
        (404, "does not exist", 1),
        (403, "may not be read with these credentials", 1),
        (410, "does not exist", 1),
        (500, "could not be fetched after 4 attempts: .*500", 4),
    ],
)
def test_what_a_server_refuses_is_told(
    server: WeightsServer, store: Path, status: int, told: str, requests: int
) -> None:
    server.status = status
    with pytest.raises(WeightsError, match=rf"{re.escape(server.url)} {told}") as caught:
        got(known(server))
    assert caught.value.exit_code == 4
    assert len(server.requests) == requests
    assert left_in(store) == []


def test_a_server_that_is_not_there_is_told(server: WeightsServer) -> None:
    weights = replace(known(server), url="http://127.0.0.1:9/net.pth")
    with pytest.raises(WeightsError, match=r"127\.0\.0\.1:9/net\.pth could not .*after 4.*refused"):
        got(weights)


# Secrets and options


def test_passwords_and_signatures_are_sent_and_not_told(server: WeightsServer, store: Path) -> None:
    secret = server.url.replace("http://", "http://me:pass-word@") + "?X-Amz-Signature=abcdef99"
    options = StorageOptions.of({"client_kwargs": {"headers": {"X-Key": "geheim-geheim"}}})
    weights = known(server, sha256=SHA256)
    fetch(weights, Source(secret, options, QUICK))
    sent = server.requests[0]
    assert sent["Authorization"] == "Basic bWU6cGFzcy13b3Jk"
    assert (sent["X-Key"], sent["path"][-24:]) == ("geheim-geheim", "X-Amz-Signature=abcdef99")
    place(weights).unlink()
    server.status = 500
    with pytest.raises(WeightsError) as caught:
        fetch(weights, Source(secret, options, QUICK))
    written = "".join(path.read_text(errors="replace") for path in store.rglob("*.json"))
    for text in ("pass-word", "abcdef99", "geheim-geheim"):
        assert text not in str(caught.value)
        assert text not in written


# Elsewhere


def test_a_copy_that_is_here_is_verified_alike(server: WeightsServer, tmp_path: Path) -> None:
    copy = tmp_path / "copy.pth"
    copy.write_bytes(DATA)
    weights = known(server, sha256=SHA256[:10])
    assert fetch(weights, Source(str(copy))).path.read_bytes() == DATA
    assert server.requests == []
    place(weights).unlink()
    copy.write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"copy\.pth is not net .*expected sha256"):
        fetch(weights, Source(f"file://{copy}"))
    with pytest.raises(WeightsError, match="absent does not exist"):
        fetch(weights, Source(str(tmp_path / "absent")))
    with pytest.raises(WeightsError, match="is a folder, expected a weight file"):
        fetch(weights, Source(str(tmp_path)))


def test_s3_that_fails_in_between(s3_server: str, server: WeightsServer) -> None:
    import s3fs

    bucket = f"weights-{uuid.uuid4().hex[:8]}"
    plain = s3fs.S3FileSystem(endpoint_url=s3_server)
    plain.mkdir(bucket)
    plain.pipe(f"{bucket}/net.pth", DATA)
    with FaultyS3(s3_server) as proxy:
        proxy.add(Rule(("slow_down", "drop"), method="GET", times=3))
        options = StorageOptions.of(
            {"endpoint_url": proxy.url, "config_kwargs": {"read_timeout": 2}}
        )
        source = Source(f"s3://{bucket}/net.pth", options, QUICK)
        assert fetch(known(server, sha256=SHA256), source).path.read_bytes() == DATA
        assert sum(proxy.injected.values()) == 3
        absent = Source(f"s3://{bucket}/absent", options, QUICK)
        with pytest.raises(WeightsError, match="absent does not exist"):
            fetch(replace(known(server), url="http://x/y"), absent)
    assert server.requests == []


# Room, rights, and others at the same time


def test_no_room_is_told_before_and_while_it_fills_up(
    server: WeightsServer, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(10, 5, 5))  # type: ignore[attr-defined]
        with pytest.raises(WeightsError, match=rf"cannot be written to {store}.*1024000 bytes are"):
            got(known(server))
    assert len(server.requests) == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_is_no_reason_to_try_again(server: WeightsServer) -> None:
    weights = known(server)
    place(weights).parent.mkdir(parents=True)
    part_of(place(weights)).symlink_to("/dev/full")
    with pytest.raises(WeightsError, match=f"{os.strerror(errno.ENOSPC)}; make room.*AUDIOFLOW_W"):
        got(weights)
    assert len(server.requests) == 1


def test_a_store_that_cannot_be_made_is_told(
    server: WeightsServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "file" / "store"))
    with pytest.raises(WeightsError, match=r"cannot be written to .*file/store: Not a directory"):
        got(known(server))
    assert server.requests == []


def test_several_at_once_in_one_process_fetch_it_once(server: WeightsServer) -> None:
    server.faults = ["slow"]
    weights = known(server, sha256=SHA256)
    found: list[Fetched] = []
    threads = [threading.Thread(target=lambda: found.append(got(weights))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(each.new for each in found) == [False] * 5 + [True]
    assert server.sent_bytes == len(DATA)
    assert place(weights).read_bytes() == DATA


def test_a_process_that_is_killed_leaves_what_the_next_one_goes_on_with(
    server: WeightsServer,
) -> None:
    server.faults = ["slow"]
    code = (
        "import sys; from audioflow.weights import KnownWeights\n"
        "from audioflow.weights.fetch import fetch\n"
        "fetch(KnownWeights('net', sys.argv[1], 'MIT', ''),\n"
        "      progress=lambda done, total: print(done, flush=True))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code, server.url], stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    while int(child.stdout.readline()) < 200_000:
        pass
    child.kill()
    child.wait()
    child.stdout.close()
    weights = known(server, sha256=SHA256)
    kept = part_of(place(weights)).stat().st_size
    assert kept > 100_000
    assert got(weights).path.read_bytes() == DATA
    assert server.requests[-1]["Range"] == f"bytes={kept}-"


def test_a_process_that_stands_still_does_not_hold_others_for_ever(
    server: WeightsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    import fcntl

    monkeypatch.setattr("audioflow.weights.store.LOCK_PATIENCE_S", 0.2)
    target = place(known(server))
    target.parent.mkdir(parents=True)
    with target.with_name("net.pth.lock").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(WeightsError, match=r"another process holds .*net\.pth\.lock"):
            got(known(server))
    assert got(known(server)).new


# Where, and hashes


def test_where_the_store_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", "~/w")
    assert store_folder() == tmp_path / "w"
    monkeypatch.delenv("AUDIOFLOW_WEIGHTS")
    monkeypatch.setenv("XDG_CACHE_HOME", "/var/cache/me")
    assert store_folder() == Path("/var/cache/me/audioflow/weights")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert store_folder() == tmp_path / ".cache" / "audioflow" / "weights"
    assert list(tmp_path.iterdir()) == [], "asking where it is makes nothing"


def test_hashes_are_kept_until_the_file_changes(tmp_path: Path, store: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    os.utime(path, ns=(10**18, 10**18))
    first = hashlib.sha256(b"one").hexdigest()
    assert digest(path) == first
    [kept] = (store / "hashes").iterdir()
    kept.write_text(kept.read_text().replace(first, "kept"))
    assert digest(path) == "kept", "it is not read again"
    os.utime(path, ns=(10**18, 10**18 + 1))
    assert digest(path) == first
    path.write_bytes(b"two")
    assert digest(path) == hashlib.sha256(b"two").hexdigest()
    kept.write_text("{damaged")
    assert digest(path) == hashlib.sha256(b"two").hexdigest()


def test_hashes_need_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_bytes(b"one")
    os.utime(tmp_path / "file", ns=(10**18, 10**18))
    monkeypatch.setenv("AUDIOFLOW_WEIGHTS", str(tmp_path / "file" / "store"))
    assert digest(tmp_path / "file") == hashlib.sha256(b"one").hexdigest()
    with pytest.raises(WeightsError, match="absent cannot be read: No such file"):
        digest(tmp_path / "absent")
