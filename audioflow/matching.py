"""Which row of another program's table is of which clip: by a key that both have, never by order.

Shapes: R rows of the table, M clips of the manifest.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BeforeValidator

from audioflow.errors import InputError
from audioflow.registry import Expression, Settings

_EXTENSION = re.compile(r"\.(?=[A-Za-z0-9]{0,4}[A-Za-z])[A-Za-z0-9]{1,5}$")
"""At most five letters and digits, one of them a letter: `blues.00029` ends in none."""

_SHOWN = 3

Compared = Literal["stem", "clip_id", "uri"]


class KeySettings(Settings):
    """What rows and clips are matched by.

    of: `stem`, the name of the file without folders and extension (of a clip that of its `uri`), or
    the clip's `clip_id` or `uri` as it stands. pattern: only what this regular expression matches
    of it; its first group, where it has one.
    """

    of: Compared = "stem"
    pattern: Expression | None = None

    def key(self, name: str) -> str | None:
        """The key in an id of a table, or in what a clip has there; None where there is none."""
        name = stem(name) if self.of == "stem" else name
        if self.pattern is None:
            return name
        found = re.search(self.pattern, name)
        return None if found is None else found.group(1 if found.re.groups else 0)


def _by_name(value: Any) -> Any:
    return {"of": value} if isinstance(value, str) else value


KeyChoice = Annotated[KeySettings, BeforeValidator(_by_name)]


def stem(name: str) -> str:
    """The name of a file without its folders and extension, of a path of Unix or Windows or a url.

    >>> stem("C:\\\\k600\\\\val\\\\abseiling\\\\v_abc_000001_000011.wav")
    'v_abc_000001_000011'
    """
    place = name.partition("?")[0] if "://" in name else name
    last = re.split(r"[\\/]", place.rstrip("\\/"))[-1]
    return _EXTENSION.sub("", last) or last


@dataclass(frozen=True)
class Matched:
    """rows: (M,) the row of every clip, -1 where it has none. unknown: ids of rows of no clip."""

    rows: NDArray[np.int64]
    unknown: Sequence[str]


def match(ids: Sequence[str], clips: pa.Table, choice: KeySettings, source: str) -> Matched:
    """Match rows with these ids to clips (`clip_id` and `uri` of a manifest).

    source: what holds the ids, for messages. Raises `InputError` where no row is of a clip, where
    two rows have one key, and where a row could be of several clips.
    """
    row_of = _keyed_rows(ids, choice, source)
    rows_M = np.full(clips.num_rows, -1, np.int64)
    column = "clip_id" if choice.of == "clip_id" else "uri"
    taken: dict[str, int] = {}
    names = clips[column].to_pylist()
    for place, name in enumerate(names):
        key = choice.key(name)
        if key is None or key not in row_of:
            continue
        other = taken.setdefault(key, place)
        if other != place:
            raise _several(key, [other, place], clips, source)
        rows_M[place] = row_of[key]
    if not taken:
        raise InputError(
            f"{source}: none of its {len(ids)} ids is of a clip of the manifest; the key of its "
            f"first, {ids[0]!r}, is {choice.key(ids[0])!r}, that of the first clip "
            f"{clips['clip_id'][0].as_py()!r} is {choice.key(names[0])!r} ({_told(choice)}); "
            "give another key: stem, clip_id, uri, or {of: stem, pattern: '...'}"
        )
    used = np.zeros(len(ids), np.bool_)
    used[rows_M[rows_M >= 0]] = True
    return Matched(rows_M, [ids[row] for row in np.flatnonzero(~used).tolist()])


def _keyed_rows(ids: Sequence[str], choice: KeySettings, source: str) -> dict[str, int]:
    found: dict[str, int] = {}
    twice = []
    for row, name in enumerate(ids):
        key = choice.key(name)
        if key is None:
            continue
        other = found.setdefault(key, row)
        if other != row:
            twice.append(f"{key!r} (rows {other + 1} and {row + 1}: {ids[other]!r}, {name!r})")
    if twice:
        more = f" and {len(twice) - _SHOWN} more" if len(twice) > _SHOWN else ""
        raise InputError(
            f"{source}: rows have the same key ({_told(choice)}): {', '.join(twice[:_SHOWN])}{more}"
            "; keep one row per clip, or give another key"
        )
    return found


def _several(key: str, places: Sequence[int], clips: pa.Table, source: str) -> InputError:
    told = " and ".join(repr(clips["clip_id"][place].as_py()) for place in places)
    return InputError(
        f"{source}: the key {key!r} is that of several clips, {told}; give a key that tells them "
        "apart: clip_id, uri, or {of: ..., pattern: '...'}"
    )


def _told(choice: KeySettings) -> str:
    pattern = "" if choice.pattern is None else f", pattern {choice.pattern!r}"
    return f"key of {choice.of}{pattern}"
