"""The tool `explain`: from what was asked for to a table, pictures and their list. Without Ray.

explanations/<system>-<method>/
  _header.json   written last
  all.parquet    rows of `explain.rows`
  index.json     what the pictures show
  *.png
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Literal, get_args

import numpy as np
import pyarrow as pa

from audioflow.engine.explain_choice import chosen
from audioflow.engine.explain_concepts import ConceptQuestion, concept_results
from audioflow.engine.explain_media import Explainer, Part
from audioflow.engine.explain_system import SystemOfRun
from audioflow.engine.explain_tables import Columns
from audioflow.errors import InputError
from audioflow.explain.concepts import ConceptResult
from audioflow.explain.pictures import concepts_picture, mean_columns_picture, verdict
from audioflow.explain.rows import (
    INDEX,
    KIND,
    ClipExplanation,
    Picture,
    clip_rows,
    concept_rows,
)
from audioflow.storage import Folder
from audioflow.tables import Header, Table, fingerprint, package_versions

Method = Literal["integrated_gradients", "occlusion", "shap", "tcav"]
METHODS: tuple[str, ...] = get_args(Method)

Told = Callable[[int, int], None]
"""Called with how many clips are explained, and how many there are."""

_NOTES = {
    "integrated_gradients": "What each part of the spectrogram adds to the logit of the class over "
    "that of silence (red) or takes from it (blue). The parts add up to the difference.",
    "occlusion": "What the logit of the class loses (red) or gains (blue) when a part of the clip "
    "is silent.",
    "shap": "What each column of the clip's vector adds to the logit of the class over its mean "
    "for training clips (red) or takes from it (blue). The columns add up to the difference.",
    "tcav": "The share of a class's clips whose logit rises towards a concept, over several random "
    "sets. A concept that cannot be told from random sets of clips says nothing.",
}


@dataclass(frozen=True)
class Question:
    """What is to be explained: of a system, by a method, which clips.

    label: the class whose logit is explained; by default the one with the highest logit. With
    `tcav` there are no clips to choose, but concepts.
    """

    system: str
    method: Method
    clips: tuple[str, ...] = ()
    best: int = 0
    worst: int = 0
    label: str | None = None
    split: str | None = None
    part: Part = field(default_factory=Part)
    concepts: str | None = None
    layer: str | None = None
    runs: int = 30
    seed: int = 0


@dataclass(frozen=True)
class Explained:
    """What was written, and lines that tell of it."""

    folder: Folder
    pictures: Sequence[Picture]
    lines: Sequence[str]


def explain(folder: Folder, question: Question, told: Told = lambda done, total: None) -> Explained:
    """Explain, and write what was found in place of what this method told of this system before.

    Raises `InputError` where something cannot be explained, naming the clip and the reason; nothing
    is written then.
    """
    _refuse_conflicts(question)
    system = SystemOfRun.load(folder, question.system)
    if question.method == "tcav":
        rows, pictures, lines = _concepts(system, question)
    else:
        rows, pictures, lines = _clips(system, question, told)
    written = _write(system, question, rows, pictures)
    return Explained(written, pictures, lines)


def _refuse_conflicts(question: Question) -> None:
    tcav = question.method == "tcav"
    if tcav and question.concepts is None:
        raise InputError("tcav needs --concepts: a folder, or a file that names clips by concept")
    if tcav and (question.clips or question.best or question.worst):
        raise InputError("tcav is about classes: give --class, without --clip, --best or --worst")
    if not tcav and question.concepts is not None:
        raise InputError(f"--concepts is for --method tcav, not for {question.method}")


def _clips(
    system: SystemOfRun, question: Question, told: Told
) -> tuple[pa.Table, list[Picture], list[str]]:
    asked = question
    clips = chosen(system, list(asked.clips), asked.best, asked.worst, asked.label, asked.split)
    explainer: Columns | Explainer
    if asked.method == "shap":
        explainer = Columns(system, asked.label, asked.seed)
    else:
        explainer = Explainer(system, asked.method, asked.label, asked.part)
    found: list[ClipExplanation] = []
    pictures: list[Picture] = []
    for number, clip in enumerate(clips):
        one, data = explainer.explained(clip)
        found.append(one)
        file = f"{number:03d}-{_short_hash(one.clip_id)}.png"
        pictures.append(Picture(file, _caption(one), data, one.clip_id, one.label))
        told(number + 1, len(clips))
    if asked.method == "shap" and len(found) > 1:
        pictures.insert(0, _summary(system, found))
    return clip_rows(found), pictures, [picture.caption for picture in pictures]


def _summary(system: SystemOfRun, found: Sequence[ClipExplanation]) -> Picture:
    caption = f"{system.name}: the columns that matter most over {len(found)} clips"
    values = np.stack([one.attributions for one in found])
    return Picture("summary.png", caption, mean_columns_picture(found[0].columns, values, caption))


def _caption(one: ClipExplanation) -> str:
    labels = ", ".join(one.labels) or "no label"
    text = f"{one.clip_id} ({labels}) as {one.label}: logit {one.logit:.2f}"
    if one.baseline_logit is not None:
        over = "of training clips" if one.columns else "of silence"
        text += f", {one.baseline_logit:.2f} {over}"
    return text


def _concepts(system: SystemOfRun, question: Question) -> tuple[pa.Table, list[Picture], list[str]]:
    assert question.concepts is not None
    asked = ConceptQuestion(
        question.concepts, question.label, question.layer, question.runs, question.seed
    )
    results = concept_results(system, asked)
    labels = list(dict.fromkeys(one.label for one in results))
    pictures = [
        Picture(
            f"{number:03d}-{_short_hash(label)}.png",
            f"{label}: " + "; ".join(map(_finding, _of(results, label))),
            concepts_picture(results, label),
            label=label,
        )
        for number, label in enumerate(labels)
    ]
    return concept_rows(results), pictures, [picture.caption for picture in pictures]


def _of(results: Sequence[ConceptResult], label: str) -> list[ConceptResult]:
    mine = [one for one in results if one.label == label]
    return sorted(mine, key=lambda one: (not one.significant, -one.score))


def _finding(one: ConceptResult) -> str:
    return f"{one.concept} {one.score:.2f} ({verdict(one)})"


def _short_hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]


def _write(
    system: SystemOfRun, question: Question, rows: pa.Table, pictures: Sequence[Picture]
) -> Folder:
    name = f"{system.name}-{question.method}"
    table = Table(system.folder / KIND / name)
    table.folder.remove_all()
    receipt = table.commit("all", rows)
    for picture in pictures:
        table.folder.write(picture.file, picture.data)
    index = {
        "version": 1,
        "title": f"{system.name}: {question.method.replace('_', ' ')}",
        "system": system.name,
        "method": question.method,
        "note": _NOTES[question.method],
        "pictures": [picture.entry() for picture in pictures],
    }
    table.folder.write(INDEX, json.dumps(index, indent=1, ensure_ascii=False).encode())
    settings = json.loads(json.dumps(asdict(question)))
    table.finish(
        Header(
            kind=KIND,
            name=name,
            fingerprint=fingerprint(KIND, settings, system.parents(), receipt.sha256),
            parents=system.parents(),
            settings=settings,
            rows=rows.num_rows,
            failures=0,
            shards=[receipt],
            classes=system.spec.classes,
            versions=package_versions(),
        )
    )
    return table.folder
