"""Folders and files on local disk or any object store that fsspec knows, with atomic writes.

A *url* is a local path or `scheme://...`. A local path whose name is not valid UTF-8 travels as a
percent-encoded `file://` url, so that every url can stand in a Parquet string column.
"""

import contextlib
import os
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote_to_bytes

import fsspec

from audioflow.errors import InputError, MediaError, StorageError


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


def access_errors() -> tuple[type[Exception], ...]:
    """What access to a file may raise: `OSError`, and the like of the store libraries in use."""
    loaded = (
        getattr(sys.modules.get(module), name, None)
        for module, name in (
            ("botocore.exceptions", "BotoCoreError"),
            ("aiohttp", "ClientError"),
            ("google.auth.exceptions", "GoogleAuthError"),
        )
    )
    return (OSError, *(kind for kind in loaded if kind is not None))


def cause(error: Exception) -> str:
    """Why access failed, in words, without the path that the message around it names."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


@dataclass(frozen=True)
class Folder:
    """One folder of a run, on disk or in a bucket.

    What cannot be read raises `InputError`, what cannot be changed `StorageError`.
    """

    url: str

    def __truediv__(self, name: str) -> "Folder":
        return Folder(f"{self.url.rstrip('/')}/{name}")

    def file(self, name: str) -> str:
        """The url of the file `name` in this folder."""
        return f"{self.url.rstrip('/')}/{name}"

    def names(self) -> list[str]:
        """Names of the files directly inside, sorted; hidden and temporary ones left out."""
        with _access(self.url, "read", InputError):
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
        with _access(self.file(name), "read", InputError):
            fs, path = filesystem(self.file(name))
            fs.invalidate_cache()
            return bool(fs.isfile(path))

    def read(self, name: str) -> bytes:
        """The bytes of the file `name`; raises `FileNotFoundError` where there is none."""
        with _access(self.file(name), "read", InputError, FileNotFoundError):
            fs, path = filesystem(self.file(name))
            return bytes(fs.cat_file(path))

    def write(self, name: str, data: bytes) -> None:
        """Write a file whole or not at all, over an older one of that name."""
        with _access(self.file(name), "written", StorageError):
            fs, path = filesystem(self.file(name))
            if is_local(self.url):
                _replace_local(Path(path), data)
            else:
                fs.pipe_file(path, data)

    def remove(self, name: str) -> None:
        """Remove the file `name`; nothing happens where there is none."""
        with _access(self.file(name), "removed", StorageError):
            fs, path = filesystem(self.file(name))
            with contextlib.suppress(FileNotFoundError):
                fs.rm_file(path)

    def remove_all(self) -> None:
        """Remove the folder with everything in it."""
        with _access(self.url, "removed", StorageError):
            fs, path = filesystem(self.url)
            fs.invalidate_cache()
            if fs.exists(path):
                fs.rm(path, recursive=True)


@contextlib.contextmanager
def _access(
    url: str, done: str, failure: type[Exception], passed: type[Exception] | tuple[()] = ()
) -> Iterator[None]:
    """Turn what a store raises into `failure`, except what is `passed` on."""
    try:
        yield
    except passed:
        raise
    except access_errors() as error:
        raise failure(f"{url} cannot be {done}: {cause(error)}") from error


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


@contextlib.contextmanager
def local_copy(url: str) -> Iterator[str]:
    """A local path with the content of `url`: the file itself, or a download removed afterwards.

    Raises `MediaError` of class `not_found`, `not_media`, `permission`, `unsupported` or `network`.
    """
    if is_local(url):
        yield _readable(url)
        return
    try:
        fs, remote = filesystem(url)
    except InputError as error:
        raise MediaError("unsupported", str(error)) from error
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
        except access_errors() as error:
            raise MediaError("network", f"{url} could not be fetched: {cause(error)}") from error
        yield target.name


def _readable(url: str) -> str:
    """The path of a local file that can be opened; raises `MediaError` for any other."""
    path = local_path(url)
    if not os.path.exists(path):
        raise MediaError("not_found", f"{url} does not exist")
    if not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device or pipe"
        raise MediaError("not_media", f"{url} is {kind}, not a file")
    if not os.access(path, os.R_OK):
        raise MediaError("permission", f"{url} may not be read by this user")
    return path
