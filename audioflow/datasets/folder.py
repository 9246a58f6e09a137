"""`folder`: one sub-folder per class, every file in it (at any depth) a clip."""

from collections.abc import Sequence
from fnmatch import fnmatch

from audioflow.datasets.base import Resolve
from audioflow.errors import InputError
from audioflow.manifest import Clip
from audioflow.registry import Settings
from audioflow.storage import FoundFile, find_files


class FolderSettings(Settings):
    """root: folder or url with one sub-folder per class; pattern: which file names are clips."""

    root: str
    pattern: str = "*"


class FolderReader:
    """Clips from a tree of class folders."""

    Settings = FolderSettings

    def __init__(self, settings: FolderSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """One clip per file; its class is the first folder below the root."""
        root = resolve(self.settings.root)
        found = find_files(root)
        if not found:
            raise InputError(
                f"{root} holds no file; expected one sub-folder per class with media in it"
            )
        files = [file for file in found if fnmatch(_name(file), self.settings.pattern)]
        if not files:
            raise InputError(
                f"none of the {len(found)} files under {root} matches manifest.pattern "
                f"{self.settings.pattern!r}; one is {found[0].relative}"
            )
        return [_clip(file, root) for file in files]


def _name(file: FoundFile) -> str:
    return file.relative.rsplit("/", 1)[-1]


def _clip(file: FoundFile, root: str) -> Clip:
    label, slash, _ = file.relative.partition("/")
    if not slash:
        raise InputError(
            f"{file.url} lies directly in {root}, so it has no class; "
            "move it into a sub-folder named as its class, or use manifest.reader=csv"
        )
    return Clip(file.relative, file.url, (label,), size_bytes=file.size_bytes, version=file.version)
