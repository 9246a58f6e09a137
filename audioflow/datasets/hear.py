"""`hear`: tasks of HEAR 2021 (holistic evaluation of audio representations), as prepared there.

    tasks/esc50-v2.0.0-full/               <- root
      task_metadata.json                   task_name, embedding_type, prediction_type, split_mode
      labelvocabulary.csv                  idx,label
      train.json  valid.json  test.json    or fold00.json, fold01.json, ...
      48000/train/a.wav                    a folder per sample rate, in it one per list

A list of a task of scenes names the labels of files ({"a.wav": ["dog"]}), one of a task of
timestamps events in milliseconds ({"a.wav": [{"label": "C4", "start": 0.0, "end": 510.0}]}): every
event's span is a clip, with all labels of that very span. Columns: `split` (train, valid, test), or
`fold`.
"""

import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, ClassVar

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError
from audioflow.registry import Settings

_LIST = re.compile(r"(train|valid|test|fold\d+)\.json")
_EXPECTED = "task_metadata.json, {train,valid,test}.json or fold*.json, and 48000/<list>/*.wav"

Span = tuple[float, float] | None


class HearSettings(Settings):
    """root: folder or url of one task. sample_rate_hz: which of its folders of audio is read."""

    root: str = Field(min_length=1)
    sample_rate_hz: int = Field(48_000, ge=1000)


class HearReader:
    """Clips of a task."""

    Settings = HearSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: hear\n"
        "  root: tasks/esc50-v2.0.0-full\n"
        "  splits: {folds: fold}",
        get=(
            "curl -LO https://zenodo.org/records/5885750/files/"
            "hear2021-esc50-v2.0.0-full-48000.tar.gz",
            "tar xzf hear2021-esc50-v2.0.0-full-48000.tar.gz",
        ),
        home="https://hearbenchmark.com/hear-tasks.html",
        licence="that of the data set behind each task",
        size="ESC-50: about 1 GB",
    )

    def __init__(self, settings: HearSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per file, or per event.

        Raises `InputError` for what is no task, for labels that its vocabulary has not, and where
        none of its files is there.
        """
        tree = Tree.at(resolve(self.settings.root), _EXPECTED)
        events = _metadata(tree)["embedding_type"] == "event"
        lines = tree.lines("labelvocabulary.csv", ("label",))
        vocabulary = {line.text("label") for line in lines}
        names = [name for name in sorted(tree.files) if _LIST.fullmatch(name)]
        clips = []
        for name in names:
            part = name.removesuffix(".json")
            column = {"fold" if part.startswith("fold") else "split": part}
            for file, span, labels in _entries(tree, name, events):
                _refuse_unknown(tree, name, file, labels, vocabulary)
                path = f"{self.settings.sample_rate_hz}/{part}/{file}"
                more = {} if span is None else {"start_s": span[0], "duration_s": span[1]}
                clips.append(tree.clip(path, labels, f"{tree.url}/{name}", column, **more))
        return tree.some(clips, ", ".join(names) or "train.json")


def _metadata(tree: Tree) -> dict[str, Any]:
    found = _json(tree, "task_metadata.json")
    if found.get("embedding_type") not in ("scene", "event"):
        raise InputError(
            f"{tree.url}/task_metadata.json: embedding_type is {found.get('embedding_type')!r}; "
            "allowed: 'scene', 'event'"
        )
    return found


def _json(tree: Tree, name: str) -> dict[str, Any]:
    try:
        found = json.loads(tree.text(name))
    except ValueError as error:
        raise InputError(f"{tree.url}/{name} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{tree.url}/{name} holds {type(found).__name__}; expected an object")
    return found


def _entries(tree: Tree, name: str, events: bool) -> Iterator[tuple[str, Span, list[str]]]:
    """Files, spans in seconds (None: all of it) and labels of a list."""
    for file, told in _json(tree, name).items():
        try:
            if not events:
                yield file, None, [str(label) for label in _listed(told)]
                continue
            spans: dict[tuple[float, float], list[str]] = {}
            for event in _listed(told):
                start_s, end_s = float(event["start"]) / 1000, float(event["end"]) / 1000
                if not 0 <= start_s < end_s:
                    raise ValueError(f"{start_s:g} s to {end_s:g} s is no span")
                span = (round(start_s, 6), round(end_s - start_s, 6))
                spans.setdefault(span, []).append(str(event["label"]))
        except (TypeError, KeyError, ValueError) as error:
            kind = "events with label, start and end" if events else "a list of labels"
            raise InputError(
                f"{tree.url}/{name}: {file!r} has {told!s:.60}; expected {kind} ({error})"
            ) from error
        for span, labels in spans.items():
            yield file, span, labels


def _listed(told: Any) -> list[Any]:
    if not isinstance(told, list):
        raise TypeError(f"{type(told).__name__} is no list")
    return told


def _refuse_unknown(
    tree: Tree, name: str, file: str, labels: Sequence[str], vocabulary: set[str]
) -> None:
    unknown = [label for label in labels if label not in vocabulary]
    if unknown:
        raise InputError(
            f"{tree.url}/{name}: {file!r} has the label {unknown[0]!r}, which is not in "
            "labelvocabulary.csv"
        )
