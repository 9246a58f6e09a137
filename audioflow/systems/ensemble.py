"""The heads of all folds as one: what was held out of none of them is scored by their mean.

heads/audio/
  ensemble.json     names of the members
  fold-1/ ...       a head bundle each
  calibration.json  where the recipe asks for one: see `calibration.system`
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.calibration.system import CALIBRATION, SystemCalibration
from audioflow.errors import TableError
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle
from audioflow.systems.inputs import ClipRows, InputSpec

ENSEMBLE = "ensemble.json"
ENSEMBLE_VERSION = 1

Scores = NDArray[np.float32]


def save_ensemble(folder: Folder, folds: Sequence[str]) -> dict[str, str]:
    """Write which folds' bundles belong together; the SHA-256 of the file by its name."""
    told = {"version": ENSEMBLE_VERSION, "members": [f"fold-{fold}" for fold in folds]}
    data = json.dumps(told, indent=1).encode()
    folder.write(ENSEMBLE, data)
    return {ENSEMBLE: hashlib.sha256(data).hexdigest()}


@dataclass(frozen=True)
class Heads:
    """A trained system: one head, or one per fold, by the fold's name ("" for the only one).

    calibration: what is done with its scores before they stand in a table, where there is one.
    """

    members: Mapping[str, HeadBundle]
    calibration: SystemCalibration | None = None

    @classmethod
    def load(cls, folder: Folder) -> "Heads":
        """Read a bundle, or those of an ensemble; raises `TableError` as bundles do."""
        try:
            told = json.loads(folder.read(ENSEMBLE))
        except FileNotFoundError:
            return _calibrated({"": HeadBundle.load(folder)}, folder)
        except ValueError as error:
            raise _damaged(folder, str(error)) from error
        if not isinstance(told, dict) or told.get("version") != ENSEMBLE_VERSION:
            raise _damaged(folder, f"{told!r:.80} is not of version {ENSEMBLE_VERSION}")
        names: list[str] = told.get("members", [])
        if not names:
            raise _damaged(folder, "it names no member")
        members = {n.removeprefix("fold-"): HeadBundle.load(folder / n) for n in names}
        return _calibrated(members, folder)

    @property
    def first(self) -> HeadBundle:
        """Any member: classes, backbone and vectors are those of all."""
        return next(iter(self.members.values()))

    @property
    def columns(self) -> list[str]:
        """The columns of embeddings that any member needs."""
        wanted = (name for one in self.members.values() for name in one.inputs.columns)
        return list(dict.fromkeys(wanted))

    def scores(self, rows: pa.Table, fold: str | None = None) -> tuple[list[str], Scores]:
        """Clip ids and scores (B, C), not calibrated, of rows of embeddings: by the head of a fold,
        or by the mean of all."""
        names = [fold] if fold is not None else list(self.members)
        read: list[tuple[InputSpec, ClipRows]] = []
        total: Scores | None = None
        for name in names:
            member = self.members[name]
            clips = next((clips for inputs, clips in read if inputs == member.inputs), None)
            if clips is None:
                clips = member.inputs.read(rows)
                read.append((member.inputs, clips))
            found = member.scores(clips)
            total = found if total is None else total + found
        assert total is not None
        return read[0][1].clip_ids, (total / len(names)).astype(np.float32)


def _calibrated(members: Mapping[str, HeadBundle], folder: Folder) -> Heads:
    """Heads with the calibration that stands beside them."""
    heads = Heads(members, SystemCalibration.load(folder))
    classes = heads.first.spec.classes
    if heads.calibration is not None and list(heads.calibration.classes) != classes:
        raise TableError(
            f"{folder.file(CALIBRATION)} is of the classes {list(heads.calibration.classes)}, the "
            f"heads there of {classes}; remove it and run the job train again"
        )
    return heads


def _damaged(folder: Folder, why: str) -> TableError:
    return TableError(
        f"{folder.file(ENSEMBLE)} is damaged: {why}; remove the folder and run the job train again"
    )
