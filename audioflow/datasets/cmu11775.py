"""`cmu11775`: the videos of course 11-775 of Carnegie Mellon, 15 classes of what people do.

    11775/                                <- root
      videos/<id>.mp4                     8,249 videos; their sound alone (mp3/<id>.mp3) will do
      labels/cls_map.csv                  Label,Category: names and numbers of the classes
      labels/train_val.csv                Id,Category: 7,500 videos
      labels/test_for_students.csv        Id,Category: 749 videos, Category is empty

Columns: `split`: train_val, and test (clips without a label, whose scores `audioflow export kaggle`
writes into the list's own order); `number`.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.lines import Line
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.registry import Settings

_MAP, _LEARN = "labels/cls_map.csv", "labels/train_val.csv"
_TEST = "labels/test_for_students.csv"
_LISTED = ("Id", "Category")


class Cmu11775Settings(Settings):
    """root: folder or url with labels/ and videos/. test: whether clips to submit are read, too."""

    root: str = Field(min_length=1)
    test: bool = True


class Cmu11775Reader:
    """Clips of the course's lists."""

    Settings = Cmu11775Settings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: cmu11775\n"
        "  root: '11775'\n"
        "  splits: {column: split, train: [train_val], val: 0.1, test: [test]}",
        get=("# given out to students of the course",),
        home="https://github.com/KevinQian97/11775-HW1",
        licence="for the course",
        size="8,249 videos",
    )

    def __init__(self, settings: Cmu11775Settings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of the lists.

        Raises `InputError` for a number that no class has, and where there is no list or no file.
        """
        tree = Tree.at(resolve(self.settings.root), f"{_MAP}, {_LEARN} and videos/*.mp4")
        names = _names(tree)
        clips = [
            _clip(tree, line, [_label(line, names)], "train_val")
            for line in tree.lines(_LEARN, _LISTED)
        ]
        if self.settings.test and _TEST in tree.files:
            for line in tree.lines(_TEST, _LISTED):
                told = [_label(line, names)] if line.cells["Category"] else []
                clips.append(_clip(tree, line, told, "test"))
        return tree.some(clips, _LEARN)


def _names(tree: Tree) -> dict[str, str]:
    """Names by number, whichever of the two columns holds the numbers."""
    found = {}
    for line in tree.lines(_MAP, ("Label", "Category")):
        label, category = line.text("Label"), line.text("Category")
        number, name = (label, category) if label.isdigit() else (category, label)
        found[number] = name
    return found


def _label(line: Line, names: Mapping[str, str]) -> str:
    number = line.text("Category")
    if number not in names:
        raise InputError(
            f"{line.place}: Category is {number!r}; {_MAP} has {', '.join(sorted(names, key=len))}"
        )
    return names[number]


def _clip(tree: Tree, line: Line, labels: Sequence[str], split: str) -> Clip:
    name = line.text("Id")
    columns = {"split": split, "number": line.cells["Category"]}
    path = tree.named(name) or f"videos/{name}.mp4"
    return tree.clip(path, labels, line.place, columns, clip_id=name)
