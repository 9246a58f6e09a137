"""Media in a bucket: an S3 server on this machine, over HTTP, and what fetching alone reaches."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import av

SECONDS = 4.0


@contextmanager
def bucket(store: str, files: Sequence[Path], folder: Path) -> Iterator[tuple[str, float | None]]:
    """The url under which the files are (one class folder each, as on disk), and the rate (x real
    time) of fetching them without doing anything else; None where they are on disk."""
    if store == "local":
        yield str(folder / "media"), None
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    before = dict(os.environ)
    os.environ |= {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(url)
        fs, keys = _put(files)
        yield "s3://bench/media", _fetching(fs, keys, files)
    finally:
        server.terminate()
        server.wait()
        os.environ.clear()
        os.environ.update(before)


def _wait(url: str) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            urllib.request.urlopen(url, timeout=2).close()
            return
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)


def _put(files: Sequence[Path]) -> tuple[object, list[str]]:
    import s3fs

    fs = s3fs.S3FileSystem()
    fs.mkdir("bench")
    keys = [f"bench/media/{path.parent.name}/{path.name}" for path in files]
    with ThreadPoolExecutor(4) as pool:
        list(
            pool.map(
                lambda pair: fs.pipe_file(pair[1], pair[0].read_bytes()),
                zip(files, keys, strict=True),
            )
        )
    return fs, keys


def _fetching(fs: object, keys: Sequence[str], files: Sequence[Path]) -> float:
    """Fetching with eight requests at a time, server and client on the same cores."""
    with av.open(str(files[0])) as container:
        clip_s = container.duration / av.time_base
    began = time.perf_counter()
    count = 0
    with ThreadPoolExecutor(8) as pool:
        while time.perf_counter() - began < SECONDS:
            batch = [keys[(count + number) % len(keys)] for number in range(32)]
            list(pool.map(fs.cat_file, batch))  # type: ignore[attr-defined]
            count += len(batch)
    return count * clip_s / (time.perf_counter() - began)
