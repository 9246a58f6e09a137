"""Folders and files, on disk and in a store that is reached through fsspec."""

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from audioflow.errors import InputError, MediaError, StorageError
from audioflow.listing import each_file, find_files
from audioflow.storage import Folder, is_local, local_copy, local_path, path_url

BAD_NAME = os.fsdecode(b"caf\xe9.wav")


@pytest.fixture(params=["local", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """An empty folder of each kind; it does not exist yet."""
    if request.param == "memory":
        url = f"memory://{uuid.uuid4().hex}/run"
        yield Folder(url)
        Folder(url.removesuffix("/run")).remove_all()
    else:
        yield Folder(("file://" if request.param == "file" else "") + str(tmp_path / "run"))


class BrokenStore(MemoryFileSystem):
    """A store whose every answer is a refusal."""

    protocol = "broken"
    cachable = False

    def _refuse(self, *_: Any, **__: Any) -> Any:
        raise PermissionError(13, "Access Denied")

    ls = find = info = cat_file = pipe_file = rm_file = rm = exists = isfile = get_file = _refuse


class CachingStore(MemoryFileSystem):
    """A store that asks once and remembers, as those behind a network do."""

    protocol = "caching"
    known: ClassVar[dict[str, Any]] = {}

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(MemoryFileSystem._strip_protocol(path.replace("caching://", "memory://")))

    def ls(self, path: str, detail: bool = True, **more: Any) -> Any:
        if path not in self.known:
            self.known[path] = super().ls(path, detail=True, **more)
        return self.known[path] if detail else [entry["name"] for entry in self.known[path]]

    def info(self, path: str, **more: Any) -> Any:
        for entry in self.known.get(self._parent(path), []):
            if entry["name"] == path:
                return entry
        if self._parent(path) in self.known:
            raise FileNotFoundError(path)
        return super().info(path, **more)

    def invalidate_cache(self, path: str | None = None) -> None:
        self.known.clear()


fsspec.register_implementation("broken", BrokenStore, clobber=True)
fsspec.register_implementation("caching", CachingStore, clobber=True)


def test_what_is_written_is_read_listed_and_removed(folder: Folder) -> None:
    assert folder.names() == []
    assert not folder.exists("b.txt")
    folder.write("b.txt", b"1")
    folder.write("a b'\"\n.txt", b"2")
    (folder / "inner").write("c.txt", b"3")
    assert folder.names() == ["a b'\"\n.txt", "b.txt"]
    assert (folder / "inner").names() == ["c.txt"]
    assert folder.exists("b.txt")
    assert not folder.exists("inner")
    assert folder.read("a b'\"\n.txt") == b"2"
    folder.write("b.txt", b"longer than before")
    assert folder.read("b.txt") == b"longer than before"
    folder.remove("b.txt")
    folder.remove("b.txt")
    assert not folder.exists("b.txt")
    folder.remove_all()
    folder.remove_all()
    assert folder.names() == []
    assert (folder / "inner").names() == []


def test_many_files_are_read_at_once_and_absent_ones_left_out(folder: Folder) -> None:
    assert folder.read_many(["a"]) == {}
    contents = {f"{number} [*].json": b"%d" % number for number in range(1100)}
    few = dict(list(contents.items())[:20])
    for name, data in (contents if is_local(folder.url) else few).items():
        folder.write(name, data)
    assert folder.read_many(few) == few
    found = folder.read_many([*contents, *few, "absent"])
    assert found == {name: contents[name] for name in folder.names()}
    assert folder.read_many([]) == {}


def test_a_folder_knows_where_it_stands() -> None:
    for url, above, name in (
        ("s3://b/run/a.csv", "s3://b/run", "a.csv"),
        ("/data/run", "/data", "run"),
        ("a.csv", ".", "a.csv"),
        ("/data/what?/a.csv", "/data/what?", "a.csv"),
        ("https://h/d/a.csv?sig=x/y", "https://h/d", "a.csv?sig=x/y"),
    ):
        assert Folder(url).split() == (Folder(above), name)
        assert (Folder(above) / name).url in (url, f"./{url}")


def test_names_are_those_of_files_only(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    for name in ("b", BAD_NAME, ".hidden"):
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "link").symlink_to(tmp_path / "b")
    (tmp_path / "to_folder").symlink_to(tmp_path / "inner")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    assert Folder(str(tmp_path)).names() == ["b", BAD_NAME, "link"]
    assert Folder(str(tmp_path / "b")).names() == []


def test_a_file_that_is_not_there_cannot_be_read(folder: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.read("absent")
    folder.write("a", b"")
    with pytest.raises(FileNotFoundError):
        folder.read("absent")


def test_hidden_files_are_not_listed(folder: Folder) -> None:
    folder.write(".hidden", b"")
    folder.write("_header.json", b"")
    assert folder.names() == ["_header.json"]


@pytest.mark.parametrize("url", ["{tmp}", "caching://bucket"])
def test_what_another_process_changed_is_seen(url: str, tmp_path: Path) -> None:
    folder = Folder(url.replace("{tmp}", str(tmp_path)))
    folder.write("a", b"")
    assert folder.names() == ["a"]
    assert not folder.exists("b")
    elsewhere = Folder(folder.url.replace("caching://", "memory://"))
    elsewhere.write("b", b"")
    assert folder.names() == ["a", "b"]
    elsewhere.write("c", b"")
    assert folder.exists("c")
    elsewhere.remove("c")
    elsewhere.write("c", b"")
    assert [file.relative for file in find_files(folder.url)] == ["a", "b", "c"]
    elsewhere.remove_all()


def test_who_reads_an_older_file_reads_it_to_its_end(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")
    with (tmp_path / "a").open("rb", buffering=0) as reader:
        folder.write("a", b"new")
        assert reader.read() == b"old"
    assert folder.read("a") == b"new"


def test_a_local_write_is_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Folder(str(tmp_path))
    folder.write("a", b"old")
    seen = []

    def full(number: int) -> None:
        # The disk is full only after the bytes were handed over: the moment of a partial file.
        seen.append([name for name in os.listdir(tmp_path) if not name.startswith(".")])
        assert (tmp_path / "a").read_bytes() == b"old"
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"/a cannot be written: No space left on device"):
        folder.write("a", b"new")
    assert seen == [["a"]]
    assert os.listdir(tmp_path) == ["a"]
    assert folder.read("a") == b"old"


def test_writers_of_one_file_leave_one_whole_file(tmp_path: Path) -> None:
    folder = Folder(str(tmp_path))
    contents = [bytes([number]) * 50_000 for number in range(8)]
    threads = [threading.Thread(target=folder.write, args=("a", data)) for data in contents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert folder.read("a") in contents
    assert os.listdir(tmp_path) == ["a"]


def test_a_path_that_leads_through_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    folder = Folder(str(tmp_path / "file" / "run"))
    with pytest.raises(StorageError, match=r"file/run/a cannot be written: "):
        folder.write("a", b"")
    with pytest.raises(InputError, match=r"file/run/a cannot be read: Not a directory"):
        folder.read("a")


def test_a_refusal_of_the_store_names_the_place_and_the_cause() -> None:
    folder = Folder("broken://bucket/run")
    for call in (folder.names, lambda: folder.read("a"), lambda: folder.exists("a")):
        with pytest.raises(InputError, match=r"broken://bucket/run.* cannot be read: Access Denie"):
            call()
    with pytest.raises(StorageError, match=r"broken://bucket/run/a cannot be written: Access Den"):
        folder.write("a", b"")
    with pytest.raises(StorageError, match=r"broken://bucket/run/a cannot be removed: Access Den"):
        folder.remove("a")
    with pytest.raises(StorageError, match=r"broken://bucket/run cannot be removed: Access Den"):
        folder.remove_all()
    with pytest.raises(InputError, match=r"broken://bucket/run cannot be listed: Access Denied"):
        find_files("broken://bucket/run")
    with pytest.raises(MediaError, match="may not be read with these credentials") as caught:
        local_copy("broken://bucket/a.wav").__enter__()
    assert caught.value.error == "permission"


def test_an_unknown_scheme_is_an_error_of_the_input_and_for_one_clip_a_failure() -> None:
    with pytest.raises(
        InputError, match=r"nosuch://b/c: Protocol not known: nosuch; known are loc"
    ):
        Folder("nosuch://b").read("c")
    with pytest.raises(MediaError, match="nosuch://b/c") as caught:
        local_copy("nosuch://b/c").__enter__()
    assert caught.value.error == "unsupported"


def test_paths_that_are_not_utf8_travel_as_urls() -> None:
    url = path_url(f"/data/{BAD_NAME}")
    assert url == "file:///data/caf%E9.wav"
    assert is_local(url)
    assert local_path(url) == f"/data/{BAD_NAME}"
    assert path_url("/data/café 100%.wav") == "/data/café 100%.wav"
    assert not is_local("s3://bucket/a")


def test_a_local_file_is_used_where_it_lies(tmp_path: Path) -> None:
    path = tmp_path / BAD_NAME
    path.write_bytes(b"x")
    with local_copy(path_url(str(path))) as found:
        assert found == str(path)


def test_a_remote_file_is_copied_for_as_long_as_it_is_needed() -> None:
    folder = Folder(f"memory://{uuid.uuid4().hex}")
    folder.write("a b.flac", b"sound")
    with local_copy(folder.file("a b.flac")) as path:
        assert Path(path).read_bytes() == b"sound"
        assert path.endswith(".flac")
    assert not Path(path).exists()
    with pytest.raises(MediaError, match=r"absent\.wav does not exist") as caught:
        local_copy(folder.file("absent.wav")).__enter__()
    assert caught.value.error == "not_found"


def test_what_cannot_be_opened_as_a_file_is_a_media_error(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "gone.wav").symlink_to(tmp_path / "nowhere")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name, error, told in (
        ("absent.wav", "not_found", "absent.wav does not exist"),
        ("gone.wav", "not_found", "gone.wav does not exist"),
        ("loop.wav", "not_found", "loop.wav does not exist"),
        (".", "refused", "is a folder, not a regular file"),
        ("pipe.wav", "refused", "is a device, pipe or socket, not a regular file"),
    ):
        with pytest.raises(MediaError, match=told) as caught:
            local_copy(str(tmp_path / name)).__enter__()
        assert caught.value.error == error


# Finding files


def test_files_are_found_at_any_depth_in_order_without_hidden_ones(folder: Folder) -> None:
    for name in ("b/2.wav", "b/10.wav", "a/z/1.wav", "top.wav", ".x/1.wav", "b/.1.wav", "b/-d.wav"):
        place, _, file = name.rpartition("/")
        (folder / place if place else folder).write(file, name.encode())
    found = find_files(folder.url)
    names = ["a/z/1.wav", "b/-d.wav", "b/10.wav", "b/2.wav", "top.wav"]
    assert sorted(file.relative for file in found) == names
    for file in found:
        assert file.size_bytes == len(file.relative)
        assert file.version
        with local_copy(file.url) as path:
            assert Path(path).read_bytes() == file.relative.encode()
    assert found == find_files(folder.url + "/")


def test_the_version_changes_with_the_content(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    path.write_bytes(b"1")
    os.utime(path, ns=(1, 1))
    (before,) = find_files(str(tmp_path))
    os.utime(path, ns=(2, 2))
    (after,) = find_files(str(tmp_path))
    assert before.version != after.version


def test_a_root_that_is_missing_or_a_file_is_told(folder: Folder, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"run does not exist"):
        find_files(folder.url)
    folder.write("a", b"")
    with pytest.raises(InputError, match=r"run/a is a file, a folder was expected"):
        find_files(folder.file("a"))


def test_names_of_every_kind_are_found(tmp_path: Path) -> None:
    names = ["a b.wav", 'it\'s "q".wav', "new\nline.wav", "-rf.wav", "100%.wav", "é🎵.wav"]
    (tmp_path / "dög 1").mkdir()
    for name in (*names, BAD_NAME):
        (tmp_path / "dög 1" / name).write_bytes(b"")
    found = {file.relative: file.url for file in find_files(str(tmp_path))}
    assert found.keys() == {*(f"dög 1/{name}" for name in names), "dög 1/caf%E9.wav"}
    for url in found.values():
        url.encode("utf-8")
        assert Path(local_path(url)).exists()


def test_links_are_followed_but_never_in_circles(tmp_path: Path) -> None:
    data = tmp_path / "data"
    for name in ("a", "b"):
        (data / name).mkdir(parents=True)
        (data / name / f"{name}.wav").write_bytes(b"")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "e.wav").write_bytes(b"")
    (data / "linked").symlink_to(tmp_path / "elsewhere")
    (data / "a" / "up").symlink_to(data)
    (data / "a" / "self").symlink_to(data / "a")
    (data / "a" / "to_b").symlink_to(data / "b")
    (data / "b" / "to_a").symlink_to(data / "a")
    (data / "loop.wav").symlink_to(data / "loop.wav")
    (data / "gone.wav").symlink_to(data / "nowhere.wav")
    assert [file.relative for file in find_files(str(data))] == [
        "gone.wav",
        "loop.wav",
        "a/a.wav",
        "a/to_b/b.wav",
        "b/b.wav",
        "b/to_a/a.wav",
        "linked/e.wav",
    ]


def noted(root: str | Path) -> tuple[list[tuple[str, str]], list[str]]:
    """What a listing tells, and its files."""
    told: list[tuple[str, str]] = []
    found = [f.relative for f in each_file(str(root), note=lambda *what: told.append(what))]
    return told, found


def test_files_are_told_that_links_lead_to_a_second_time(tmp_path: Path) -> None:
    data, elsewhere = tmp_path / "data", tmp_path / "elsewhere"
    for folder in (data / "a" / "deep", data / ".hidden", elsewhere):
        folder.mkdir(parents=True)
        (folder / "1.wav").write_bytes(b"")
    (data / "once").symlink_to(elsewhere)
    (data / "shown").symlink_to(data / ".hidden")  # found by this path only
    assert noted(data)[0] == [("hidden", ".hidden")]
    (data / "twice").symlink_to(elsewhere)
    (data / "z").symlink_to(data / "a")
    (data / "z.wav").symlink_to("a/deep/1.wav")
    (data / "y.wav").symlink_to(elsewhere / "1.wav")  # links to single files outside are not known
    (data / "gone.wav").symlink_to(data / "a" / "nowhere.wav")
    told, found = noted(data)
    twice = ["z.wav", "twice/1.wav", "z/deep/1.wav"]
    assert told == [("hidden", ".hidden"), *(("twice", path) for path in twice)]
    assert set(found) == {*twice, "gone.wav", "y.wav", "a/deep/1.wav", "once/1.wav", "shown/1.wav"}


def test_a_listing_tells_first_what_comes_first(tmp_path: Path) -> None:
    for name in (".a", "b", "c/.d"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    told: list[str] = []
    found = each_file(str(tmp_path), note=lambda kind, path: told.append(path))
    assert (next(found).relative, told) == ("b", [".a"]), "a listing is no longer a stream"
    assert (list(found), told) == ([], [".a", "c/.d"])


def test_a_folder_that_may_not_be_listed_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refuse(path: str) -> Any:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(InputError, match=r"/closed cannot be listed: Permission denied"):
        find_files(str(tmp_path))


def test_a_socket_in_the_tree_is_found_like_a_file(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path may have 107 bytes only
        try:
            server.bind("s.wav")
        finally:
            os.chdir(here)
    assert [file.relative for file in find_files(str(tmp_path))] == ["s.wav"]
