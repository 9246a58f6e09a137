"""The folder of a data set: its files, listed once, and clips of those that its lists name."""

import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.clip import Clip
from audioflow.datasets.base import clip_id
from audioflow.datasets.lines import Line, read_lines, read_text
from audioflow.errors import InputError
from audioflow.file_table import FileTable
from audioflow.listing import FoundFile, each_file
from audioflow.matching import stem
from audioflow.redaction import masked
from audioflow.storage import Folder, is_local, local_path, path_url
from audioflow.text_index import TextIndex

_AT_ONCE = 16_384

MEDIA = frozenset(
    ".3gp .aac .aif .aiff .au .avi .flac .flv .m4a .m4v .mkv .mov .mp2 .mp3 .mp4 .mpeg .mpg .oga"
    " .ogg .ogv .opus .ts .wav .webm .wma .wmv".split()
)
"""Endings of media, in lower case: what of a data set's folder can be a clip."""


@dataclass(frozen=True)
class Tree:
    """A folder with everything in it. expected: what it should hold, for messages."""

    root: Folder
    expected: str
    files: FileTable = field(repr=False)

    @classmethod
    def at(cls, root: Folder, expected: str) -> "Tree":
        """List a folder; raises `InputError` where it is missing or holds nothing."""
        files = FileTable(each_file(root.url, root.options, root.note))
        tree = cls(root, expected, files)
        if not files:
            raise InputError(f"{tree.url} holds no file; expected {expected}")
        return tree

    @property
    def url(self) -> str:
        """The root, for messages."""
        return masked(self.root.url, self.root.options.secrets)

    def lines(self, name: str, columns: Sequence[str], **form: Any) -> Iterator[Line]:
        """The lines of the list `name`, as `read_lines` gives them; raises `InputError` where it
        is not there, too."""
        self._refuse_absent(name)
        return read_lines(self.root / name, columns, **form)

    def text(self, name: str) -> str:
        """The text of the file `name`; raises `InputError` where it is not there."""
        self._refuse_absent(name)
        return read_text(self.root / name)

    def _refuse_absent(self, name: str) -> None:
        if name in self.files:
            return
        below = [path for path in self.files if path.endswith(f"/{name}")]
        hint = ""
        if below:
            inner = posixpath.join(self.url, below[0].removesuffix(f"/{name}"))
            hint = f"; there is one in {inner}: is that manifest.root?"
        raise InputError(f"{self.url} has no {name}; expected {self.expected}{hint}")

    @property
    def media(self) -> Iterator[FoundFile]:
        """All media, in the order of their paths."""
        return self.files.at(self._media)

    @cached_property
    def _media(self) -> NDArray[np.int64]:
        return self.files.sorted(is_media)

    @cached_property
    def _stems(self) -> TextIndex:
        """The names of all media, in the same order."""
        names = (stem(file.relative) for file in self.media)
        chunks = []
        while batch := list(islice(names, _AT_ONCE)):
            chunks.append(pa.array(batch, pa.string()))
        return TextIndex(pa.chunked_array(chunks, pa.string()))

    def named(self, *stems: str) -> str | None:
        """The path of the medium with the first of these names (without folder and ending) that
        there is; raises `InputError` where several have it."""
        for name in stems:
            paths = [self.files.path(int(self._media[row])) for row in self._stems.rows(name)]
            if len(paths) > 1:
                raise InputError(
                    f"{self.url} has {len(paths)} files named {name!r}: {paths[0]}, {paths[1]}; "
                    "keep one of them, or point manifest.root at a folder with one"
                )
            if paths:
                return paths[0]
        return None

    def clip(
        self,
        path: str,
        labels: Sequence[str],
        place: str = "",
        columns: Mapping[str, str] | None = None,
        **more: Any,
    ) -> Clip:
        """The clip in the file at `path`, also where that is not there: its failure is told when it
        is decoded.

        columns: besides `file`, which every clip has. more: other fields of `Clip`.
        """
        path = posixpath.normpath(path)
        found = self.files.get(path)
        own_id = clip_id(path, more.get("start_s"), more.get("duration_s"))
        return Clip(
            uri=found.url if found else self._url(path),
            labels=tuple(dict.fromkeys(labels)),
            size_bytes=found.size_bytes if found else None,
            version=found.version if found else None,
            columns={"file": path, **(columns or {})},
            place=place,
            **({"clip_id": own_id} | more),
        )

    @cached_property
    def _local_root(self) -> str | None:
        """The root's own path; None in a store."""
        return os.path.abspath(local_path(self.root.url)) if is_local(self.root.url) else None

    def _url(self, path: str) -> str:
        """Where a file would be that is not there."""
        if self._local_root is None:
            return self.root.file(path)
        return path_url(os.path.normpath(os.path.join(self._local_root, path)))

    def some(self, clips: Iterable[Clip], source: str) -> Iterator[Clip]:
        """The clips that `source` names; raises `InputError`, after the last one, where it names
        none, or none of their files is there."""
        count = there = 0
        first = ""
        for clip in clips:
            first = first or clip.columns["file"]
            count += 1
            there += clip.size_bytes is not None
            yield clip
        if not count:
            raise InputError(f"{self.url}: {source} names no clip")
        if not there:
            raise InputError(
                f"{self.url}: none of the {count} files that {source} names is there, "
                f"{first} for one; expected {self.expected}"
            )


def is_media(path: str) -> bool:
    """Whether a file is a recording, by the ending of its name."""
    return posixpath.splitext(path)[1].lower() in MEDIA
