"""Whether the stores of a recipe answer: tried with the code and the options that a run uses."""

import os
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from audioflow.errors import AudioflowError, InputError, StorageError
from audioflow.places import input_url, output_url
from audioflow.recipe import Recipe
from audioflow.redaction import masked
from audioflow.retries import AccessFailed, Retrying, cause, retried
from audioflow.storage import Folder
from audioflow.stores import NO_OPTIONS, StorageOptions, filesystem, is_local, local_path

Use = Literal["read", "write"]

PATIENCE = Retrying(attempts=3, first_wait_s=0.5, most_wait_s=2.0, patience_s=20.0)
"""Whoever asks waits for the answer: a store that needs longer is told as unreachable."""

_DATA = ("root", "list", "files", "folder", "annotations", "names", "label_list")
"""Settings of readers and importers that name what is read, also where it is no url."""

_S3 = ("s3://", "s3a://")

_PROBE = b"audioflow doctor was here, and may be deleted\n"


@dataclass(frozen=True)
class Place:
    """A url that a run reads from or writes to; key: where the recipe names it."""

    key: str
    url: str
    use: Use


@dataclass(frozen=True)
class Reached:
    """How a place answered: milliseconds per step that worked, and what did not ("" if all did)."""

    place: Place
    ms: Mapping[str, float] = field(default_factory=dict)
    problem: str = ""


def places_of(recipe: Recipe) -> list[Place]:
    """Where a recipe reads and writes: run_dir, roots, lists and files of data, and every url."""
    found = [Place("run_dir", output_url(recipe.run_dir), "write")]
    found += _data_places(recipe.manifest.options, "manifest")
    for name, extra in recipe.manifest.extra.items():
        found += _data_places(extra.options, f"manifest.extra.{name}")
    if recipe.embed is not None:
        for name, imported in recipe.embed.imports.items():
            found += _data_places(imported.options, f"embed.imports.{name}")
        for name, choice in recipe.embed.backbones.items():
            found += _urls(choice.options, f"embed.backbones.{name}")
    for name, system in recipe.systems.items():
        found += _urls(system.head.options, f"systems.{name}.head")
    return found


def _urls(options: Mapping[str, Any], key: str) -> Iterator[Place]:
    for place, text in _texts(options, key):
        if not is_local(text):
            yield Place(place, text, "read")


def _data_places(options: Mapping[str, Any], key: str) -> Iterator[Place]:
    for name, value in options.items():
        for place, text in _texts(value, f"{key}.{name}"):
            if name in _DATA or not is_local(text):
                yield Place(place, input_url(text), "read")


def _texts(options: Any, key: str) -> Iterator[tuple[str, str]]:
    if isinstance(options, Mapping):
        for name, value in options.items():
            yield from _texts(value, f"{key}.{name}")
    elif isinstance(options, list):
        for number, value in enumerate(options):
            yield from _texts(value, f"{key}.{number}")
    elif isinstance(options, str):
        yield key, options


def reach(place: Place, options: StorageOptions = NO_OPTIONS) -> Reached:
    """Try a place as a run would use it; what fails is told, without secrets."""
    ms: dict[str, float] = {}
    try:
        _try(place, options, ms)
    except (AudioflowError, OSError) as error:
        return Reached(place, ms, masked(str(error), options.secrets))
    return Reached(place, ms)


def _try(place: Place, options: StorageOptions, ms: dict[str, float]) -> None:
    if place.use == "read":
        _read(place.url, options, ms)
    elif is_local(place.url):
        _write(Folder(str(_there(place.url))), ms)
    else:
        if place.url.startswith(_S3):
            _timed(ms, "list", lambda: _first(place.url, options))
        _write(Folder(place.url, options, PATIENCE), ms)


def _timed(ms: dict[str, float], step: str, action: Callable[[], Any]) -> Any:
    begun = time.perf_counter()
    found = action()
    ms[step] = round(1000 * (time.perf_counter() - begun), 1)
    return found


def _there(url: str) -> Path:
    """The folder itself, or the nearest one above that is there, in which it would be made.

    Raises `StorageError` where a file is in its way.
    """
    path = Path(local_path(url)).absolute()
    nearest = next(each for each in (path, *path.parents) if each.exists())
    if not nearest.is_dir():
        raise StorageError(f"{url} cannot be made: {nearest} is a file, not a folder")
    return nearest


def _write(folder: Folder, ms: dict[str, float]) -> None:
    """Write a small file, read it back and remove it."""
    name = f".audioflow-doctor-{uuid.uuid4().hex}"
    try:
        _timed(ms, "write", lambda: folder.write(name, _PROBE))
        back = _timed(ms, "read", lambda: folder.read(name))
    except BaseException:
        with suppress(AudioflowError):
            folder.remove(name)
        raise
    _timed(ms, "delete", lambda: folder.remove(name))
    if back != _PROBE:
        told = f"{folder.file(name)} gave back {len(back)} other bytes than the {len(_PROBE)} sent"
        raise StorageError(told)


def _read(url: str, options: StorageOptions, ms: dict[str, float]) -> None:
    if is_local(url):
        path = Path(local_path(url))
        if not path.exists():
            raise InputError(f"{url} does not exist")
        if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise InputError(f"{url} cannot be read by this user")
        _timed(ms, "list", lambda: next(path.iterdir(), None) if path.is_dir() else path.stat())
        return
    first = _timed(ms, "list", lambda: _first(url, options))
    if first is None:
        raise InputError(f"{url} answers, but nothing is there")
    _timed(ms, "read", lambda: _access(url, options, lambda fs, _: fs.cat_file(first, 0, 1)))


def _first(url: str, options: StorageOptions) -> str | None:
    """The path of one file at or below a url, found without listing all of them."""

    def look(fs: Any, path: str) -> str | None:
        if not url.startswith(_S3):
            return path if fs.info(path)["type"] == "file" else next(iter(fs.find(path)), None)
        bucket, key, _ = fs.split_path(path)
        below = f"{key.rstrip('/')}/" if key else ""
        answer = fs.call_s3("list_objects_v2", Bucket=bucket, Prefix=below, MaxKeys=8)
        names = [each["Key"] for each in answer.get("Contents", ())]
        files = [name for name in names if not name.endswith("/")]
        if files:
            return f"{bucket}/{files[0]}"
        try:
            return path if key and fs.info(path)["type"] == "file" else None
        except FileNotFoundError:
            return None

    found: str | None = _access(url, options, look)
    return found


def _access(url: str, options: StorageOptions, action: Callable[[Any, str], Any]) -> Any:
    def attempt() -> Any:
        fs, path = filesystem(url, options)
        fs.invalidate_cache()
        return action(fs, path)

    try:
        return retried(attempt, PATIENCE, url)
    except AccessFailed as failed:
        raise InputError(f"{url} cannot be read{failed.after}: {cause(failed.error)}") from failed
