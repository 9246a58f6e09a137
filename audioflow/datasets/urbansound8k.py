"""`urbansound8k`: UrbanSound8K, 8,732 sounds of cities of up to 4 s, 10 classes, in 10 folds.

    UrbanSound8K/                         <- root
      audio/fold5/100032-3-0-0.wav
      metadata/UrbanSound8K.csv           slice_file_name,fsID,start,end,salience,fold,classID,class

Columns: `fold`, `fsID`, `classID`, `salience` (1: in front, 2: behind). Clips that were cut from
one Freesound recording (`fsID`) are one group.
"""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.tree import Tree
from audioflow.registry import Settings

LIST = "metadata/UrbanSound8K.csv"
_PUBLISHED = ("fold", "fsID", "classID", "salience")


class UrbanSound8kSettings(Settings):
    """root: folder or url with audio/ and metadata/."""

    root: str = Field(min_length=1)


class UrbanSound8kReader:
    """Clips of UrbanSound8K."""

    Settings = UrbanSound8kSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest: {reader: urbansound8k, root: UrbanSound8K, splits: {folds: fold}}",
        get=(
            "curl -L -o us8k.tar.gz"
            " https://zenodo.org/records/1203745/files/UrbanSound8K.tar.gz?download=1",
            "tar xzf us8k.tar.gz",
        ),
        home="https://urbansounddataset.weebly.com/urbansound8k.html",
        licence="CC BY-NC 3.0",
        size="about 6 GB",
    )

    def __init__(self, settings: UrbanSound8kSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of the list; raises `InputError` where there is no list or no file."""
        tree = Tree.at(resolve(self.settings.root), "audio/fold*/*.wav and " + LIST)
        clips = (
            tree.clip(
                f"audio/fold{line.text('fold')}/{line.text('slice_file_name')}",
                [line.text("class")],
                line.place,
                {name: line.cells[name] for name in _PUBLISHED},
                clip_id=line.cells["slice_file_name"],
                group=f"freesound/{line.text('fsID')}",
            )
            for line in tree.lines(LIST, ("slice_file_name", "class", *_PUBLISHED))
        )
        return tree.some(clips, LIST)
