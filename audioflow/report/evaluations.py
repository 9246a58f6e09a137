"""How one system does on the clips that count: metrics, levels of chance, groups and curves.

Shapes: N clips, C classes.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.metrics import Curves, Evaluation, GroupTable, all_curves, by_group, evaluate
from audioflow.report.clips import EvalClips
from audioflow.report.data import SystemScores
from audioflow.texts import taken

_DIGITS = 5


def evaluated(system: SystemScores, clips: EvalClips, num_bootstrap: int) -> Evaluation | None:
    """All metrics; None without a clip.

    Of several labels those count as said that reach the thresholds of the calibration, or 0.5.
    """
    if not len(clips):
        return None
    return evaluate(
        clips.scores_NC,
        clips.targets,
        system.classes,
        clips.group_N,
        thresholds=None if clips.truth_NC is None else _thresholds(system),
        num_bootstrap=num_bootstrap,
    )


def _thresholds(system: SystemScores) -> list[float]:
    known = system.calibration.get("classes", {})
    found = (known.get(name, {}).get("value") for name in system.classes)
    return [0.5 if value is None else float(value) for value in found]


def chance_levels(evaluation: Evaluation) -> dict[str, float]:
    """What each metric of the summary is expected to be by guessing; NaN where that is not known.

    With several labels that is said of rankings only: how often one would guess is open.
    """
    support_C = np.array([result.support for result in evaluation.per_class])
    if not evaluation.multi_label:
        return {key: chance_level(key, support_C) for key in evaluation.summary}
    share_C = support_C[support_C > 0] / evaluation.num_clips
    known = {"roc_auc": 0.5, "map": float(np.mean(share_C)) if len(share_C) else float("nan")}
    return {key: known.get(key, float("nan")) for key in evaluation.summary}


def chance_level(metric: str, support_C: NDArray[np.int64]) -> float:
    """What a metric is expected to be when every clip gets a class drawn evenly from all C.

    `support_C` is clips per class; classes without a clip do not enter the averages. NaN for a
    metric without a known level.
    """
    num_classes = len(support_C)
    share_C = support_C[support_C > 0] / support_C.sum()
    guess = 1 / num_classes
    if metric.startswith("top_"):
        return min(1.0, int(metric[4:]) * guess)
    levels = {
        "accuracy": guess,
        "balanced_accuracy": guess,
        "macro_f1": float(np.mean(2 * share_C * guess / (share_C + guess))),
        "roc_auc": 0.5,
        "map": float(np.mean(share_C)),
    }
    return levels.get(metric, float("nan"))


def majority(clips: EvalClips) -> float:
    """The share of the most common class; NaN without a clip or for several labels."""
    if not len(clips) or clips.truth_NC is not None:
        return float("nan")
    support_C = np.bincount(clips.target_N)
    return float(support_C.max() / support_C.sum())


def group_tables(system: SystemScores, clips: EvalClips) -> tuple[GroupTable, ...]:
    """A table by the clips' group, and one by each further column.

    None where there is one value only, or where every clip has its own.
    """
    columns: dict[str, NDArray[Any]] = {"group": clips.group_N}
    for name, values in system.columns.items():
        told = taken(values, clips.row_N)
        columns[name] = np.array([one or "(none)" for one in told], object)
    return tuple(
        by_group(clips.scores_NC, clips.targets, values_N, column=name)
        for name, values_N in columns.items()
        if 1 < len(set(values_N.tolist())) < len(clips)
    )


def curves_of(system: SystemScores, clips: EvalClips) -> Curves | None:
    """The curves with five significant digits, which is more than a screen shows; None without
    a clip."""
    if not len(clips):
        return None
    found: Curves = _rounded(all_curves(clips.scores_NC, clips.targets, system.classes))
    return found


def _rounded(value: Any) -> Any:
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        return _significant(value)
    if isinstance(value, tuple):
        return tuple(_rounded(item) for item in value)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        items = {f.name: _rounded(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return dataclasses.replace(value, **items)
    return value


def _significant(values: NDArray[np.floating]) -> NDArray[np.float64]:
    found = values.astype(np.float64)
    usual = np.isfinite(found) & (found != 0)
    digits = _DIGITS - 1 - np.floor(np.log10(np.abs(found[usual])))
    scale = 10.0 ** np.minimum(digits, 300.0)
    found[usual] = np.round(found[usual] * scale) / scale
    return found
