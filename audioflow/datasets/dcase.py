r"""`dcase`: acoustic scenes of TUT and DCASE (2016 and later), development sets.

    TUT-acoustic-scenes-2017-development/  <- root
      audio/b020_90_100.wav
      meta.txt                             audio/b020_90_100.wav<TAB>beach[<TAB>b020]
      evaluation_setup/fold1_train.txt     audio/b020_90_100.wav<TAB>beach
      evaluation_setup/fold1_test.txt      audio/b020_90_100.wav
      evaluation_setup/fold1_evaluate.txt  audio/b020_90_100.wav<TAB>beach

From 2018 on, meta.csv and fold1_*.csv, with a header: filename<TAB>scene_label<TAB>identifier.

Columns: with several folds `fold`, the one that tests the clip (clips that none tests are left
out); with one, or with the setting `fold`, `split`: train or test of that fold (clips in neither
are left out). `location`: the third cell. Clips of one location or recording are one group.
"""

import re
from collections.abc import Iterator, Sequence
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.lines import Line
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.registry import Settings

_LIST = re.compile(r"evaluation_setup/fold(\d+)_(train|test|evaluate)\.(txt|csv)")
_RECORDING = re.compile(r"([a-z]\d+)_\d+_\d+\.")
_COLUMNS = ("filename", "scene_label", "identifier", "source_label")
_EXPECTED = "audio/*.wav, meta.txt (or meta.csv) and evaluation_setup/fold1_*"


class DcaseSettings(Settings):
    """root: folder or url with audio/ and meta.txt. fold: its lists as one split."""

    root: str = Field(min_length=1)
    fold: int | None = Field(None, ge=1)


class DcaseReader:
    """Clips of acoustic scenes."""

    Settings = DcaseSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: dcase\n"
        "  root: TUT-acoustic-scenes-2017-development\n"
        "  splits: {folds: fold}",
        get=(
            "for part in doc meta error audio.1 audio.2 audio.3 audio.4 audio.5 audio.6 audio.7"
            " audio.8 audio.9 audio.10; do curl -LO https://zenodo.org/records/400515/files/"
            "TUT-acoustic-scenes-2017-development.$part.zip; done",
            "for part in TUT-*.zip; do unzip $part; done",
        ),
        home="https://dcase.community/challenge2017/task-acoustic-scene-classification",
        licence="non-commercial research, as Tampere University says; see its EULA",
        size="2017: about 11 GB",
    )

    def __init__(self, settings: DcaseSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of meta.txt.

        Raises `InputError` where there is no list or no file, for a fold that is not there, and for
        a clip that two folds test.
        """
        tree = Tree.at(resolve(self.settings.root), _EXPECTED)
        meta = "meta.csv" if "meta.csv" in tree.files else "meta.txt"
        key, parts = _parts(tree, self.settings.fold)
        clips = []
        for line in _scenes(tree, meta):
            path = line.text("filename")
            if not parts or path in parts:
                columns = {key: parts[path]} if parts else {}
                clips.append(_clip(tree, line, path, columns))
        return tree.some(clips, meta)


def _scenes(tree: Tree, name: str) -> Iterator[Line]:
    if name.endswith(".csv"):
        return tree.lines(name, _COLUMNS[:1], delimiter="\t")
    return tree.lines(name, _COLUMNS, delimiter="\t", header=False)


def _clip(tree: Tree, line: Line, path: str, columns: dict[str, str]) -> Clip:
    location = line.cells.get("identifier", "")
    found = _RECORDING.match(path.rpartition("/")[2])
    group = location or (found.group(1) if found else "")
    return tree.clip(
        path,
        [line.text("scene_label")],
        line.place,
        {"location": location, **columns},
        group=f"location/{group}" if group else "",
    )


def _parts(tree: Tree, chosen: int | None) -> tuple[str, dict[str, str]]:
    """The column that lists of folds fill, and its values by file; none where there is no list."""
    lists: dict[int, dict[str, list[str]]] = {}
    for name in sorted(tree.files):
        if found := _LIST.fullmatch(name):
            part = "train" if found.group(2) == "train" else "test"
            lists.setdefault(int(found.group(1)), {}).setdefault(part, []).append(name)
    if chosen is not None and chosen not in lists:
        there = ", ".join(map(str, sorted(lists))) or "none"
        raise InputError(
            f"{tree.url} has no list of fold {chosen} (manifest.fold); there are {there}"
        )
    if chosen is not None or len(lists) == 1:
        fold = lists[next(iter(lists)) if chosen is None else chosen]
        return "split", {path: part for part, names in fold.items() for path in _paths(tree, names)}
    tested: dict[str, str] = {}
    for number, fold in lists.items():
        for path in _paths(tree, fold.get("test", [])):
            if tested.setdefault(path, str(number)) != str(number):
                raise InputError(
                    f"{tree.url}: {path} is tested in fold {tested[path]} and in fold {number}; "
                    "choose one by manifest.fold"
                )
    return "fold", tested


def _paths(tree: Tree, names: Sequence[str]) -> list[str]:
    """The files that lists name, each once."""
    lines = [line for name in names for line in _scenes(tree, name)]
    return list(dict.fromkeys(line.text("filename") for line in lines))
