"""Which concepts the classes of a system depend on (TCAV): where concepts come from, and the test.

Shapes: N clips, D width of a layer.
"""

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from audioflow.engine.explain_system import SystemOfRun
from audioflow.engine.explain_tables import drawn
from audioflow.errors import InputError
from audioflow.explain.concepts import ConceptResult, dependences
from audioflow.explain.logits import all_logits, refuse_estimators
from audioflow.media.spans import Span
from audioflow.neighbours.streaming import vectors_of

Floats = NDArray[np.float32]

_MOST_OF_CLASS = 100
_LEAST_OTHERS, _OTHERS_PER_CLIP = 400, 6


@dataclass(frozen=True)
class ConceptQuestion:
    """concepts: a folder with a folder of recordings per concept, a YAML or JSON file with lists of
    clip ids by concept, or a CSV file with the columns clip_id and concept. label: the class; None
    for all. layer: that the head reads; its first one if None.
    """

    concepts: str
    label: str | None = None
    layer: str | None = None
    runs: int = 30
    seed: int = 0


def concept_results(system: SystemOfRun, asked: ConceptQuestion) -> list[ConceptResult]:
    """How the classes depend on the concepts.

    Raises `InputError` where the head has no gradients, a concept cannot be read, or there are too
    few clips.
    """
    refuse_estimators(list(system.heads.members.values()), "tcav")
    classes = system.spec.classes
    if asked.label is not None and asked.label not in classes:
        raise InputError(f"{system.name} has no class {asked.label!r}; it has {', '.join(classes)}")
    layer = _layer(system, asked.layer)
    ids, concepts = _concepts(system, asked.concepts, layer)
    largest = max(map(len, concepts.values()))
    count = max(_LEAST_OTHERS, _OTHERS_PER_CLIP * largest)
    others = drawn(system, count, asked.seed, lambda row: row["clip_id"] not in ids)
    gradients = {
        label: _gradients(system, label, layer, asked.seed)
        for label in ([asked.label] if asked.label is not None else classes)
    }
    return dependences(concepts, _means(system, others, layer), gradients, asked.runs, asked.seed)


def _layer(system: SystemOfRun, layer: str | None) -> str:
    layers = list(system.spec.layers)
    if layer is not None and layer not in layers:
        raise InputError(
            f"{system.name} does not read the layer {layer!r}; it reads {', '.join(layers)}"
        )
    return layer or layers[0]


def _means(system: SystemOfRun, ids: Sequence[str], layer: str) -> Floats:
    """The mean (N, D) of each clip's vectors."""
    return vectors_of(system.rows_of(ids), layer).vectors


def _gradients(system: SystemOfRun, label: str, layer: str, seed: int) -> Floats:
    """The slope (N, D) of the class's logit at clips of it, all their vectors moving alike."""
    ids = drawn(system, _MOST_OF_CLASS, seed, lambda row: label in row["labels"])
    if not ids:
        raise InputError(f"no clip of the manifest is of the class {label!r}")
    place = system.spec.classes.index(label)
    found = []
    rows = system.rows_of(ids)
    for number, clip in enumerate(system.clips(rows["clip_id"].to_pylist())):
        layers = system.layers_in(rows.slice(number, 1))
        layers[layer].requires_grad_()
        logits_1C = all_logits(system.heads_for(clip), layers)
        (gradient,) = torch.autograd.grad(logits_1C[0, place], layers[layer])
        found.append(gradient.sum(dim=0).numpy())
    return np.stack(found)


# Concepts


def _concepts(system: SystemOfRun, place: str, layer: str) -> tuple[set[str], dict[str, Floats]]:
    """The clips of the run that are in concepts, and the embeddings of every concept."""
    path = Path(place).expanduser()
    if path.is_dir():
        return set(), dict(_heard(system, path, layer))
    named = _named(path)
    for name, ids in named.items():
        system.clips(ids)
        if not ids:
            raise InputError(f"{place}: the concept {name} has no clip")
    found = {name: _means(system, ids, layer) for name, ids in named.items()}
    return {clip_id for ids in named.values() for clip_id in ids}, found


def _heard(system: SystemOfRun, root: Path, layer: str) -> Iterator[tuple[str, Floats]]:
    folders = sorted(one for one in root.iterdir() if one.is_dir())
    if not folders:
        raise InputError(f"{root} holds no folder; expected is one of recordings per concept")
    for folder in folders:
        files = sorted(one for one in folder.iterdir() if one.is_file() and one.name[0] != ".")
        if not files:
            raise InputError(f"{folder} holds no recording")
        vectors = [
            system.listening.embedding(str(file), Span()).layers[layer].mean(axis=0)
            for file in files
        ]
        yield folder.name, np.stack(vectors)


def _named(path: Path) -> Mapping[str, list[str]]:
    """Clip ids by concept."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            return _of_csv(path, text)
        data = json.loads(text) if path.suffix == ".json" else YAML(typ="safe").load(text)
    except (OSError, ValueError, YAMLError) as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"{path} cannot be read as concepts: {why}; expected is a folder with one of "
            "recordings per concept, a YAML or JSON file with lists of clip ids by concept, or a "
            "CSV file with the columns clip_id and concept"
        ) from error
    lists = isinstance(data, dict) and data and all(isinstance(ids, list) for ids in data.values())
    if not lists:
        raise InputError(f"{path} is no mapping of concepts to lists of clip ids")
    return {str(name): [str(clip_id) for clip_id in ids] for name, ids in data.items()}


def _of_csv(path: Path, text: str) -> dict[str, list[str]]:
    rows = list(csv.DictReader(text.splitlines()))
    if not rows or not {"clip_id", "concept"} <= rows[0].keys():
        raise InputError(f"{path} needs rows with the columns clip_id and concept")
    found: dict[str, list[str]] = {}
    for row in rows:
        found.setdefault(row["concept"], []).append(row["clip_id"])
    return found
