"""A recording as a local file: where it lies, or downloaded whole for as long as it is needed."""

import contextlib
import errno
import os
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from fsspec.callbacks import Callback

from audioflow.errors import InputError, MediaError, StorageError
from audioflow.redaction import masked
from audioflow.retries import MEDIA, AccessFailed, Retrying, cause, retried
from audioflow.stores import (
    NO_OPTIONS,
    StorageOptions,
    filesystem,
    is_local,
    local_path,
    refuse_option,
)

_AHEAD = 4
"""Recordings of a shard that are downloaded at once; together they are no larger than it is."""

_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)


@dataclass(frozen=True)
class LocalFile:
    """A file to read: a local path with its content, and the url that messages name.

    name: its path below the folder that was listed, where it was found in one.
    """

    path: str
    url: str
    name: str = ""


@contextlib.contextmanager
def local_copy(
    url: str, options: StorageOptions = NO_OPTIONS, retrying: Retrying = MEDIA
) -> Iterator[str]:
    """A local path with the content of `url`: the file itself, or a download removed afterwards.

    Raises `MediaError` of class `not_found`, `not_media`, `permission`, `unsupported` or `network`,
    with the number of attempts; `StorageError` where this machine has no room for the download,
    which is not the recording's fault.
    """
    if is_local(url):
        yield _readable(url)
        return
    suffix = os.path.splitext(url.partition("?")[0])[1][:16].replace("/", "")
    with _temporary(suffix) as path:
        _fetch(url, path, options, retrying)
        yield path


@contextlib.contextmanager
def local_file(url: str, options: StorageOptions = NO_OPTIONS) -> Iterator[LocalFile]:
    """`local_copy` of a file that a person names; raises `InputError` where it cannot be had."""
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(local_copy(url, options))
        except MediaError as error:
            raise InputError(error.reason) from None
        yield LocalFile(path, masked(url, options.secrets))


@contextlib.contextmanager
def local_files(
    urls: Sequence[str], options: StorageOptions = NO_OPTIONS
) -> Iterator[list[LocalFile]]:
    """`local_file` of many, in their order; those in a store are downloaded side by side."""

    def here(number: int, url: str) -> LocalFile:
        told = masked(url, options.secrets)
        try:
            if is_local(url):
                return LocalFile(_readable(url), told)
            path = os.path.join(folder, str(number))
            _fetch(url, path, options, MEDIA)
        except MediaError as error:
            raise InputError(error.reason) from None
        return LocalFile(path, told)

    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="audioflow-"))
        except OSError as error:
            raise _no_room(error) from error
        with ThreadPoolExecutor(_AHEAD, "download") as pool:
            files = list(pool.map(here, range(len(urls)), urls))
        yield files


Copy = Callable[[], AbstractContextManager[str]]


@contextlib.contextmanager
def copies_ahead(
    urls: Sequence[str], options: StorageOptions = NO_OPTIONS, retrying: Retrying = MEDIA
) -> Iterator[Copy]:
    """A function that gives `local_copy` of one url after the other; the next few are downloaded
    meanwhile, for a store takes longer to answer than to send.

    It raises what `local_copy` raises. What was downloaded in vain is removed at the end.
    """
    if all(map(is_local, urls)):
        left = iter(urls)
        yield lambda: local_copy(next(left), options, retrying)
        return

    def download(url: str) -> tuple[contextlib.ExitStack, str]:
        with contextlib.ExitStack() as stack:
            path = stack.enter_context(local_copy(url, options, retrying))
            return stack.pop_all(), path

    todo, coming = deque(urls), deque[Future[tuple[contextlib.ExitStack, str]]]()

    @contextlib.contextmanager
    def following() -> Iterator[str]:
        order()
        stack, path = coming.popleft().result()
        with stack:
            order()
            yield path

    def order() -> None:
        while todo and len(coming) < _AHEAD:
            coming.append(pool.submit(download, todo.popleft()))

    with ThreadPoolExecutor(_AHEAD, "download") as pool:
        try:
            yield following
        finally:
            todo.clear()
            for future in coming:
                future.cancel()
            for future in coming:
                if not future.cancelled() and future.exception() is None:
                    future.result()[0].close()


@contextlib.contextmanager
def _temporary(suffix: str) -> Iterator[str]:
    with contextlib.ExitStack() as stack:
        try:
            target = tempfile.NamedTemporaryFile(prefix="audioflow-", suffix=suffix)  # noqa: SIM115
            stack.enter_context(target)
        except OSError as error:
            raise _no_room(error) from error
        yield target.name


def _fetch(url: str, path: str, options: StorageOptions, retrying: Retrying) -> None:
    told = masked(url, options.secrets)

    def download() -> None:
        fs, remote = filesystem(url, options)
        size = Callback()
        try:
            fs.get_file(remote, path, callback=size)
        except OSError as error:
            if error.errno in _FULL:
                raise _no_room(error) from error
            raise
        except TypeError as error:
            refuse_option(url, options, error)
            raise
        _refuse_short(path, size.size)

    try:
        retried(download, retrying, url)
    except InputError as error:
        raise MediaError("unsupported", str(error)) from error
    except AccessFailed as failed:
        if failed.nature == "not_found":
            reason = f"{told} does not exist{failed.after}"
        elif failed.nature == "permission":
            reason = f"{told} may not be read with these credentials{failed.after}"
        else:
            reason = f"{told} could not be fetched{failed.after}"
        if not isinstance(failed.error, FileNotFoundError):
            reason += f": {masked(cause(failed.error), options.secrets)}"
        error_class = "network" if failed.nature in ("passing", "lasting") else failed.nature
        raise MediaError(error_class, reason, failed.attempts) from failed.error


def _refuse_short(path: str, told_bytes: Any) -> None:
    """A connection that was cut must never give a short file that looks fine."""
    found_bytes = os.path.getsize(path)
    if isinstance(told_bytes, int) and found_bytes < told_bytes:
        raise OSError(errno.EIO, f"only {found_bytes} of {told_bytes} bytes came")


def _no_room(error: OSError) -> StorageError:
    folder = os.environ.get("TMPDIR", "the system's temporary folder")
    with contextlib.suppress(OSError):  # where there is no usable one, this is the error itself
        folder = tempfile.gettempdir()
    return StorageError(
        f"no recording can be downloaded to {folder}: {cause(error)}; make room there, or set "
        "TMPDIR to a folder with room for a few recordings per worker, on every node"
    )


def _readable(url: str) -> str:
    """The path of a local file that can be opened; raises `MediaError` for any other."""
    path = local_path(url)
    if not os.path.exists(path):
        raise MediaError("not_found", f"{url} does not exist")
    if not os.path.isfile(path):
        kind = "a folder" if os.path.isdir(path) else "a device, pipe or socket"
        raise MediaError("refused", f"{url} is {kind}, not a regular file")
    if not os.access(path, os.R_OK):
        raise MediaError("permission", f"{url} may not be read by this user")
    return path
