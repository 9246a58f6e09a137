"""Buckets are listed page by page, in the order of names; what fails is that page alone."""

import uuid
from collections.abc import Iterator

import pytest
import s3fs

from audioflow import s3_pages
from audioflow.errors import InputError
from audioflow.listing import each_file, find_files
from audioflow.storage import Folder
from audioflow.stores import StorageOptions
from tests.faulty_s3 import FaultyS3, Rule

NAMES = [
    *(f"cat/{number:03}.wav" for number in range(40)),
    *("cat/a b.wav", "cat/ä.wav", "cat/日本.wav", "cat/𝄞.wav", "cat/sub/1.wav", "cat-2/1.wav"),
    *("Zoo/1.wav", "top.wav"),
]
LEFT_OUT = ["cat/.hidden.wav", ".git/config"]
PAGE = 7


@pytest.fixture
def proxy(s3_server: str) -> Iterator[FaultyS3]:
    with FaultyS3(s3_server) as proxy:
        yield proxy


@pytest.fixture
def folder(s3_server: str, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch) -> Folder:
    """A folder with those names, beside another whose name begins like its own."""
    bucket = f"listed-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(bucket)
    root = Folder(f"s3://{bucket}/run", StorageOptions.of({"endpoint_url": proxy.url}))
    for name in (*NAMES, *LEFT_OUT):
        root.write(name, name.encode())
    Folder(f"s3://{bucket}/run-2", root.options).write("other.wav", b"other")
    monkeypatch.setattr(s3_pages, "PAGE", PAGE)
    proxy.clear()
    return root


def pages(proxy: FaultyS3) -> int:
    return sum("list-type=2" in path for _, path in proxy.requests)


def test_all_names_come_in_their_order_and_page_by_page(folder: Folder, proxy: FaultyS3) -> None:
    found = each_file(folder.url, folder.options)
    first = next(found)
    assert pages(proxy) == 1, "more was asked for than was used"
    files = [first, *found]
    assert [file.relative for file in files] == sorted(NAMES)
    assert pages(proxy) == -(-(len(NAMES) + len(LEFT_OUT)) // PAGE)
    assert [file.size_bytes for file in files] == [len(name.encode()) for name in sorted(NAMES)]
    assert len({file.version for file in files}) == len(NAMES)
    assert all(folder.read(file.relative) == file.relative.encode() for file in files[:3])
    assert files[-1].url == f"{folder.url}/top.wav"


@pytest.mark.parametrize("more", [{}, {"version_aware": True}])
def test_hidden_files_are_told_and_a_hidden_folder_once(
    folder: Folder, s3_server: str, more: dict[str, bool]
) -> None:
    for number in range(2 * PAGE):  # so that it goes over the end of a page
        folder.write(f"cat/.cache/{number}/a.wav", b"")
    options = StorageOptions.of({"endpoint_url": s3_server} | more)
    told: list[tuple[str, str]] = []
    found = list(each_file(folder.url, options, lambda *what: told.append(what)))
    assert [file.relative for file in found] == sorted(NAMES)
    hidden = [".git", "cat/.cache", "cat/.hidden.wav"]
    assert told == [("hidden", path) for path in hidden]


def test_it_gives_what_the_store_s_own_library_gives(folder: Folder, s3_server: str) -> None:
    versioned = Folder(folder.url, StorageOptions.of({"endpoint_url": s3_server} | AWARE))
    mine = find_files(folder.url, folder.options)
    theirs = find_files(versioned.url, versioned.options)
    assert [(f.url, f.size_bytes, f.version) for f in mine] == [
        (f.url, f.size_bytes, f.version) for f in theirs
    ]


AWARE = {"version_aware": True}
"""By this option listings go through s3fs, whole."""


def test_a_page_that_fails_is_asked_for_again_and_nothing_is_twice(
    folder: Folder, proxy: FaultyS3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    proxy.add(Rule(("error", "slow_down"), path="list-type=2", every=3))
    assert [f.relative for f in each_file(folder.url, folder.options)] == sorted(NAMES)
    assert proxy.injected["error"] + proxy.injected["slow_down"] >= 2


def test_a_listing_that_breaks_off_is_no_shorter_list(folder: Folder, proxy: FaultyS3) -> None:
    found = each_file(folder.url, folder.options)
    next(found)
    proxy.add(Rule(("forbidden",), path="list-type=2"))
    with pytest.raises(InputError, match=rf"{folder.url} cannot be listed: .*(Denied|Forbidden)"):
        list(found)


def test_a_root_may_be_a_bucket_but_neither_a_file_nor_missing(folder: Folder) -> None:
    bucket, options = folder.url.removesuffix("/run"), folder.options
    names = [file.relative for file in find_files(bucket, options)]
    assert names == sorted(["run-2/other.wav", *(f"run/{name}" for name in NAMES)])
    assert find_files(f"{bucket}/", options) == find_files(bucket, options)
    with pytest.raises(InputError, match=r"top\.wav is a file, a folder was expected"):
        find_files(f"{folder.url}/top.wav", options)
    with pytest.raises(InputError, match=r"run/no does not exist, or nothing is in it"):
        find_files(f"{folder.url}/no", options)
    with pytest.raises(InputError, match=r"s3://no-such-bucket-here does not exist"):
        find_files("s3://no-such-bucket-here", options)


def test_the_names_of_a_folder_are_those_of_its_own_files(folder: Folder, proxy: FaultyS3) -> None:
    assert folder.names() == ["top.wav"]
    cats = Folder(f"{folder.url}/cat", folder.options)
    own = [name for name in NAMES if name.startswith("cat/") and "sub" not in name]
    proxy.clear()
    assert cats.names() == sorted(name.removeprefix("cat/") for name in own)
    assert pages(proxy) == -(-(len(own) + len(["sub/", ".hidden.wav"])) // PAGE)
    cats.write("", b"")  # some tools leave an empty file that stands for the folder itself
    assert cats.names() == sorted(name.removeprefix("cat/") for name in own)
    assert Folder(f"{folder.url}/no", folder.options).names() == []
    assert Folder("s3://no-such-bucket-here/run", folder.options).names() == []
