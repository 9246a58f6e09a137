r"""`glob`: files by a pattern, with what their paths tell about them.

    field/                                 <- root
      north/2024-05/owl_0001.wav           pattern: '**/*.wav'
      south/2024-06/none_0002.wav          match: '(?P<site>\w+)/.*/(?P<label>[a-z]+)_\d+\.wav'

Of `match`, a regular expression that is searched in the path below the root, the group named
`label` is the label (or the first group, where none has a name), `group` what must not straddle
splits, `id` the clip id; every other name becomes a column. Without `match`, clips have no label.
"""

import re
from collections.abc import Iterator
from itertools import chain
from typing import ClassVar

from fsspec.utils import glob_translate
from pydantic import Field, field_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.registry import Expression, Settings


class GlobSettings(Settings):
    """root: folder or url. pattern: of paths below it; `**` is any number of folders.

    match: a regular expression with groups. label_separator: splits what it finds into several
    labels. skip_unmatched: leave out files that it does not match; else they are an error.
    """

    root: str = Field(min_length=1)
    pattern: str = Field("**/*", min_length=1)
    match: Expression | None = Field(None, min_length=1)
    label_separator: str | None = Field(None, min_length=1)
    skip_unmatched: bool = False

    @field_validator("match")
    @classmethod
    def _tells(cls, value: str | None) -> str | None:
        if value is not None and not re.compile(value).groups:
            raise ValueError(f"{value!r} has no group; put what is the label into (?P<label>...)")
        return value


class GlobReader:
    """Clips by the paths of files."""

    Settings = GlobSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: glob\n"
        "  root: field\n"
        "  pattern: '**/*.wav'\n"
        "  match: '(?P<site>\\w+)/.*/(?P<label>[a-z]+)_\\d+'\n"
        "  group_by: site"
    )

    def __init__(self, settings: GlobSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per file; raises `InputError` where none has such a path, and for paths that
        `match` does not match."""
        settings = self.settings
        tree = Tree.at(resolve(settings.root), f"files like {settings.pattern!r}")
        pattern = re.compile(glob_translate(settings.pattern))
        paths = (path for path in tree.files if pattern.match(path))
        one = next(paths, None)
        if one is None:
            first = next(iter(tree.files))
            raise InputError(
                f"no file under {tree.url} matches manifest.pattern {settings.pattern!r}; there "
                f"are {len(tree.files)}, the first is {first!r}"
            )
        found = (self._clip(tree, path) for path in chain([one], paths))
        clips = (clip for clip in found if clip is not None)
        return tree.some(clips, f"manifest.match {settings.match!r}")

    def _clip(self, tree: Tree, path: str) -> Clip | None:
        settings = self.settings
        if settings.match is None:
            return tree.clip(path, [])
        found = re.search(settings.match, path)
        if found is None:
            if settings.skip_unmatched:
                return None
            raise InputError(
                f"{tree.url}: manifest.match {settings.match!r} is not in {path!r}; correct it, "
                "narrow manifest.pattern, or give skip_unmatched: true"
            )
        named = {name: value or "" for name, value in found.groupdict().items()}
        label = named.pop("label", "") if found.groupdict() else (found.group(1) or "")
        parts = label.split(settings.label_separator) if settings.label_separator else [label]
        group, own_id = named.pop("group", ""), named.pop("id", "") or path
        labels = [part for part in parts if part]
        return tree.clip(path, labels, "", named, group=group, clip_id=own_id)
