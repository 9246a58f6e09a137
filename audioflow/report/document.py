"""report.json: every figure of the report in strict JSON. What is undefined is null."""

import dataclasses
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from audioflow.report.data import ReportData, SystemScores
from audioflow.report.excerpts import Excerpts
from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.lanes import timeline_figures
from audioflow.report.summary import summary

SCHEMA_VERSION = 1


def document(
    data: ReportData, figures: Figures, verdict: str, excerpts: Excerpts | None = None
) -> dict[str, Any]:
    """The content of report.json as plain values; sounds and pictures are in the page only."""
    pairs = zip(data.systems, figures.systems, strict=True)
    found = {
        "schema_version": SCHEMA_VERSION,
        "title": data.title,
        "verdict": verdict,
        "summary": summary(data, figures),
        "created": data.created,
        "run_dir": data.run_dir,
        "command": data.command,
        "eval_split": figures.eval_split,
        "systems": [_system(system, result) for system, result in pairs],
        "gains": figures.gains,
        "availability": figures.availability,
        "missing_costs": figures.missing_costs,
        "sweeps": data.sweeps,
        "splits": data.splits,
        "stages": data.stages,
        "timeline": timeline_figures(data.timeline),
        "num_failures": data.num_failures,
        "failure_counts": data.failure_counts,
        "failures": data.failures,
        "failure_groups": data.failure_groups,
        "clip_tables": data.clip_tables,
        "excerpts": {
            clip_id: {"seconds": excerpt.seconds, "note": excerpt.note}
            for clip_id, excerpt in (excerpts or {}).items()
        },
        "pictures": [
            {"title": one.title, "note": one.note, "captions": [p.caption for p in one.pictures]}
            for one in data.pictures
        ],
        "fingerprints": data.fingerprints,
        "versions": data.versions,
        "machine": data.machine,
        "recipe_yaml": data.recipe_yaml,
    }
    plain: dict[str, Any] = jsonable(found)
    return plain


def to_bytes(content: Mapping[str, Any]) -> bytes:
    """Strict JSON in UTF-8, one top-level key to a line."""
    lines = [
        f"{json.dumps(key)}: {json.dumps(value, allow_nan=False, ensure_ascii=False)}"
        for key, value in content.items()
    ]
    # A file name that is not UTF-8 reaches us with lone surrogates, which no reader would accept.
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode("utf-8", "backslashreplace")


def _system(system: SystemScores, result: SystemFigures) -> dict[str, Any]:
    evaluation = result.evaluation
    return {
        "name": system.name,
        "kind": system.kind,
        "summary_line": system.summary_line,
        "parts": system.parts,
        "classes": system.classes,
        "num_clips": evaluation.num_clips if evaluation else 0,
        "num_groups": evaluation.num_groups if evaluation else 0,
        "left_out": result.left_out,
        "metrics": evaluation.summary if evaluation else {},
        "chance": result.chance,
        "majority": result.majority,
        "per_class": evaluation.per_class if evaluation else [],
        "confusion": evaluation.confusion if evaluation and not result.multi_label else [],
        "confused": result.confused,
        "mistakes": result.mistakes,
        "uncertain": result.uncertain,
        "best": result.best,
        "order": result.order,
        "undefined": evaluation.undefined if evaluation else [],
        "details": evaluation.details if evaluation else {},
        "multi_label": result.multi_label,
        "unlabelled": evaluation.unlabelled if evaluation else 0,
        "unknown_labels": result.unknown_labels,
        "groups": result.groups,
        "curves": result.curves,
        "training": system.training,
        "fusion": system.fusion,
        "calibration": system.calibration,
        "calibrated": result.calibrated,
        "settings": system.settings,
    }


def jsonable(value: Any) -> Any:
    """Dataclasses, arrays and tuples as JSON values; NaN and infinities as None."""
    if isinstance(value, np.ndarray) and value.dtype.kind in "biu":
        return value.tolist()  # a confusion matrix of many classes: nothing in it is undefined
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    if value is None or isinstance(value, str | bool | int | float):
        return None if isinstance(value, float) and not math.isfinite(value) else value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            item.name: jsonable(getattr(value, item.name)) for item in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value, key=str) if isinstance(value, set | frozenset) else value
        return [jsonable(item) for item in items]
    return str(value)
