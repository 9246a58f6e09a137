"""The folder of a data set: its files, listed once, and clips of those that its lists name."""

import os
import posixpath
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from audioflow.clip import Clip
from audioflow.datasets.base import clip_id
from audioflow.datasets.lines import Line, read_lines, read_text
from audioflow.errors import InputError
from audioflow.listing import FoundFile, find_files
from audioflow.matching import stem
from audioflow.redaction import masked
from audioflow.storage import Folder, is_local, local_path, path_url

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
    files: Mapping[str, FoundFile] = field(repr=False)

    @classmethod
    def at(cls, root: Folder, expected: str) -> "Tree":
        """List a folder; raises `InputError` where it is missing or holds nothing."""
        files = {file.relative: file for file in find_files(root.url, root.options)}
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

    @cached_property
    def media(self) -> list[FoundFile]:
        """All media, in the order of their paths."""
        return [self.files[path] for path in sorted(self.files) if is_media(path)]

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for file in self.media:
            found.setdefault(stem(file.relative), []).append(file.relative)
        return found

    def named(self, *stems: str) -> str | None:
        """The path of the medium with the first of these names (without folder and ending) that
        there is; raises `InputError` where several have it."""
        for name in stems:
            paths = self._by_stem.get(name, [])
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

    def some(self, clips: Sequence[Clip], source: str) -> Sequence[Clip]:
        """The clips that `source` names; raises `InputError` where it names none, or none of their
        files is there."""
        if not clips:
            raise InputError(f"{self.url}: {source} names no clip")
        if all(clip.size_bytes is None for clip in clips):
            raise InputError(
                f"{self.url}: none of the {len(clips)} files that {source} names is there, "
                f"{clips[0].columns['file']} for one; expected {self.expected}"
            )
        return clips


def is_media(path: str) -> bool:
    """Whether a file is a recording, by the ending of its name."""
    return posixpath.splitext(path)[1].lower() in MEDIA
