"""All files under a root, on local disk or in any object store, for readers of data sets."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.retries import TABLES, AccessFailed, cause, retried
from audioflow.s3_pages import in_pages, page
from audioflow.stores import (
    NO_OPTIONS,
    StorageOptions,
    filesystem,
    is_local,
    local_path,
    path_url,
    refuse_option,
)


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file found under a root: its url, its path below the root, its size and its state.

    `version` changes when the content may have: modification time on disk, ETag in a bucket.
    """

    url: str
    relative: str
    size_bytes: int
    version: str


def find_files(root: str, options: StorageOptions = NO_OPTIONS) -> list[FoundFile]:
    """`each_file` at once."""
    return list(each_file(root, options))


def each_file(root: str, options: StorageOptions = NO_OPTIONS) -> Iterator[FoundFile]:
    """All files under `root`, sorted within each folder; hidden files and folders are left out.

    Links are followed, but not into a folder that the link is in. In `relative`, a name that is not
    valid UTF-8 is percent-encoded. Raises `InputError` when the root is missing, is no folder or
    cannot be listed.
    """
    return _find_local(local_path(root)) if is_local(root) else _find_remote(root, options)


def _find_remote(root: str, options: StorageOptions) -> Iterator[FoundFile]:
    for path, entries in _listed(root, options):
        for name, entry in entries:
            relative = name[len(path) + 1 :]
            if name.endswith("/") or any(part.startswith(".") for part in relative.split("/")):
                continue
            state = (entry.get(key) for key in ("ETag", "etag", "mtime", "created"))
            version = str(next((value for value in state if value), "")).strip('"')
            url = name if "://" in name else f"{root.split('://', 1)[0]}://{name}"
            yield FoundFile(
                url, relative, int(entry.get("size") or entry.get("Size") or 0), version
            )


Entries = Sequence[tuple[str, Mapping[str, Any]]]


def _listed(root: str, options: StorageOptions) -> Iterator[tuple[str, Entries]]:
    """The path of the root in its store, and what is below it, by name, a page at a time."""
    told = masked(root, options.secrets)
    pages = (_Pages if in_pages(root, options.for_url(root)) else _OnePage)(root, options)
    while not pages.done:
        try:
            path, entries = retried(pages.next, TABLES)
        except AccessFailed as failed:
            if failed.nature == "not_found":
                problem = f"does not exist{failed.after}, or nothing is in it"
            else:
                problem = f"cannot be listed{failed.after}: {cause(failed.error)}"
            raise InputError(f"{told} {masked(problem, options.secrets)}") from failed.error
        except TypeError as error:
            refuse_option(root, options, error)
            raise
        if entries and entries[0][0] == path:
            raise InputError(f"{told} is a file, a folder was expected")
        yield path, entries


class _OnePage:
    """All that is in a store below a root, at once."""

    def __init__(self, root: str, options: StorageOptions) -> None:
        self._root, self._options = root, options
        self.done = False

    def next(self) -> tuple[str, Entries]:
        fs, path = filesystem(self._root, self._options, listing=True)
        fs.invalidate_cache()
        entries: dict[str, Any] = fs.find(path, detail=True)
        if not entries:
            fs.info(path)  # raises where the root itself is not there
        self.done = True
        return path.rstrip("/"), sorted(entries.items())


class _Pages:
    """The same of S3, page by page; one that failed is asked for again."""

    def __init__(self, root: str, options: StorageOptions) -> None:
        self._root, self._options = root, options
        self._more: str | None = None
        self.done = False

    def next(self) -> tuple[str, Entries]:
        fs, path = filesystem(self._root, self._options)
        path = path.rstrip("/")
        found = page(fs, path, self._more)
        entries: Entries = found.entries
        empty = not entries and not self._more
        if empty and fs.info(path)["type"] == "file":  # raises where the root itself is not there
            entries = [(path, {})]
        self._more, self.done = found.more, found.more is None
        return path, entries


def _find_local(root: str) -> Iterator[FoundFile]:
    if not os.path.exists(root):
        raise InputError(f"{path_url(root)} does not exist")
    if not os.path.isdir(root):
        raise InputError(f"{path_url(root)} is a file, a folder was expected")
    root = os.path.abspath(root)
    above = len(root.rstrip(os.sep)) + 1
    for path, state in _walk(root):
        relative = _text(path[above:])
        yield FoundFile(path_url(path), relative, state.st_size, str(state.st_mtime_ns))


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    folders: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    while folders:
        folder, above = folders.pop()
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder that it is in
            continue
        inner = []
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if os.path.isdir(entry.path) if entry.is_symlink() else entry.is_dir():
                    inner.append((entry.path, above | {real}))
                else:
                    yield entry.path, _state(entry)
        except OSError as error:
            raise InputError(
                f"{path_url(error.filename or folder)} cannot be listed: {error.strerror}"
            ) from error
        folders += reversed(inner)


def _state(entry: os.DirEntry[str]) -> os.stat_result:
    try:
        return entry.stat()
    except OSError:  # a link to nothing: still a clip, so that its loss is accounted for
        return entry.stat(follow_symlinks=False)


def _text(path: str) -> str:
    """The path with every part that is not valid UTF-8 percent-encoded."""
    return "/".join(
        part if path_url(part) == part else quote(os.fsencode(part)) for part in path.split(os.sep)
    )
