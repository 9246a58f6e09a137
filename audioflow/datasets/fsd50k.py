"""`fsd50k`: FSD50K, 51,197 sounds of Freesound with one or more of 200 classes.

    FSD50K/                               <- root
      FSD50K.dev_audio/64760.wav
      FSD50K.eval_audio/37199.wav
      FSD50K.ground_truth/
        dev.csv                           fname,labels,mids,split
        eval.csv                          fname,labels,mids
        vocabulary.csv                    number,label,mid (no header)
      FSD50K.metadata/                    optional: {dev,eval}_clips_info_FSD50K.json tell uploaders

Clips have several labels. Columns: `split` (train, val; test for the eval set) and, with the
metadata, `uploader`. The published splits keep an uploader in one of dev and eval.
"""

import json
from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.lines import Line
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.registry import Settings, nearest

_TRUTH = "FSD50K.ground_truth"


class Fsd50kSettings(Settings):
    """root: folder or url with FSD50K.ground_truth/ and the folders of audio."""

    root: str = Field(min_length=1)


class Fsd50kReader:
    """Clips of FSD50K."""

    Settings = Fsd50kSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: fsd50k\n"
        "  root: FSD50K\n"
        "  splits: {column: split, train: [train], val: [val], test: [test]}",
        get=(
            "mkdir FSD50K && cd FSD50K",
            "for part in dev_audio.zip dev_audio.z01 dev_audio.z02 dev_audio.z03 dev_audio.z04"
            " dev_audio.z05 eval_audio.zip eval_audio.z01 ground_truth.zip metadata.zip; do"
            " curl -LO https://zenodo.org/records/4060432/files/FSD50K.$part; done",
            "for set in dev eval; do zip -s 0 FSD50K.${set}_audio.zip --out $set.zip; done",
            "unzip dev.zip && unzip eval.zip && unzip FSD50K.ground_truth.zip &&"
            " unzip FSD50K.metadata.zip",
        ),
        home="https://zenodo.org/records/4060432",
        licence="CC BY 4.0; each clip CC0, CC BY, CC BY-NC or Sampling+",
        size="about 30 GB",
    )

    def __init__(self, settings: Fsd50kSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per line of both lists; raises `InputError` for a label that the vocabulary has
        not, and where there is no list or no file."""
        tree = Tree.at(
            resolve(self.settings.root), f"{_TRUTH}/*.csv and FSD50K.{{dev,eval}}_audio/*.wav"
        )
        words = ("number", "label", "mid")
        vocabulary = {
            line.text("label")
            for line in tree.lines(f"{_TRUTH}/vocabulary.csv", words, header=False)
        }
        clips = []
        for part, columns in (("dev", ["fname", "labels", "split"]), ("eval", ["fname", "labels"])):
            uploaders = _uploaders(tree, part)
            for line in tree.lines(f"{_TRUTH}/{part}.csv", columns):
                name = line.text("fname")
                told = {"split": line.text("split") if part == "dev" else "test"}
                told |= {"uploader": uploaders.get(name, "")} if uploaders else {}
                path = f"FSD50K.{part}_audio/{name}.wav"
                labels = _labels(line, vocabulary)
                clips.append(tree.clip(path, labels, line.place, told, clip_id=name))
        return tree.some(clips, f"{_TRUTH}/*.csv")


def _labels(line: Line, vocabulary: set[str]) -> list[str]:
    labels = [label.strip() for label in line.text("labels").split(",")]
    for label in labels:
        if label not in vocabulary:
            hint = nearest(label, vocabulary)
            raise InputError(
                f"{line.place}: the label {label!r} is not in vocabulary.csv"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
    return labels


def _uploaders(tree: Tree, part: str) -> dict[str, str]:
    """Uploaders by clip; empty where there is no metadata."""
    name = f"FSD50K.metadata/{part}_clips_info_FSD50K.json"
    if name not in tree.files:
        return {}
    try:
        found = json.loads(tree.text(name))
        return {str(clip): str(info["uploader"]) for clip, info in found.items()}
    except (ValueError, AttributeError, KeyError, TypeError) as error:
        raise InputError(
            f"{tree.url}/{name} does not tell uploaders by clip ({error!r}); get it again, or "
            "remove it to read without"
        ) from error
