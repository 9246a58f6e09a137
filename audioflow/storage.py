"""Folders and files on local disk or any object store that fsspec knows, with atomic writes.

A *url* is a local path or `scheme://...`. A local path whose name is not valid UTF-8 travels as a
percent-encoded `file://` url, so that every url can stand in a Parquet string column.
"""

import contextlib
import os
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import fsspec

from audioflow.errors import InputError, MediaError


def is_local(url: str) -> bool:
    """True for a plain path or a `file://` url."""
    return url.startswith("file://") or "://" not in url


def local_path(url: str) -> str:
    """The path behind a local url, in the form that `open` takes (undecodable bytes kept)."""
    if url.startswith("file://"):
        return os.fsdecode(unquote_to_bytes(url.removeprefix("file://")))
    return url


def path_url(path: str) -> str:
    """The url of a local path: the path itself where it is valid UTF-8, else percent-encoded."""
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return "file://" + quote(os.fsencode(path))
    return path


def filesystem(url: str) -> tuple[Any, str]:
    """The fsspec file system of `url` and the path inside it.

    Raises `InputError` when the scheme is unknown or its package is not installed.
    """
    if is_local(url):
        return fsspec.filesystem("file"), local_path(url)
    try:
        return fsspec.core.url_to_fs(url)
    except (ValueError, ImportError) as error:
        raise InputError(
            f"{url}: {error}; known are local paths, s3:// and what fsspec knows"
        ) from error


@dataclass(frozen=True)
class Folder:
    """One folder of a run, on disk or in a bucket."""

    url: str

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def file(self, name: str) -> str:
        """The url of the file `name` in this folder."""
        return f"{self.url.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """Names of the files directly inside, sorted; hidden and temporary ones left out."""
        fs, path = filesystem(self.url)
        fs.invalidate_cache()
        try:
            entries = fs.ls(path, detail=True)
        except (FileNotFoundError, NotADirectoryError):
            return []
        found = (
            entry["name"].rstrip("/").rsplit("/", 1)[-1]
            for entry in entries
            if entry["type"] == "file"
        )
        return sorted(name for name in found if not name.startswith("."))

    def exists(self, name: str) -> bool:
        """Whether a file `name` is there now."""
        fs, path = filesystem(self.file(name))
        fs.invalidate_cache()
        return bool(fs.exists(path))

    def read(self, name: str) -> bytes:
        """The bytes of the file `name`; raises `FileNotFoundError`."""
        fs, path = filesystem(self.file(name))
        return bytes(fs.cat_file(path))

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, over an older one of that name."""
        fs, path = filesystem(self.file(name))
        if is_local(self.url):
            _replace_local(Path(path), data)
        else:
            fs.pipe_file(path, data)

    def remove(self, name: str) -> None:
        """Remove the file `name`; nothing happens where there is none."""
        fs, path = filesystem(self.file(name))
        with contextlib.suppress(FileNotFoundError):
            fs.rm_file(path)

    def remove_all(self) -> None:
        """Remove the folder with everything in it."""
        fs, path = filesystem(self.url)
        fs.invalidate_cache()
        if fs.exists(path):
            fs.rm(path, recursive=True)


def _replace_local(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.parent / f".{path.name}.{uuid.uuid4().hex}.tmp"
    try:
        with open(temporary, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def local_copy(url: str) -> Iterator[str]:
    """A local path with the content of `url`: the file itself, or a download removed afterwards.

    Raises `MediaError` of class `not_found`, `permission` or `network`.
    """
    if is_local(url):
        path = local_path(url)
        if os.path.isdir(path):
            raise MediaError("not_media", f"{url} is a folder, not a file")
        if not os.path.exists(path):
            raise MediaError("not_found", f"{url} does not exist")
        if not os.access(path, os.R_OK):
            raise MediaError("permission", f"{url} may not be read by this user")
        yield path
        return
    fs, remote = filesystem(url)
    suffix = os.path.splitext(remote)[1][:16]
    with tempfile.NamedTemporaryFile(prefix="audioflow-", suffix=suffix) as target:
        try:
            fs.get_file(remote, target.name)
        except FileNotFoundError as error:
            raise MediaError("not_found", f"{url} does not exist") from error
        except PermissionError as error:
            raise MediaError(
                "permission", f"{url} may not be read with these credentials"
            ) from error
        except OSError as error:
            raise MediaError("network", f"{url} could not be fetched: {error}") from error
        yield target.name


@dataclass(frozen=True)
class FoundFile:
    """A file found under a root: its url, its path below the root, its size and its state.

    `version` changes when the content may have changed: modification time on disk, ETag in a bucket.
    """

    url: str
    relative: str
    size_bytes: int
    version: str


def find_files(root: str) -> list[FoundFile]:
    """All files under `root`, depth first in name order; hidden files and folders are left out.

    `relative` is percent-encoded only where a name is not valid UTF-8. Raises `InputError` when the
    root is missing, is no folder or cannot be listed.
    """
    if is_local(root):
        return _find_local(local_path(root))
    fs, path = filesystem(root)
    try:
        entries = fs.find(path, detail=True)
    except FileNotFoundError as error:
        raise InputError(f"{root} does not exist") from error
    except OSError as error:
        raise InputError(f"{root} cannot be listed: {error}") from error
    scheme = root.split("://", 1)[0]
    found = []
    for name, entry in sorted(entries.items()):
        relative = name[len(path.rstrip("/")) + 1 :]
        if any(part.startswith(".") for part in relative.split("/")):
            continue
        version = str(
            entry.get("ETag")
            or entry.get("etag")
            or entry.get("mtime")
            or entry.get("created")
            or ""
        )
        found.append(
            FoundFile(
                f"{scheme}://{name}", relative, int(entry.get("size") or 0), version.strip('"')
            )
        )
    return found


def _find_local(root: str) -> list[FoundFile]:
    if not os.path.exists(root):
        raise InputError(f"{root} does not exist")
    if not os.path.isdir(root):
        raise InputError(f"{root} is a file, a folder was expected")

    def refuse(error: OSError) -> None:
        raise InputError(f"{error.filename} cannot be listed: {error.strerror}") from error

    found = []
    for folder, folders, names in os.walk(os.path.abspath(root), onerror=refuse, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = os.path.join(folder, name)
            try:
                state = os.stat(path)
            except (
                FileNotFoundError
            ):  # a dangling link: still a clip, so that its loss is accounted for
                state = os.lstat(path)
            relative = os.path.relpath(path, os.path.abspath(root))
            found.append(
                FoundFile(path_url(path), _text(relative), state.st_size, str(state.st_mtime_ns))
            )
    return found


def _text(path: str) -> str:
    url = path_url(path)
    return url.removeprefix("file://") if url != path else path
