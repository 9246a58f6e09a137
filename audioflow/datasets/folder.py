"""`folder`: one sub-folder per class, every file in it (at any depth) a clip."""

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import ClassVar

from pydantic import Field

from audioflow.datasets.base import Resolve
from audioflow.errors import InputError
from audioflow.listing import FoundFile, find_files
from audioflow.manifest import Clip
from audioflow.registry import Settings

_SHOWN = 5


class FolderSettings(Settings):
    """root: folder or url with one sub-folder per class; pattern: which file names are clips."""

    root: str = Field(min_length=1)
    pattern: str = Field("*", min_length=1)


class FolderReader:
    """Clips from a tree of class folders."""

    Settings = FolderSettings
    makes_media: ClassVar[bool] = False

    def __init__(self, settings: FolderSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """One clip per file; its class is the first folder below the root."""
        place = resolve(self.settings.root)
        root, found = place.url, find_files(place.url, place.options)
        if not found:
            raise InputError(
                f"{root} holds no file; expected one sub-folder per class with media in it"
            )
        files = [file for file in found if fnmatchcase(_name(file), self.settings.pattern)]
        if not files:
            raise InputError(
                f"no file under {root} matches manifest.pattern {self.settings.pattern!r}; "
                f"there are {len(found)}, the first is {found[0].relative!r}"
            )
        loose = [file.relative for file in files if "/" not in file.relative]
        if loose:
            raise InputError(
                f"{root} holds files that are in no class folder: {', '.join(loose[:_SHOWN])}"
                + (f" and {len(loose) - _SHOWN} more" if len(loose) > _SHOWN else "")
                + "; move each into a sub-folder named as its class, leave them out by "
                "manifest.pattern (like '*.wav'), or list the clips with manifest.reader=csv"
            )
        return [_clip(file) for file in files]


def _name(file: FoundFile) -> str:
    return file.relative.rsplit("/", 1)[-1]


def _clip(file: FoundFile) -> Clip:
    label = file.relative.partition("/")[0]
    return Clip(file.relative, file.url, (label,), size_bytes=file.size_bytes, version=file.version)
