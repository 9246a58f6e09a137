"""Folders, listings and downloads in a bucket, behind a server that fails."""

import os
import pickle
import re
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from audioflow import retries, s3_pages
from audioflow.console import Console
from audioflow.datasets import READERS
from audioflow.errors import InputError, MediaError, StorageError
from audioflow.listing import find_files
from audioflow.retries import Retrying, hearing_waits
from audioflow.storage import Folder, StorageOptions, copies_ahead, local_copy
from tests.conftest import free_port
from tests.faulty_s3 import FaultyS3, Rule

QUICK = Retrying(attempts=5, first_wait_s=0.02, most_wait_s=0.1, patience_s=30)
PASSING = ("slow_down", "error", "html", "refuse", "drop", "truncate", "stall", "silent", "trickle")
DATA = os.urandom(50_000)


@pytest.fixture(scope="module")
def bucket(s3_server: str) -> str:
    import s3fs

    name = f"bucket-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(name)
    return name


@pytest.fixture(scope="module")
def _proxy(s3_server: str) -> Iterator[FaultyS3]:
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture
def proxy(_proxy: FaultyS3) -> FaultyS3:
    _proxy.clear()
    return _proxy


@pytest.fixture
def options(proxy: FaultyS3) -> StorageOptions:
    timeouts = {"connect_timeout": 0.4, "read_timeout": 0.4}
    return StorageOptions.of({"endpoint_url": proxy.url, "config_kwargs": timeouts})


@pytest.fixture
def folder(bucket: str, options: StorageOptions) -> Folder:
    """An empty folder of the bucket, behind the proxy."""
    return Folder(f"s3://{bucket}/{uuid.uuid4().hex}", options, QUICK)


def fetched(folder: Folder, name: str) -> bytes:
    with local_copy(folder.file(name), folder.options, QUICK) as path:
        return Path(path).read_bytes()


USES: dict[str, Callable[[Folder], Any]] = {
    "read": lambda folder: folder.read("a") == DATA,
    "write": lambda folder: folder.write("b", DATA),
    "names": lambda folder: folder.names() == ["a"],
    "exists": lambda folder: folder.exists("a"),
    "remove": lambda folder: folder.remove("a"),
    "read_many": lambda folder: folder.read_many(["a", "absent"]) == {"a": DATA},
    "find": lambda folder: [f.relative for f in find_files(folder.url, folder.options)] == ["a"],
    "download": lambda folder: fetched(folder, "a") == DATA,
}


@pytest.mark.parametrize("fault", PASSING)
@pytest.mark.parametrize("use", USES)
def test_every_use_survives_what_passes(
    folder: Folder, proxy: FaultyS3, fault: str, use: str
) -> None:
    folder.write("a", DATA)
    slow = fault in ("stall", "silent") or use in ("names", "find")
    proxy.add(Rule((fault,), times=1 if slow else 2))
    assert USES[use](folder) in (True, None)
    assert proxy.injected[fault] >= 1
    proxy.clear()
    if use == "write":
        assert folder.read("b") == DATA
    if use == "remove":
        assert folder.names() == []


@pytest.mark.parametrize("use", USES)
def test_a_refusal_is_told_at_once(folder: Folder, proxy: FaultyS3, use: str) -> None:
    folder.write("a", DATA)
    proxy.clear()
    proxy.add(Rule(("forbidden",)))
    with pytest.raises((InputError, StorageError, MediaError), match=r"s3://.*(Denied|Forbidden)"):
        USES[use](folder)
    names = 2 if use == "read_many" else 1
    assert len(proxy.requests) == names


def test_after_all_attempts_the_error_tells_how_many(folder: Folder, proxy: FaultyS3) -> None:
    folder.write("a", DATA)
    proxy.clear()
    proxy.add(Rule(("slow_down",)))
    with pytest.raises(InputError, match=r"/a cannot be read after 5 attempts: .*reduce your req"):
        folder.read("a")
    assert len(proxy.requests) == 5, "the retries of the libraries below must not multiply ours"
    with pytest.raises(StorageError, match=r"/b cannot be written after 5 attempts: .*reduce"):
        folder.write("b", DATA)
    with pytest.raises(
        MediaError, match=r"/a could not be fetched after 5 attempts: .*reduce"
    ) as e:
        fetched(folder, "a")
    assert (e.value.error, e.value.attempts) == ("network", 5)
    copy = pickle.loads(pickle.dumps(e.value))
    assert (copy.error, copy.reason, copy.attempts) == ("network", e.value.reason, 5)


