"""`esc50`: ESC-50 and ESC-10, environmental sounds in 50 classes of 40 clips of 5 s, in 5 folds.

    ESC-50-master/            <- root
      audio/1-100032-A-0.wav
      meta/esc50.csv          filename,fold,target,category,esc10,src_file,take

Columns: `fold`, `target`, `category`, `esc10`, `src_file`, `take`. Clips that were cut from one
Freesound recording (`src_file`) are one group.
"""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.tree import Tree
from audioflow.registry import Settings

LIST = "meta/esc50.csv"
_COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")


class Esc50Settings(Settings):
    """root: folder or url with audio/ and meta/. esc10: only the ten classes of ESC-10."""

    root: str = Field(min_length=1)
    esc10: bool = False


class Esc50Reader:
    """Clips of ESC-50."""

    Settings = Esc50Settings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest: {reader: esc50, root: ESC-50-master, splits: {folds: fold}}",
        get=(
            "curl -L -o esc50.zip https://github.com/karolpiczak/ESC-50/archive/master.zip",
            "unzip esc50.zip",
        ),
        home="https://github.com/karolpiczak/ESC-50",
        licence="CC BY-NC 3.0; the clips of ESC-10 CC BY 3.0",
        size="about 600 MB",
    )

    def __init__(self, settings: Esc50Settings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of the list; raises `InputError` where there is no list or no file."""
        tree = Tree.at(resolve(self.settings.root), "audio/*.wav and meta/esc50.csv")
        clips = (
            tree.clip(
                f"audio/{line.text('filename')}",
                [line.text("category")],
                line.place,
                {name: line.cells[name] for name in _COLUMNS[1:]},
                clip_id=line.cells["filename"],
                group=f"freesound/{line.text('src_file')}",
            )
            for line in tree.lines(LIST, _COLUMNS)
            if line.cells["esc10"].lower() == "true" or not self.settings.esc10
        )
        return tree.some(clips, LIST)
