"""`demo`: a corpus of small real media files, made where it is not there, then read as `folder`.

It lets `configs/demo.yaml` run by itself anywhere, also as a job on a cluster that has no data.
"""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.demo_corpus import make_corpus
from audioflow.datasets.folder import FolderReader, FolderSettings
from audioflow.errors import InputError
from audioflow.registry import Settings
from audioflow.storage import Folder, is_local, local_path


class DemoSettings(Settings):
    """root: local folder that holds, or gets, the corpus; clips, corpus_seed: which corpus."""

    root: str = Field(min_length=1)
    clips: int = Field(120, ge=24, le=100_000)
    corpus_seed: int = Field(0, ge=0)


class DemoReader:
    """Clips of the demo corpus."""

    Settings = DemoSettings
    makes_media: ClassVar[bool] = True
    about: ClassVar[About] = About(recipe="manifest: {reader: demo, root: data/demo}")

    def __init__(self, settings: DemoSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """Make the corpus if need be, and read it. Raises `InputError` for a foreign folder."""
        root = resolve(self.settings.root).url
        if not is_local(root):
            raise InputError(f"manifest.root is {root}; the demo corpus is made in a local folder")
        make_corpus(local_path(root), clips=self.settings.clips, seed=self.settings.corpus_seed)
        return FolderReader(FolderSettings(root=root)).read(Folder)
