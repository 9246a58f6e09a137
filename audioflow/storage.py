"""Folders on local disk or in any object store that fsspec knows, with atomic writes."""

import contextlib
import errno
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from audioflow.downloads import (  # noqa: F401  (who handles files finds all of it here)
    copies_ahead,
    local_copy,
)
from audioflow.errors import AudioflowError, InputError, StorageError
from audioflow.redaction import masked
from audioflow.retries import (  # noqa: F401  (the same)
    TABLES,
    AccessFailed,
    Retrying,
    access_errors,
    cause,
    nature,
    retried,
)
from audioflow.s3_pages import in_pages, page
from audioflow.stores import (  # noqa: F401  (the same)
    NO_OPTIONS,
    StorageOptions,
    filesystem,
    is_local,
    local_path,
    path_url,
    refuse_option,
)

Result = TypeVar("Result")

Note = Callable[[str, str], None]
"""Is told of something in a listing that is worth a word: of which kind, and its path."""

_BATCH = 1000
_READERS = 8


def unnoted(kind: str, path: str) -> None:
    """For those who want no word."""


@dataclass(frozen=True)
class Folder:
    """One folder of a run, on disk or in a bucket, with the options its store needs.

    What cannot be read raises `InputError`, what cannot be changed `StorageError`, both after
    errors that may pass were tried again as `retrying` says. note: for those who list it.
    """

    url: str
    options: StorageOptions = NO_OPTIONS
    retrying: Retrying = field(default=TABLES, repr=False, compare=False)
    note: Note = field(default=unnoted, repr=False, compare=False)

    def __truediv__(self, name: str) -> "Folder":
        return Folder(self.file(name), self.options, self.retrying, self.note)

    def file(self, name: str) -> str:
        """The url of the file `name` in this folder."""
        return f"{self.url.rstrip('/')}/{name}"

    def split(self) -> tuple["Folder", str]:
        """The folder that this one, or the file at its url, stands in, and the name there."""
        place, mark, query = self.url.partition("?") if "://" in self.url else (self.url, "", "")
        above, _, name = place.rpartition("/")
        return Folder(above or ".", self.options, self.retrying, self.note), name + mark + query

    def names(self) -> list[str]:
        """Names of the files directly inside, sorted; hidden and temporary ones left out."""
        found = self._access(self.url, "read", InputError, self._names)
        return sorted(name for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether a file `name` is there now."""
        url = self.file(name)

        def look() -> bool:
            if is_local(url):
                return os.path.isfile(local_path(url))
            fs, path = filesystem(url, self.options)
            fs.invalidate_cache()
            # Not `isfile`, which takes every error for an absence.
            try:
                return bool(fs.info(path)["type"] == "file")
            except FileNotFoundError as error:
                return _unless_absent(error, False)

        return self._access(url, "read", InputError, look)

    def read(self, name: str, start: int = 0, end: int | None = None) -> bytes:
        """The bytes of the file `name`, or those from `start` to `end`; raises `FileNotFoundError`
        where there is none."""
        found = self._access(
            self.file(name), "read", InputError, lambda: self._read(name, start, end)
        )
        if found is None:
            raise FileNotFoundError(errno.ENOENT, "No such file", masked(self.file(name)))
        return found

    def read_many(self, names: Iterable[str]) -> dict[str, bytes]:
        """The bytes of many small files by name, read side by side; absent ones are left out."""
        wanted = list(dict.fromkeys(names))
        if is_local(self.url):
            each = min(_BATCH, -(-len(wanted) // _READERS))
            with ThreadPoolExecutor(_READERS) as pool:
                parts = list(pool.map(self._read_all, _batches(wanted, each)))
        else:
            parts = [self._fetch_all(batch) for batch in _batches(wanted, _BATCH)]
        return {name: data for part in parts for name, data in part.items()}

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, over an older one of that name."""
        url = self.file(name)

        def write() -> None:
            if is_local(url):
                _replace_local(Path(local_path(url)), data)
            else:
                fs, path = filesystem(url, self.options)
                fs.pipe_file(path, data)

        self._access(url, "written", StorageError, write)

    def remove(self, name: str) -> None:
        """Remove the file `name`; nothing happens where there is none."""
        url = self.file(name)

        def remove() -> None:
            fs, path = filesystem(url, self.options)
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)

        self._access(url, "removed", StorageError, remove)

    def remove_many(self, names: Iterable[str]) -> None:
        """Remove these files, several at a time; nothing happens for those that are not there."""
        wanted = list(names)
        if wanted:
            with ThreadPoolExecutor(_READERS) as pool:
                list(pool.map(self.remove, wanted))

    def remove_all(self) -> None:
        """Remove the folder with everything in it."""

        def remove() -> None:
            fs, path = filesystem(self.url, self.options, listing=True)
            fs.invalidate_cache()
            with contextlib.suppress(FileNotFoundError):
                fs.rm(path, recursive=True)
            # A store may refuse a removal in bulk, or single files of it, and call it no error.
            left = [] if is_local(self.url) else fs.find(path)
            for name in left:
                fs.rm_file(name)
            if left and (left := fs.find(path)):
                raise OSError(errno.EIO, f"{len(left)} files are still there")

        self._access(self.url, "removed", StorageError, remove)

    def _access(
        self,
        url: str,
        done: str,
        failure: type[AudioflowError],
        action: Callable[[], Result],
    ) -> Result:
        """What `action` returns; what a store raises, as `failure`."""
        try:
            return retried(action, self.retrying, url)
        except AccessFailed as failed:
            refuse_option(url, self.options, failed.error)
            told = f"{url} cannot be {done}{failed.after}: {cause(failed.error)}"
            raise failure(masked(told, self.options.secrets)) from failed.error
        except TypeError as error:
            refuse_option(url, self.options, error)
            raise

    def _names(self) -> list[str]:
        if is_local(self.url):
            return _local_names(local_path(self.url))
        fs, path = filesystem(self.url, self.options, listing=True)
        fs.invalidate_cache()
        try:
            if in_pages(self.url, self.options.for_url(self.url)):
                return _names_in_pages(fs, path)
            entries = fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            return _unless_absent(error, [])
        inside = path.strip("/") + "/"
        return [
            entry["name"].rsplit("/", 1)[-1]
            for entry in entries
            # Some tools leave an empty file that stands for the folder itself.
            if entry["type"] == "file" and entry["name"].strip("/") + "/" != inside
        ]

    def _read(self, name: str, start: int, end: int | None) -> bytes | None:
        url = self.file(name)
        try:
            if is_local(url):
                with Path(local_path(url)).open("rb") as stream:
                    stream.seek(start)
                    return stream.read(-1 if end is None else end - start)
            fs, path = filesystem(url, self.options)
            return bytes(fs.cat_file(path, start=start or None, end=end))
        except FileNotFoundError as error:
            return _unless_absent(error, None)

    def _read_all(self, names: Sequence[str]) -> dict[str, bytes]:
        found = {}
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found[name] = self.read(name)
        return found

    def _fetch_all(self, names: Sequence[str]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        left = dict.fromkeys(names)

        def fetch() -> None:
            fs, root = filesystem(self.url, self.options)
            paths = [f"{root.rstrip('/')}/{name}" for name in left]
            errors: list[Exception] = []
            for name, data in zip(list(left), fs.cat_ranges(paths, None, None), strict=True):
                absent = isinstance(data, FileNotFoundError) and nature(data) == "not_found"
                if isinstance(data, Exception) and not absent:
                    errors.append(data)
                    continue
                del left[name]
                if not isinstance(data, Exception):
                    found[name] = bytes(data)
            if errors:  # one that will not pass first: the others need not be waited for
                raise min(errors, key=lambda error: nature(error) == "passing")

        self._access(self.url, "read", InputError, fetch)
        return found


def _unless_absent(error: OSError, result: Result) -> Result:
    """The result where a file is not there; some libraries say so whatever went wrong."""
    if nature(error) != "not_found":
        raise error
    return result


def _batches(names: Sequence[str], each: int) -> Iterator[Sequence[str]]:
    return (names[start : start + each] for start in range(0, len(names), each or 1))


def _local_names(path: str) -> list[str]:
    try:
        with os.scandir(path) as entries:
            return [entry.name for entry in entries if entry.is_file()]
    except (FileNotFoundError, NotADirectoryError):
        return []


def _names_in_pages(fs: Any, path: str) -> list[str]:
    names: list[str] = []
    more: str | None = None
    while True:
        entries, more = page(fs, path, more, deep=False)
        names += (name for entry, _ in entries if (name := entry.rsplit("/", 1)[-1]))
        if more is None:
            return names


def _replace_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{uuid.uuid4().hex}.tmp"
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