@pytest.mark.parametrize(
    ("error", "name"), [("not_found", "absent"), ("permission", "secret"), ("network", "cut")]
)
def test_a_download_that_fails_has_a_class_and_leaves_nothing(
    folder: Folder, proxy: FaultyS3, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: str,
    name: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for file in ("secret", "cut"):
        folder.write(file, DATA)
    proxy.clear()
    proxy.add(Rule(("forbidden",), path="secret"), Rule(("drop", "truncate"), path="cut"))
    with pytest.raises(MediaError) as caught:
        fetched(folder, name)
    assert caught.value.error == error
    assert caught.value.attempts == len(proxy.requests) == (5 if error == "network" else 1)
    assert os.listdir(tmp_path) == []
    assert folder.url in caught.value.reason


def test_a_download_is_one_request(folder: Folder, proxy: FaultyS3) -> None:
    folder.write("a", DATA)
    proxy.clear()
    assert fetched(folder, "a") == DATA
    assert folder.read("a") == DATA
    assert [method for method, _ in proxy.requests] == ["GET", "GET"]


def test_a_bucket_that_is_not_there_is_told_at_once(folder: Folder, proxy: FaultyS3) -> None:
    other = Folder("s3://no-such-bucket-anywhere/run", folder.options, QUICK)
    with pytest.raises(StorageError, match=r"cannot be written: .*bucket does not exist"):
        other.write("a", b"")
    with pytest.raises(InputError, match="run does not exist, or nothing is in it"):
        find_files(other.url, other.options)
    with pytest.raises(MediaError, match="does not exist") as caught:
        fetched(other, "a")
    assert caught.value.error == "not_found"
    with pytest.raises(MediaError, match=r"Invalid bucket name|does not exist") as caught:
        fetched(Folder("s3://No_Such!Bucket/run", folder.options, QUICK), "a")
    assert caught.value.error == "not_found"


@pytest.fixture
def dead() -> StorageOptions:
    """Where nobody answers."""
    return StorageOptions.of({"endpoint_url": f"http://127.0.0.1:{free_port()}"})


def test_a_dead_endpoint_is_told_within_the_bound(bucket: str, dead: StorageOptions) -> None:
    folder = Folder(f"s3://{bucket}/run", dead, QUICK)
    begun = time.monotonic()
    with pytest.raises(MediaError, match="after 5 attempts: Could not connect") as caught:
        fetched(folder, "a")
    assert caught.value.error == "network"
    with pytest.raises(InputError, match="after 5 attempts: Could not connect"):
        folder.read("a")
    assert time.monotonic() - begun < 5


def test_whoever_listens_hears_of_a_store_that_is_waited_for(
    bucket: str, dead: StorageOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, console = Folder(f"s3://{bucket}/run", dead, Retrying(9, 0.5, 0.5)), Console()
    with hearing_waits(console.waits), pytest.raises(InputError, match="after 9 attempts"):
        folder.read("a")
    (told,) = capsys.readouterr().err.splitlines()
    assert re.fullmatch(
        rf"waiting: s3://{bucket}/run/a: Could not connect .+; it is tried again "
        r"\(attempt [3-9] of 9 failed\)",
        told,
    )
    with pytest.raises(InputError):
        folder.read("a")
    with hearing_waits(console.waits), pytest.raises(InputError):
        Folder(folder.url, dead, QUICK).read("a")
    assert not capsys.readouterr().err, "nobody listens, then it is soon over"


def test_a_silent_server_costs_no_more_than_patience_and_one_attempt(
    folder: Folder, proxy: FaultyS3
) -> None:
    proxy.add(Rule(("silent",)))
    impatient = Folder(folder.url, folder.options, Retrying(100, 0.1, 0.2, patience_s=1.5))
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be read after [234] attempts: Read timeout"):
        impatient.read("a")
    assert time.monotonic() - begun < 10, "all attempts would take 20 s and more"


def test_a_listing_of_many_pages_is_read_though_every_third_page_fails(
    folder: Folder, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = [f"{number:02d}" for number in range(25)]
    for name in names:
        folder.write(name, b"")
    monkeypatch.setattr(s3_pages, "PAGE", 2)
    proxy.clear()
    proxy.add(Rule(("slow_down", "refuse"), every=3))
    assert folder.names() == names
    assert proxy.injected.total() >= 5
    assert len(proxy.requests) < 13 * 2, "a page that failed costs that page, not the listing"


def test_names_of_a_bucket_are_never_those_of_before(folder: Folder, s3_server: str) -> None:
    assert folder.names() == []
    elsewhere = Folder(folder.url, StorageOptions.of({"endpoint_url": s3_server}))
    elsewhere.write("a", b"")
    assert folder.names() == ["a"]
    assert folder.exists("a")
    elsewhere.remove("a")
    assert not folder.exists("a")
    assert folder.names() == []


def test_the_marker_of_a_folder_is_no_file_in_it(folder: Folder, s3_server: str) -> None:
    import s3fs

    fs = s3fs.S3FileSystem(endpoint_url=s3_server)
    fs.call_s3("put_object", Bucket=folder.url.split("/")[2], Key=folder.url.split("/")[3] + "/")
    folder.write("a", b"")
    assert folder.names() == ["a"]


def test_remove_all_leaves_nothing_though_requests_fail(folder: Folder, proxy: FaultyS3) -> None:
    for name in ("a", "b"):
        (folder / "deep").write(name, DATA)
    proxy.add(Rule(("error", "refuse"), every=2))
    folder.remove_all()
    folder.remove_all()
    proxy.clear()
    assert (folder / "deep").names() == []


def test_many_small_files_are_read_side_by_side(folder: Folder, proxy: FaultyS3) -> None:
    names = [f"{number}.json" for number in range(60)]
    for name in names:
        folder.write(name, name.encode())
    proxy.clear()
    proxy.add(Rule(("slow_down", "drop", "refuse"), every=7))
    found = folder.read_many([*names, "absent", names[0]])
    assert found == {name: name.encode() for name in names}
    assert proxy.injected.total() >= 6
    assert len(proxy.requests) < 61 + 30, "only those that failed are asked for again"


# Options


def test_options_reach_the_store_and_the_longest_prefix_counts(
    folder: Folder, proxy: FaultyS3, s3_server: str
) -> None:
    given = {
        "endpoint_url": "http://127.0.0.1:1",
        "s3://": {"anon": True},
        folder.url: {"endpoint_url": proxy.url},
    }
    options = StorageOptions.of(given)
    assert options.for_url("/local") == {}
    assert options.for_url("s3://other/a") == {"endpoint_url": "http://127.0.0.1:1", "anon": True}
    assert options.for_url(folder.file("a")) == {"endpoint_url": proxy.url}
    Folder(folder.url, options, QUICK).write("a", DATA)
    assert [method for method, _ in proxy.requests] == ["PUT"]


def test_an_option_can_be_taken_back_for_a_prefix() -> None:
    options = StorageOptions.of({"endpoint_url": "http://a", "s3://b/": {"endpoint_url": None}})
    assert options.for_url("s3://b/x") == {}
    assert options.for_url("gs://b/x") == {"endpoint_url": "http://a"}


@pytest.mark.parametrize(
    "given",
    [
        {"endpont_url": "PLANTED-value"},
        {"config_kwargs": {"endpont_url": "PLANTED-value"}},
        {"client_kwargs": {"endpont_url": "PLANTED-value"}},
    ],
)
def test_an_option_that_the_store_does_not_know_is_named(given: dict[str, Any]) -> None:
    options = StorageOptions.of(given)
    uses: tuple[Callable[[], Any], ...] = (
        lambda: Folder("s3://bucket/run", options).read("a"),
        lambda: Folder("s3://bucket/run", options).names(),
        lambda: Folder("s3://bucket/run", options).write("a", b""),
        lambda: find_files("s3://bucket/run", options),
    )
    for use in uses:
        with pytest.raises(InputError, match=r"storage_options: 'endpont_url' is no option") as e:
            use()
        assert "PLANTED" not in str(e.value)
    with pytest.raises(MediaError, match="'endpont_url' is no option") as caught:
        fetched(Folder("s3://bucket", options), "a")
    assert caught.value.error == "unsupported"


def test_an_option_of_another_store_is_named_when_that_is_used(proxy: FaultyS3) -> None:
    options = StorageOptions.of({"endpoint_url": proxy.url})
    folder = Folder(proxy.url + "/bucket", options, QUICK)
    with pytest.raises(
        InputError, match=r"'endpoint_url' is no option .* behind http://.*below the url prefix"
    ):
        folder.read("a")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"secret": 12345678}, "secret is no text; allowed: a text (put it in quotes)"),
        ({"anon": "yes"}, "anon is neither true nor false; allowed: true or false"),
        ({"client_kwargs": "x"}, "client_kwargs is no mapping"),
        ({"endpoint_url": "minio:9000"}, "endpoint_url is no address of a server; allowed: http:"),
        ({"s3://a/": "x"}, "s3://a/ is no mapping; allowed: a mapping of its own options"),
        ({"s3://a/": {"key": 1}}, "s3://a/.key is no text"),
        ({"s3://a/": {"s3://b/": {}}}, "s3://a/.s3://b/ is a url prefix inside another"),
        ({"file:///a": {}}, "file:///a is no url of a store"),
        ({"session": "x"}, "session cannot be set: it is audioflow's to choose"),
        ({"s3://u:PLANTED@b/": {}}, "s3://***@b/ holds a password"),
    ],
)
def test_options_of_a_wrong_shape_are_told_without_their_values(
    given: dict[str, Any], told: str
) -> None:
    with pytest.raises(ValueError) as caught:
        StorageOptions.of(given)
    assert str(caught.value).startswith(told)
    assert "PLANTED" not in str(caught.value)
    assert "12345678" not in str(caught.value)


