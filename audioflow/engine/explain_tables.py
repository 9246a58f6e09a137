"""Which columns of its vector a clip's logit comes from (SHAP), from embeddings alone.

Shapes: N clips, W width of a clip's vector.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from audioflow.backbones import BACKBONES
from audioflow.division import CROSS_VALIDATED
from audioflow.engine.explain_system import ClipRow, SystemOfRun
from audioflow.errors import InputError
from audioflow.explain.logits import ClassLogit
from audioflow.explain.pictures import columns_picture
from audioflow.explain.rows import ClipExplanation
from audioflow.explain.tabular import column_names, refuse_untabular, shares
from audioflow.systems.bundle import HeadBundle

Floats = NDArray[np.float32]

BACKGROUND = 64
"""Training clips whose mean logit is what a clip's is compared with."""


class Columns:
    """Explains clips of one system."""

    def __init__(self, system: SystemOfRun, label: str | None, seed: int) -> None:
        for head in system.heads.members.values():
            refuse_untabular(head.inputs, system.name)
        self._system, self._label, self._seed = system, label, seed
        self._backgrounds: dict[str | None, Floats] = {}

    def explained(self, clip: ClipRow) -> tuple[ClipExplanation, bytes]:
        """One clip, and its picture. Raises `InputError` where it cannot be explained."""
        system, heads = self._system, self._system.heads_for(clip)
        if any(head.inputs != heads[0].inputs for head in heads):
            raise InputError(
                f"{clip.clip_id} is of no fold, and the heads of {system.name} read different "
                "things: take a clip of a fold"
            )
        logits = system.scores(clip, system.layers(clip))
        label = self._label or max(logits, key=lambda name: logits[name])
        vector_1W = _vectors(heads[0], system.rows_of([clip.clip_id]))
        fold = clip.fold if clip.fold in system.heads.members else None
        background = self._background(heads[0], fold)
        (made,) = shares(ClassLogit(heads, label), vector_1W, background, self._seed)
        found = ClipExplanation(
            clip.clip_id,
            label,
            "shap",
            clip.labels,
            fold,
            made.logit,
            made.values_W,
            baseline_logit=made.expected,
            delta=float(made.values_W.sum(dtype=np.float64)) - (made.logit - made.expected),
            columns=column_names(heads[0].inputs, self._known()),
            values=vector_1W[0].tolist(),
        )
        return found, columns_picture(found)

    def _known(self) -> Mapping[str, Sequence[str]]:
        """What the columns are, of a backbone or an import that says so."""
        told = self._system.embeddings_header.settings
        if "backbone" not in told:
            named: Mapping[str, Sequence[str]] = told.get("column_names", {})
            return named
        return getattr(BACKBONES.load(told["backbone"]), "COLUMN_NAMES", {})

    def _background(self, head: HeadBundle, fold: str | None) -> Floats:
        """Vectors of clips that the head learned from."""
        if fold not in self._backgrounds:
            learned = ("train", CROSS_VALIDATED)

            def wanted(row: Mapping[str, Any]) -> bool:
                return row["split"] in learned and (fold is None or row["fold"] != fold)

            ids = drawn(self._system, BACKGROUND, self._seed, wanted)
            if not ids:
                raise InputError(
                    f"no clip of {self._system.name} was in training: nothing to compare with"
                )
            self._backgrounds[fold] = _vectors(head, self._system.rows_of(ids))
        return self._backgrounds[fold]


def _vectors(head: HeadBundle, rows: pa.Table) -> Floats:
    """(N, W) as the head takes clips."""
    (found,) = head.inputs.read(rows).rows
    return found


def drawn(
    system: SystemOfRun, count: int, seed: int, wanted: Callable[[Mapping[str, Any]], bool]
) -> list[str]:
    """Clips that are wanted, at most `count`, drawn at random; the same for the same manifest."""
    columns = ["clip_id", "labels", "split", "fold"]
    ids = [
        row["clip_id"]
        for _, rows in system.manifest.shards(columns)
        for row in rows.to_pylist()
        if wanted(row)
    ]
    order = np.random.default_rng(seed).permutation(len(ids))[:count]
    return [ids[place] for place in order]
