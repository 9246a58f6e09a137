"""All files under a root, on local disk or in any object store, for readers of data sets."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple
from urllib.parse import quote

from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.retries import TABLES, AccessFailed, cause, retried
from audioflow.s3_pages import in_pages, page
from audioflow.storage import Note, unnoted
from audioflow.stores import (
    NO_OPTIONS,
    StorageOptions,
    filesystem,
    is_local,
    local_path,
    path_url,
    refuse_option,
)

HIDDEN, CIRCLE, TWICE = "hidden", "circle", "twice"
_OWN = ".audioflow-"
"""How hidden files begin that audioflow itself leaves in a data set."""


class Noted:
    """What listings left out and what they found by two paths: how many, and the first of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self._first: dict[str, str] = {}

    def __call__(self, kind: str, path: str) -> None:
        if kind == HIDDEN and path.rpartition("/")[2].startswith(_OWN):
            return
        self.counts[kind] += 1
        self._first.setdefault(kind, path)

    def told(self) -> list[str]:
        """In words, a line each; nothing where there was nothing."""
        left_out = [
            f"{_plural(self.counts[kind], one, more)}, {self._first[kind]!r} for one"
            for kind, one, more in (
                (HIDDEN, "hidden file or folder", "hidden files or folders"),
                (CIRCLE, "link to a folder that it is in", "links to a folder that they are in"),
            )
            if self.counts[kind]
        ]
        lines = [f"left out: {'; '.join(left_out)}"] if left_out else []
        if self.counts[TWICE]:
            files = _plural(self.counts[TWICE], "file is", "files are")
            lines.append(f"{files} reached by another path, too, {self._first[TWICE]!r} for one")
        return lines


def _plural(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"


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


def each_file(
    root: str, options: StorageOptions = NO_OPTIONS, note: Note = unnoted
) -> Iterator[FoundFile]:
    """All files under `root`, sorted within each folder; hidden files and folders are left out.

    Links are followed, but not into a folder that the link is in. In `relative`, a name that is not
    valid UTF-8 is percent-encoded. note: is told of what is `HIDDEN`, in a `CIRCLE` or there
    `TWICE`, with its path below the root. Raises `InputError` when the root is missing, is no
    folder or cannot be listed.
    """
    if is_local(root):
        return _find_local(local_path(root), note)
    return _find_remote(root, options, note)


def _find_remote(root: str, options: StorageOptions, note: Note) -> Iterator[FoundFile]:
    hidden = None
    for path, entries in _listed(root, options):
        for name, entry in entries:
            relative = name[len(path) + 1 :]
            if name.endswith("/"):
                continue
            if inside := _hidden_in(relative):
                if inside != hidden:  # what is in one hidden folder comes in a row
                    note(HIDDEN, inside)
                hidden = inside
                continue
            state = (entry.get(key) for key in ("ETag", "etag", "mtime", "created"))
            version = str(next((value for value in state if value), "")).strip('"')
            url = name if "://" in name else f"{root.split('://', 1)[0]}://{name}"
            yield FoundFile(
                url, relative, int(entry.get("size") or entry.get("Size") or 0), version
            )


def _hidden_in(relative: str) -> str:
    """The hidden file or folder that a path leads to or through, "" where there is none."""
    if not relative.startswith(".") and "/." not in relative:
        return ""
    start = 0 if relative.startswith(".") else relative.index("/.") + 1
    end = relative.find("/", start)
    return relative if end < 0 else relative[:end]


Entries = Sequence[tuple[str, Mapping[str, Any]]]


def _listed(root: str, options: StorageOptions) -> Iterator[tuple[str, Entries]]:
    """The path of the root in its store, and what is below it, by name, a page at a time."""
    told = masked(root, options.secrets)
    pages = (_Pages if in_pages(root, options.for_url(root)) else _OnePage)(root, options)
    while not pages.done:
        try:
            path, entries = retried(pages.next, TABLES, root)
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


def _find_local(root: str, note: Note) -> Iterator[FoundFile]:
    if not os.path.exists(root):
        raise InputError(f"{path_url(root)} does not exist")
    if not os.path.isdir(root):
        raise InputError(f"{path_url(root)} is a file, a folder was expected")
    root = os.path.abspath(root)
    above = len(root.rstrip(os.sep)) + 1
    for path, state in _walk(root, lambda kind, path: note(kind, _text(path[above:]))):
        relative = _text(path[above:])
        yield FoundFile(path_url(path), relative, state.st_size, str(state.st_mtime_ns))


class _Visit(NamedTuple):
    """A folder to be listed. above: real paths of those it is in. by_link: whether a link led to
    it, or to one of them. again: whether what lies beside it was listed by another path, too."""

    path: str
    above: frozenset[str] = frozenset()
    by_link: bool = False
    again: bool = False


def _walk(root: str, note: Note) -> Iterator[tuple[str, os.stat_result]]:
    folders = [_Visit(root)]
    linked = _Linked(os.path.realpath(root))
    while folders:
        folder, above, by_link, again = folders.pop()
        real = os.path.realpath(folder)
        if real in above:  # a link to a folder that it is in
            if not again:
                note(CIRCLE, folder)
            continue
        twice = by_link and linked.again(real)
        inner = []
        try:
            with os.scandir(folder) as listed:
                entries = sorted(listed, key=lambda entry: entry.name)
            for entry in entries:
                is_link = entry.is_symlink()
                if entry.name.startswith("."):
                    if not twice:
                        note(HIDDEN, entry.path)
                elif os.path.isdir(entry.path) if is_link else entry.is_dir():
                    inner.append(_Visit(entry.path, above | {real}, by_link or is_link, twice))
                else:
                    if twice or (is_link and linked.leads_inside(entry.path, real)):
                        note(TWICE, entry.path)
                    yield entry.path, _state(entry)
        except OSError as error:
            raise InputError(
                f"{path_url(error.filename or folder)} cannot be listed: {error.strerror}"
            ) from error
        folders += reversed(inner)


class _Linked:
    """What links lead to, as far as real paths tell: nothing is kept of what needs no link."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._seen: set[str] = set()

    def again(self, real: str) -> bool:
        """Whether the files of a folder that a link led to are found by another path, too."""
        if self._inside(real) or real in self._seen:
            return True
        self._seen.add(real)
        return False

    def leads_inside(self, path: str, folder: str) -> bool:
        """Whether a link, in a folder of this real path, leads to a file that is found itself."""
        target = os.path.normpath(os.path.join(folder, os.readlink(path)))
        return self._inside(target) and os.path.isfile(target) and not os.path.islink(target)

    def _inside(self, real: str) -> bool:
        above = self._root.rstrip(os.sep) + os.sep
        return real == self._root or (real.startswith(above) and not _hidden_in(real[len(above) :]))


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
