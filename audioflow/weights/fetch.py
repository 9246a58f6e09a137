"""Weight files brought to this machine: whole and verified, or not at all.

A download goes into `<file>.part` and goes on from there when it is asked for again; it gets its
name when its size and hash are right. One process at a time; others wait and use what it got.
"""

import contextlib
import errno
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from audioflow.errors import InputError
from audioflow.redaction import masked, unsigned
from audioflow.retries import AccessFailed, Retrying, cause, retried
from audioflow.stores import NO_OPTIONS, StorageOptions, filesystem, is_local, local_path
from audioflow.weights import web
from audioflow.weights.faults import WeightsError
from audioflow.weights.known import KnownWeights
from audioflow.weights.store import (
    alone,
    digest,
    mismatch,
    no_room,
    note_of,
    pinned,
    place,
    read_json,
    store_folder,
    write_json,
)

Progress = Callable[[int, int | None], None]
"""Told how many bytes are there, of how many (None where the server does not say)."""

RETRYING = Retrying(attempts=6, first_wait_s=1.0, most_wait_s=20.0)
BLOCK_BYTES = 8 * 2**20

_FULL = (errno.ENOSPC, errno.EDQUOT)
_CLOSED = (errno.EROFS, errno.EACCES, errno.EPERM)


def quiet(done_bytes: int, total_bytes: int | None) -> None:
    """Tells nobody."""


@dataclass(frozen=True)
class Source:
    """Where a file comes from, and how it is got."""

    url: str
    options: StorageOptions = NO_OPTIONS
    retrying: Retrying = RETRYING

    @property
    def told(self) -> str:
        """The url in messages."""
        return masked(self.url, self.options.secrets)


@dataclass(frozen=True)
class Fetched:
    """A known file on this machine. verified: by what it was found to be the published one.

    That is `sha256`, `md5`, or `pinned`: nothing was published, its hash is kept from now on.
    new: whether it was brought just now.
    """

    path: Path
    sha256: str
    verified: str
    new: bool


def fetch(
    known: KnownWeights,
    source: Source | None = None,
    progress: Progress = quiet,
) -> Fetched:
    """A public file in the store, from its url or from a copy elsewhere, verified either way.

    Raises `WeightsError` where it cannot be got or is not what was published; then it is not kept.
    """
    source = source or Source(known.url)
    target = place(known)
    verified = "sha256" if known.sha256 else "md5" if known.md5 else "pinned"
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target, part_of(target)):
            pin = pinned(target)
            if target.exists() and not mismatch(target, known, pin):
                return Fetched(target, digest(target), verified, False)
            bring(source, target, progress, lambda path: _check(path, known, source, pin))
            sha256 = digest(target)
            note = {"sha256": sha256, "size_bytes": target.stat().st_size, "verified": verified}
            note |= {"url": known.url, "from": masked(unsigned(source.url))}
            note |= {"licence": known.licence, "citation": known.citation}
            write_json(note_of(target), note | {"fetched": datetime.now(UTC).isoformat()})
    except OSError as error:
        raise no_room(store_folder(), error) from error
    return Fetched(target, sha256, verified, True)


def _check(path: Path, known: KnownWeights, source: Source, pin: str) -> None:
    """Raises `WeightsError` where the file is not the published one."""
    with path.open("rb") as file:
        start = file.read(64).lstrip().lower()
    found = mismatch(path, known, pin)
    if not found and start.startswith((b"<!doctype", b"<html", b"version https://git-lfs")):
        found = "expected a weight file, found a web page or a pointer to a file"
    if found:
        raise WeightsError(
            f"{source.told} is not {known.name} as it was published: {found}; it is not kept. "
            "Fetch it again, or from elsewhere with --from"
        )


def bring(
    source: Source,
    target: Path,
    progress: Progress = quiet,
    check: Callable[[Path], None] = lambda path: None,
) -> None:
    """Download or copy into `target`, which gets its name at the end; the caller is `alone`.

    check: raises where the whole file is not the wanted one. A file that was put together from
    several attempts and is wrong is got once more from its beginning. Raises `WeightsError`, and
    `OSError` where this machine cannot take the file.
    """
    part = part_of(target)
    resumed = part.exists()
    _download(source, part, progress)
    try:
        check(part)
    except WeightsError:
        _drop(part)
        if not resumed:
            raise
        _download(source, part, progress)
        try:
            check(part)
        except WeightsError:
            _drop(part)
            raise
    part.replace(target)
    _drop(part)


def part_of(target: Path) -> Path:
    """Where a download grows."""
    return target.with_name(target.name + ".part")


def _drop(part: Path) -> None:
    for path in (part, note_of(part)):
        path.unlink(missing_ok=True)


