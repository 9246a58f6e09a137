"""Weights at a url: downloaded once per machine, into the store, for as long as they stay the same.

The copy is kept under the url (without a signature) and what the store tells of the file: its size,
and its ETag or date. A folder is downloaded whole.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from audioflow.errors import InputError
from audioflow.redaction import unsigned
from audioflow.retries import AccessFailed, retried
from audioflow.stores import filesystem
from audioflow.weights import web
from audioflow.weights.faults import WeightsError, refuse_too_large
from audioflow.weights.fetch import Source, bring, part_of, refusal, version_in
from audioflow.weights.store import alone, file_name, key_of, no_room, writable_folder

Listing = dict[str, web.Version]


def local_copy_of(source: Source) -> Path:
    """The file or folder behind a url, on this machine; raises `WeightsError`."""
    try:
        listing = retried(lambda: _listing(source), source.retrying, source.told)
    except InputError as error:
        raise WeightsError(str(error)) from error
    except AccessFailed as failed:
        raise WeightsError(f"{refusal(source, failed)}; expected a weight file") from failed.error
    refuse_too_large(source.told, sum(version.size_bytes or 0 for version in listing.values()))
    versions = [f"{name} {version.text}" for name, version in sorted(listing.items())]
    folder = writable_folder()
    target = folder / "urls" / key_of(unsigned(source.url), *versions) / file_name(source.url)
    growing = part_of(target) if "" in listing else _growing(target)
    if target.exists():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with alone(target, growing):
            if not target.exists():
                _bring(source, listing, target)
    except OSError as error:
        raise no_room(folder, error) from error
    return target


def _listing(source: Source) -> Listing:
    """The files below a url by their names relative to it, "" for the url itself being a file."""
    if web.is_web(source.url):
        return {"": web.version_of(source.url, source.options.for_url(source.url))}
    fs, path = filesystem(source.url, source.options, listing=True)
    if not fs.isdir(path):
        return {"": version_in(fs, path)}
    found = {
        str(PurePosixPath(name).relative_to(path.rstrip("/"))): version_in(fs, name)
        for name in _files(fs, path)
    }
    if not found:
        raise InputError(f"{source.told} is an empty folder, expected weights")
    return found


def _files(fs: Any, path: str) -> list[str]:
    return [name for name in fs.find(path) if not name.endswith("/")]


def _bring(source: Source, listing: Listing, target: Path) -> None:
    if "" in listing:
        bring(source, target)
        return
    growing = _growing(target)
    for name in sorted(listing):
        inside = growing / name
        if not inside.resolve().is_relative_to(growing.resolve()):
            raise WeightsError(f"{source.told} has a file {name!r} that leads out of it")
        inside.parent.mkdir(parents=True, exist_ok=True)
        if not inside.exists():
            url = f"{source.url.rstrip('/')}/{name}"
            bring(Source(url, source.options, source.retrying), inside)
    growing.replace(target)


def _growing(target: Path) -> Path:
    """Where a folder is put together."""
    return target.with_name(target.name + ".parts")
