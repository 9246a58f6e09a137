"""`folder`: one sub-folder per class, every file in it (at any depth) a clip.

Or, where no class is known yet, every file at any depth.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.errors import InputError
from audioflow.listing import FoundFile, each_file
from audioflow.registry import Settings

_SHOWN = 5


class FolderSettings(Settings):
    """root: folder or url with one sub-folder per class; pattern: which file names are clips.

    labels: whether the sub-folders are classes; without, clips have none, and files lie anywhere.
    """

    root: str = Field(min_length=1)
    pattern: str = Field("*", min_length=1)
    labels: bool = True


class FolderReader:
    """Clips from a tree of class folders."""

    Settings = FolderSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(recipe="manifest: {reader: folder, root: clips}")

    def __init__(self, settings: FolderSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per file; its class is the first folder below the root."""
        place = resolve(self.settings.root)
        root, first = place.url, ""
        found = matching = count = 0
        loose = []
        for file in each_file(place.url, place.options, place.note):
            first = first or file.relative
            found += 1
            if not fnmatchcase(_name(file), self.settings.pattern):
                continue
            matching += 1
            if "/" in file.relative or not self.settings.labels:
                yield _clip(file, labelled=self.settings.labels)
                continue
            count += 1
            if count <= _SHOWN:
                loose.append(file.relative)
        if not found:
            inside = (
                "one sub-folder per class with media in it" if self.settings.labels else "media"
            )
            raise InputError(f"{root} holds no file; expected {inside}")
        if not matching:
            raise InputError(
                f"no file under {root} matches manifest.pattern {self.settings.pattern!r}; "
                f"there are {found}, the first is {first!r}"
            )
        if loose:
            raise InputError(
                f"{root} holds files that are in no class folder: {', '.join(loose)}"
                + (f" and {count - _SHOWN} more" if count > _SHOWN else "")
                + "; move each into a sub-folder named as its class, leave them out by "
                "manifest.pattern (like '*.wav'), list the clips with manifest.reader=csv, or say "
                "manifest.labels=false where no class is known"
            )


def _name(file: FoundFile) -> str:
    return file.relative.rsplit("/", 1)[-1]


def _clip(file: FoundFile, *, labelled: bool) -> Clip:
    labels = (file.relative.partition("/")[0],) if labelled else ()
    return Clip(file.relative, file.url, labels, size_bytes=file.size_bytes, version=file.version)
