"""The calibration of a trained system: the file `calibration.json` beside its heads.

heads/audio/
  calibration.json   what it was fitted on, how far off scores were before and after, and its parts

A part is a calibrator with its thresholds. The first is fitted on all clips; with cross-validation
every fold has one that never saw it, and clips of a fold are calibrated by that.

With cross-validation what was fitted on the scores of single heads acts on means over all heads for
clips of no fold, which are a little less sure than those.

Shapes: N clips, C classes.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.calibration.base import Calibrator, Float, Scores
from audioflow.calibration.fitting import from_json
from audioflow.calibration.thresholds import Threshold
from audioflow.errors import TableError
from audioflow.storage import Folder

CALIBRATION = "calibration.json"
CALIBRATION_VERSION = 1

Folds = Sequence[str | None]


@dataclass(frozen=True)
class Part:
    """A calibrator, and a threshold for each class; None where no target was given."""

    calibrator: Calibrator
    thresholds: tuple[Threshold, ...] | None

    def limits(self) -> Float:
        """The thresholds (C,), infinity for classes that have none."""
        assert self.thresholds is not None
        values = [np.inf if one.value is None else one.value for one in self.thresholds]
        return np.array(values, np.float64)


@dataclass(frozen=True)
class SystemCalibration:
    """How scores of a system are calibrated, and what is known about it.

    key: hash of the head and of the calibration's settings. target: what thresholds are for, in
    words, "" where there are none. parts and folds: see above; folds has the place in `parts` of
    each fold. fitted: clips and groups it was fitted on, how before and after were taken, both, and
    notes on what could not be done. sha256: of the file.
    """

    key: str
    method: str
    multi_label: bool
    keep_raw: bool
    classes: tuple[str, ...]
    target: str
    parts: tuple[Part, ...]
    folds: Mapping[str, int]
    fitted: Mapping[str, Any]
    sha256: str = ""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a score table gets beside its own."""
        found = ("above_threshold",) if self.target else ()
        return found + (("raw_scores",) if self.keep_raw and self.method != "none" else ())

    def thresholds(self, fold: str | None = None) -> dict[str, Threshold]:
        """The threshold of each class for clips of a fold, or of none; empty without a target."""
        found = self._part(fold).thresholds or ()
        return dict(zip(self.classes, found, strict=bool(found)))

    def apply(self, raw_NC: Scores, folds_N: Folds) -> Scores:
        """Calibrated scores (N, C) of clips with their folds, None for those that are in none."""
        found = np.empty_like(raw_NC)
        for part, mine in self._by_part(folds_N):
            found[mine] = part.calibrator.apply(raw_NC[mine])
        return found

    def above(self, scores_NC: Scores, folds_N: Folds) -> pa.ListArray:
        """The classes of each clip whose calibrated score reaches their threshold, list<string>.

        Of single labels the predicted class or none, which is to abstain.
        """
        reached_NC = np.zeros(scores_NC.shape, np.bool_)
        for part, mine in self._by_part(folds_N):
            reached_NC[mine] = scores_NC[mine].astype(np.float64) >= part.limits()
        if not self.multi_label and len(scores_NC):
            others_NC = np.arange(scores_NC.shape[1]) != scores_NC.argmax(axis=1)[:, None]
            reached_NC &= ~others_NC
        clips, classes = np.nonzero(reached_NC)
        ends = np.bincount(clips, minlength=len(scores_NC)).cumsum()
        offsets = pa.array(np.concatenate([[0], ends]), pa.int32())
        names = pa.array(self.classes, pa.string()).take(pa.array(classes))
        return pa.ListArray.from_arrays(offsets, names)

    def _part(self, fold: str | None) -> Part:
        """What never saw the clips of a fold; the first, where none of them was there to fit on."""
        return self.parts[0 if fold is None else self.folds.get(fold, 0)]

    def _by_part(self, folds_N: Folds) -> list[tuple[Part, Any]]:
        named = np.array(["" if fold is None else f"/{fold}" for fold in folds_N], np.str_)
        return [
            (self._part(name[1:] if name else None), named == name)
            for name in np.unique(named).tolist()
        ]

    def summary(self) -> dict[str, Any]:
        """What the header of the head says about it."""
        told = {"key": self.key, "sha256": self.sha256, "method": self.method}
        return told | {"target": self.target} | dict(self.fitted)

    def to_bytes(self) -> bytes:
        """The content of its file."""
        told = {
            "version": CALIBRATION_VERSION,
            "key": self.key,
            "method": self.method,
            "multi_label": self.multi_label,
            "keep_raw": self.keep_raw,
            "target": self.target,
            "classes": list(self.classes),
            "fitted": dict(self.fitted),
            "folds": dict(self.folds),
            "parts": [
                {
                    "calibrator": part.calibrator.to_json(),
                    "thresholds": part.thresholds and [asdict(one) for one in part.thresholds],
                }
                for part in self.parts
            ],
        }
        return json.dumps(told, ensure_ascii=False, allow_nan=False).encode()

    @classmethod
    def parse(cls, data: bytes) -> "SystemCalibration":
        """A calibration from its file; raises `ValueError` where that is damaged."""
        told = json.loads(data)
        if not isinstance(told, dict) or told.get("version") != CALIBRATION_VERSION:
            version = told.get("version") if isinstance(told, dict) else None
            raise ValueError(f"it has version {version}, expected {CALIBRATION_VERSION}")
        try:
            return cls(
                key=told["key"],
                method=told["method"],
                multi_label=told["multi_label"],
                keep_raw=told["keep_raw"],
                classes=tuple(told["classes"]),
                target=told["target"],
                parts=tuple(_part_of(part) for part in told["parts"]),
                folds=told["folds"],
                fitted=told["fitted"],
                sha256=hashlib.sha256(data).hexdigest(),
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it lacks something ({error!r})") from error

    @classmethod
    def load(cls, folder: Folder) -> "SystemCalibration | None":
        """The calibration of the heads in a folder, or None; raises `TableError` for a damaged."""
        try:
            return cls.parse(folder.read(CALIBRATION))
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise TableError(
                f"{folder.file(CALIBRATION)} is damaged: {error}; remove it and run the job train "
                "again"
            ) from error


def _part_of(told: Mapping[str, Any]) -> Part:
    thresholds = told["thresholds"]
    found = None
    if thresholds is not None:
        found = tuple(Threshold(**{k: _pair(v) for k, v in one.items()}) for one in thresholds)
    return Part(from_json(told["calibrator"]), found)


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