def _download(source: Source, part: Path, progress: Progress) -> None:
    def attempt() -> None:
        try:
            _attempt(source, part, progress)
        except OSError as error:
            if _is_ours(error, part):
                raise _Full(error) from error
            raise

    while True:
        before = _size(part)
        try:
            retried(attempt, source.retrying, source.told)
        except _Full as error:
            raise no_room(part.parent, error.error) from error
        except InputError as error:
            raise WeightsError(str(error)) from error
        except AccessFailed as failed:
            if failed.nature == "passing" and _size(part) > before:
                continue  # it moves, however often it is cut
            raise _failed(source, part, failed) from failed.error
        return


def _is_ours(error: OSError, part: Path) -> bool:
    """Whether this machine cannot take the file, not the source that does not give it."""
    here = error.filename is not None and Path(str(error.filename)).parent == part.parent
    return (error.errno in _FULL and (here or error.filename is None)) or (
        error.errno in _CLOSED and here
    )


class _Full(Exception):
    """This machine has no room: trying again is no use."""

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))


def _failed(source: Source, part: Path, failed: AccessFailed) -> WeightsError:
    kept = ""
    if _size(part) > 0:
        kept = f"; {_size(part)} bytes are kept, and the next attempt goes on from there"
    return WeightsError(refusal(source, failed) + kept)


def refusal(source: Source, failed: AccessFailed) -> str:
    """Why a file could not be got, in words and without secrets."""
    reason = {
        "not_found": "does not exist",
        "permission": "may not be read with these credentials",
    }.get(failed.nature, "could not be fetched")
    why = "" if failed.nature == "not_found" else f": {cause(failed.error)}"
    return f"{source.told} {masked(f'{reason}{failed.after}{why}', source.options.secrets)}"


def _attempt(source: Source, part: Path, progress: Progress) -> None:
    """Go on with a download to its end; raises `OSError` and what the store raises."""
    note = read_json(note_of(part))
    start = _size(part) if note.get("url") == unsigned(source.url) else 0
    before = web.Version(note.get("size_bytes"), str(note.get("tag", "")))
    if start and start == before.size_bytes:
        return  # whole; whoever got it ended before it was looked at
    with _opened(source, start, before) as (begun, version, pieces):
        _refuse_full(part, version.size_bytes, begun)
        write_json(
            note_of(part),
            {"url": unsigned(source.url), "size_bytes": version.size_bytes, "tag": version.tag},
        )
        with part.open("r+b" if begun else "wb") as file:
            file.seek(begun)
            done = begun
            for block in pieces:
                file.write(block)
                done += len(block)
                progress(done, version.size_bytes)
            file.truncate()


Opened = tuple[int, web.Version, Iterator[bytes]]


@contextlib.contextmanager
def _opened(source: Source, start: int, before: web.Version) -> Iterator[Opened]:
    """Where the bytes begin that come now, what the file is, and the bytes."""
    if web.is_web(source.url):
        options = source.options.for_url(source.url)
        try:
            with web.answer(source.url, options, start, before) as found:
                yield found.start, found.version, web.blocks(found, 2**16)
        except web.OtherPart:
            with web.answer(source.url, options) as found:
                yield found.start, found.version, web.blocks(found, 2**16)
        return
    fs, path = filesystem(source.url, source.options)
    version = version_in(fs, path)
    begun = start if version == before and start < (version.size_bytes or 0) else 0
    yield begun, version, _pieces(fs, path, begun, version)


def version_in(fs: Any, path: str) -> web.Version:
    """What a store of fsspec tells of a file."""
    info = fs.info(path)
    if info.get("type") == "directory":
        raise InputError(f"{path} is a folder, expected a weight file")
    tags = (info.get(name) for name in ("ETag", "etag", "md5Hash", "mtime", "LastModified"))
    tag = next((str(each) for each in tags if each), "")
    return web.Version(info.get("size"), tag)


def _pieces(fs: Any, path: str, start: int, version: web.Version) -> Iterator[bytes]:
    size = version.size_bytes
    if size is None:
        yield fs.cat_file(path)
        return
    while start < size:
        block = fs.cat_file(path, start=start, end=min(start + BLOCK_BYTES, size))
        if not block:
            raise ConnectionError(f"only {start} of {size} bytes came")
        start += len(block)
        yield block
    if version_in(fs, path) != version:
        raise ConnectionError("the file changed while it was downloaded")


def _refuse_full(part: Path, size: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if size is not None and size - have > free:
        raise OSError(
            errno.ENOSPC, f"{size - have} bytes are to come and {free} are free", str(part)
        )


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def local_source(given: str) -> str:
    """A mirror or file as given: a local path becomes an absolute one."""
    return str(Path(local_path(given)).expanduser().absolute()) if is_local(given) else given