def test_options_travel_and_never_show_their_values() -> None:
    given = {"key": "PLANTED-key", "s3://b/": {"secret": "PLANTED-secret"}}
    folder = Folder("s3://b/run", StorageOptions.of(given)) / "inner"
    assert folder.options.for_url(folder.url) == {"key": "PLANTED-key", "secret": "PLANTED-secret"}
    assert pickle.loads(pickle.dumps(folder)) == folder
    assert hash(folder) == hash(pickle.loads(pickle.dumps(folder)))
    assert folder.options != StorageOptions()
    assert repr(folder.options) == str(folder.options) == "StorageOptions(key, s3://b/)"
    assert "PLANTED" not in repr(folder)


def test_readers_find_lists_and_media_where_the_options_say(
    folder: Folder, proxy: FaultyS3
) -> None:
    folder.write("clips.csv", b"file,label\nmedia/a.wav,x\nmedia/gone.wav,x\n")
    (folder / "media").write("a.wav", DATA)
    proxy.clear()
    asked = {"list": folder.file("clips.csv"), "file_column": "file", "label_column": "label"}
    found, lost = READERS.build("csv", asked).read(lambda url: Folder(url, folder.options))
    assert (found.size_bytes, lost.size_bytes) == (len(DATA), None)
    asked = {"root": folder.url, "pattern": "*.wav"}
    (clip,) = READERS.build("folder", asked).read(lambda url: Folder(url, folder.options))
    assert clip.clip_id == "media/a.wav"
    assert len(proxy.requests) == 3, "one list and two listings"


