"""Fitting the calibration of a system on clips that its heads never learned from.

Shapes: N clips, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.calibration.base import Calibrator, Scores
from audioflow.calibration.crossfit import BLOCKS, applied, blocks, fitted_without
from audioflow.calibration.fitting import fit
from audioflow.calibration.judging import judge
from audioflow.calibration.system import Part, SystemCalibration
from audioflow.calibration.thresholds import Target, find_thresholds

_FOLD_BLOCKS = 10
"""Folds are put together where there are more: a calibrator is fitted for each of these."""
_NAMED = 8


@dataclass(frozen=True)
class Material:
    """Clips to calibrate on. raw: scores of a head that never saw them. folds: each clip's fold,
    with cross-validation; else None."""

    raw_NC: Scores
    targets: NDArray[Any]
    groups_N: Sequence[str]
    folds_N: Sequence[str] | None = None

    def take(self, mine_N: NDArray[np.bool_]) -> "Material":
        """Some of the clips, from no fold."""
        groups = np.asarray(self.groups_N, object)[mine_N].tolist()
        return Material(self.raw_NC[mine_N], self.targets[mine_N], groups)


@dataclass(frozen=True)
class Wanted:
    """What a calibration is to be: its method, thresholds for a target, whether scores before it
    stay in score tables; classes in their order."""

    method: str
    target: Target | None
    keep_raw: bool
    classes: tuple[str, ...]
    multi_label: bool

    def fit(self, material: Material) -> Calibrator:
        """The calibrator that all these clips give."""
        return fit(self.method, material.raw_NC, material.targets, self.multi_label)


def fit_system(material: Material, wanted: Wanted, key: str) -> SystemCalibration:
    """Fit a calibration; what its thresholds and its results rest on is cross-fitted.

    Raises `ValueError` where there is no clip.
    """
    crossed = _Crossed.of(material, wanted)
    whole = _part(material, wanted, wanted.fit(material), crossed.scores_NC)
    parts = [whole]
    if material.folds_N is not None:
        parts += [
            _part_without(material, wanted, calibrator, crossed.blocks_N != block)
            for block, calibrator in crossed.calibrators.items()
        ]
    judged = (material.targets, wanted.multi_label)
    fitted = {
        "clips": len(material.raw_NC),
        "groups": len(set(material.groups_N)),
        "how": crossed.how,
        "before": judge(material.raw_NC, *judged),
        "after": judge(crossed.scores_NC, *judged),
        "notes": _notes(whole, wanted),
    }
    folds = material.folds_N if material.folds_N is not None and crossed.calibrators else ()
    named = zip(folds, crossed.blocks_N.tolist(), strict=False)
    return SystemCalibration(
        key,
        wanted.method,
        wanted.multi_label,
        wanted.keep_raw,
        wanted.classes,
        "" if wanted.target is None else str(wanted.target),
        tuple(parts),
        {fold: place + 1 for fold, place in sorted(set(named))},
        fitted,
    )


@dataclass(frozen=True)
class _Crossed:
    """Clips in blocks of whole groups (or folds), and each calibrated without its block; `how`."""

    how: str
    blocks_N: NDArray[np.intp]
    calibrators: Mapping[int, Calibrator]
    scores_NC: Scores

    @classmethod
    def of(cls, material: Material, wanted: Wanted) -> "_Crossed":
        places_N, unit = blocks(material.groups_N, BLOCKS), "groups"
        if material.folds_N is not None:
            places_N, unit = blocks(material.folds_N, _FOLD_BLOCKS), "folds"
        count = int(places_N.max(initial=0)) + 1
        if count < 2:
            how = "on the clips it was fitted on, which are of one group"
            return cls(how, places_N, {}, wanted.fit(material).apply(material.raw_NC))
        calibrators = fitted_without(
            wanted.method, material.raw_NC, material.targets, places_N, wanted.multi_label
        )
        how = f"cross-fitted: {unit} in {count} blocks, each calibrated by what the others gave"
        how = "as scored" if wanted.method == "none" else how
        return cls(how, places_N, calibrators, applied(calibrators, material.raw_NC, places_N))


def _part_without(
    material: Material, wanted: Wanted, calibrator: Calibrator, others_N: NDArray[np.bool_]
) -> Part:
    """What is for the clips of a block, from all others: its thresholds are cross-fitted within."""
    if wanted.target is None:
        return Part(calibrator, None)
    others = material.take(others_N)
    return _part(others, wanted, calibrator, _Crossed.of(others, wanted).scores_NC)


def _part(material: Material, wanted: Wanted, calibrator: Calibrator, crossed_NC: Scores) -> Part:
    if wanted.target is None:
        return Part(calibrator, None)
    found = find_thresholds(crossed_NC, material.targets, wanted.target, material.groups_N)
    return Part(calibrator, tuple(found))


def _notes(whole: Part, wanted: Wanted) -> list[str]:
    """What could not be done, in sentences."""
    notes = []
    calibrator = whole.calibrator
    if calibrator.few:
        names = _named([wanted.classes[place] for place in calibrator.few])
        notes.append(
            f"too few clips to fit {wanted.method} on: {names}; they get {calibrator.instead}"
        )
    missing = [
        name
        for name, one in zip(wanted.classes, whole.thresholds or (), strict=False)
        if one.value is None
    ]
    if missing:
        notes.append(f"no threshold keeps {wanted.target} for {_named(missing)}")
    return notes


def _named(names: Sequence[str]) -> str:
    shown, more = ", ".join(names[:_NAMED]), len(names) - _NAMED
    return f"{shown} and {more} more" if more > 0 else shown
