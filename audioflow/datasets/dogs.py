"""`dogs`: sounds around a dog, by a list `Filename,Label,Remark` (the Tomofun challenge of 2021).

    dogs/                       <- root
      meta_train.csv            train_00001,0,Barking
      train/train_00001.wav     5 s at 8 kHz; anywhere below the root, named as in the list

`Label` is the number of one of ten classes, `Remark` a finer kind (Blender, Cat, Dishes, Electrics
and Vacuum are of class 5, Other). By default a clip's label is the finer one: merge it by
`manifest.merge`, and train on both by `train.fine`. Columns: `number`, `class`, `remark`.

Clips of AudioSet in the same list are named `<YouTube id>_<number>`; those of one video are one
group. What the list does not name is no clip.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.lines import Line
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.matching import stem
from audioflow.registry import Settings

CLASSES = (
    "Barking",
    "Howling",
    "Crying",
    "CO_Smoke",
    "GlassBreaking",
    "Other",
    "Doorbell",
    "Bird",
    "Music_Instrument",
    "Laugh_Shout_Scream",
)
"""The classes 0 to 9."""

_VIDEO = re.compile(r"([\w-]{11})_\d+")
_OWN = re.compile(r"(train|test|public|private)_\d+")


class DogsSettings(Settings):
    """root: folder or url with the list and the media. meta: the list, below the root.

    labels: the finer kinds, or the ten classes.
    """

    root: str = Field(min_length=1)
    meta: str = Field("meta_train.csv", min_length=1)
    labels: Literal["fine", "classes"] = "fine"


class DogsReader:
    """Clips of the list."""

    Settings = DogsSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: dogs\n"
        "  root: dogs\n"
        "  splits: {folds: 5}\n"
        "  merge: {Blender: Other, Cat: Other, Dishes: Other, Electrics: Other, Vacuum: Other}",
        get=("# given out to those who took part in the challenge",),
        home="https://tbrain.trendmicro.com.tw/Competitions/Details/15",
        licence="as the challenge says",
        size="about 130 MB",
    )

    def __init__(self, settings: DogsSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of the list; raises `InputError` for a number that is no class, and
        where there is no list or no file."""
        meta = self.settings.meta
        tree = Tree.at(resolve(self.settings.root), f"{meta} and the .wav files that it names")
        lines = tree.lines(meta, ("Filename", "Label", "Remark"))
        return tree.some((self._clip(tree, line) for line in lines), meta)

    def _clip(self, tree: Tree, line: Line) -> Clip:
        number = line.text("Label")
        if not number.isdigit() or int(number) >= len(CLASSES):
            raise InputError(
                f"{line.place}: Label is {number!r}; allowed: 0 to {len(CLASSES) - 1} "
                f"({', '.join(CLASSES)})"
            )
        name, remark = stem(line.text("Filename")), line.cells["Remark"]
        label = CLASSES[int(number)]
        fine = remark or label
        video = None if _OWN.fullmatch(name) else _VIDEO.fullmatch(name)
        return tree.clip(
            tree.named(name) or f"{name}.wav",
            [fine if self.settings.labels == "fine" else label],
            line.place,
            {"number": number, "class": label, "remark": remark},
            clip_id=name,
            group=f"youtube/{video.group(1)}" if video else "",
        )