# The local disk


class FullDisk(MemoryFileSystem):
    """A store whose downloads find no room on the local disk."""

    protocol = "fulldisk"

    def get_file(self, *_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")


class ShortAnswers(MemoryFileSystem):
    """A store whose library takes two short answers for whole files."""

    protocol = "short"
    calls = 0

    def get_file(self, remote: str, local: str, callback: Any, **_: Any) -> None:
        type(self).calls += 1
        callback.set_size(len(DATA))
        Path(local).write_bytes(DATA if self.calls == 3 else DATA[: self.calls])


fsspec.register_implementation("fulldisk", FullDisk, clobber=True)
fsspec.register_implementation("short", ShortAnswers, clobber=True)


def test_a_full_disk_is_not_the_recordings_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    told = rf"no recording can be downloaded to {tmp_path}: No space left on device; .*TMPDIR"
    with pytest.raises(StorageError, match=told):
        fetched(Folder("fulldisk://bucket"), "a")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "absent"))
    with pytest.raises(StorageError, match=r"to .*/absent: No such file.*; make room there, or"):
        fetched(Folder("fulldisk://bucket"), "a")


def test_a_short_file_is_fetched_again_where_the_library_takes_it_for_whole() -> None:
    ShortAnswers.calls = 0
    assert fetched(Folder("short://bucket"), "a") == DATA
    assert ShortAnswers.calls == 3
    ShortAnswers.calls = 10
    with pytest.raises(MediaError, match=r"after 5 attempts: only \d+ of 50000 bytes"):
        fetched(Folder("short://bucket"), "a")


