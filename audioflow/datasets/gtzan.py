"""`gtzan`: GTZAN, 1,000 excerpts of music of 30 s in ten genres, with the filtered split.

    gtzan/                              <- root
      genres/blues/blues.00000.wav      or .au; the folder may be called genres_original, too
      train_filtered.txt                a path below genres/ per line: blues/blues.00029.wav
      valid_filtered.txt
      test_filtered.txt

The lists (443, 197 and 290 clips; Kereliuk, Sturm and Larsen 2015) leave out repeated, distorted
and wrongly labelled excerpts, and keep an artist in one split. An ending in a list need not be that
of the file. Columns: `split` (train, valid, test), `genre`.

In some copies `jazz.00054.wav` holds no music: it becomes a failure, as any file that is broken.
"""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.matching import stem
from audioflow.registry import Settings

FOLDERS = ("genres", "genres_original")
_EXPECTED = "genres/<genre>/*.wav (or .au) and {train,valid,test}_filtered.txt"


class GtzanSettings(Settings):
    """root: folder or url with genres/. filtered: by the lists; false: all files, with no split."""

    root: str = Field(min_length=1)
    filtered: bool = True


class GtzanReader:
    """Clips of GTZAN."""

    Settings = GtzanSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: gtzan\n"
        "  root: gtzan\n"
        "  splits: {column: split, train: [train], val: [valid], test: [test]}",
        get=(
            "kaggle datasets download andradaolteanu/gtzan-dataset-music-genre-classification",
            "unzip gtzan-dataset-music-genre-classification.zip && mv Data gtzan && cd gtzan",
            "for part in train valid test; do curl -LO https://raw.githubusercontent.com/"
            "jordipons/sklearn-audio-transfer-learning/master/data/index/GTZAN/${part}_filtered.txt;"
            " done",
        ),
        home="https://www.tensorflow.org/datasets/catalog/gtzan",
        licence="none stated: excerpts of published music, for research",
        size="about 1.3 GB",
    )

    def __init__(self, settings: GtzanSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of the lists, or per file. Raises `InputError` where there is no genre,
        no list, or no file of them."""
        tree = Tree.at(resolve(self.settings.root), _EXPECTED)
        names = [
            name for name in FOLDERS if any(path.startswith(f"{name}/") for path in tree.files)
        ]
        if not names:
            raise InputError(f"{tree.url} has no folder genres; expected {_EXPECTED}")
        folder = names[0]
        if self.settings.filtered:
            return tree.some(_listed(tree, folder), "*_filtered.txt")
        paths = [file.relative for file in tree.media if file.relative.startswith(f"{folder}/")]
        return tree.some((_clip(tree, folder, path, "", "") for path in paths), folder)


def _listed(tree: Tree, folder: str) -> list[Clip]:
    by_stem = {
        path.rpartition(".")[0]: path for path in tree.files if path.startswith(f"{folder}/")
    }
    clips = []
    for split in ("train", "valid", "test"):
        for line in tree.lines(f"{split}_filtered.txt", ["path"], delimiter="\t", header=False):
            path = f"{folder}/{line.text('path')}"
            if path.count("/") != 2:
                raise InputError(
                    f"{line.place}: {line.cells['path']!r} is no path like blues/blues.00029.wav"
                )
            if path not in tree.files:
                path = by_stem.get(path.rpartition(".")[0], path)
            clips.append(_clip(tree, folder, path, split, line.place))
    return clips


def _clip(tree: Tree, folder: str, path: str, split: str, place: str) -> Clip:
    _, genre, name = path.split("/", 2)
    columns = {"genre": genre} | ({"split": split} if split else {})
    return tree.clip(path, [genre], place, columns, clip_id=f"{genre}/{stem(name)}")