# Waiting


def test_waits_double_with_jitter_up_to_the_longest() -> None:
    retrying = Retrying(9, first_wait_s=1, most_wait_s=5)
    for attempt, longest in enumerate((1, 2, 4, 5, 5), 1):
        waits = [retrying.wait_s(attempt) for _ in range(50)]
        assert longest / 2 <= min(waits) < max(waits) <= longest
    for standard, most_s in ((retries.MEDIA, 30), (retries.TABLES, 121)):
        bounds = [min(standard.first_wait_s * 2**n, standard.most_wait_s) for n in range(20)]
        assert sum(bounds[: standard.attempts - 1]) == most_s


def test_only_what_may_pass_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(retries.time, "sleep", waits.append)

    def failing(*errors: Exception) -> Callable[[], str]:
        left = list(errors)

        def action() -> str:
            if left:
                raise left.pop(0)
            return "done"

        return action

    assert retries.retried(failing(OSError(5, "a"), TimeoutError(), ConnectionResetError()), QUICK)
    assert len(waits) == 3
    for lasting in (FileNotFoundError(), PermissionError(), OSError(28, "full"), OSError(22, "?")):
        with pytest.raises(retries.AccessFailed) as caught:
            retries.retried(failing(OSError(5, "a"), lasting), QUICK)
        assert (caught.value.error, caught.value.attempts) == (lasting, 2)
    with pytest.raises(ZeroDivisionError):
        retries.retried(failing(ZeroDivisionError()), QUICK)


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where downloads go, and nothing else."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_recordings_are_downloaded_ahead_in_their_order(folder: Folder, downloads: Path) -> None:
    names = [f"{number}.wav" for number in range(9)]
    for name in names:
        if name != "4.wav":
            folder.write(name, name.encode())
    urls = [folder.file(name) for name in names]
    found: list[bytes | str] = []
    with copies_ahead(urls, folder.options, QUICK) as following:
        for _ in names:
            try:
                with following() as path:
                    found.append(Path(path).read_bytes())
                    least, until = min(3, len(names) - len(found) - 1), time.monotonic() + 20
                    while len(list(downloads.iterdir())) < least:
                        assert time.monotonic() < until, "nothing is downloaded ahead"
                        time.sleep(0.01)
            except MediaError as error:
                found.append(error.error)
    expected = [name.encode() for name in names]
    assert found == [*expected[:4], "not_found", *expected[5:]]
    assert not list(downloads.iterdir())


def test_what_was_downloaded_in_vain_is_removed(folder: Folder, downloads: Path) -> None:
    urls = [folder.file(f"{number}.wav") for number in range(6)]
    for url in urls:
        folder.write(url.rpartition("/")[2], DATA)
    with (
        pytest.raises(ZeroDivisionError),
        copies_ahead(urls, folder.options, QUICK) as following,
        following(),
    ):
        raise ZeroDivisionError
    assert not list(downloads.iterdir())
