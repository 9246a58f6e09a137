"""What the map of confusions draws: the counts of every system, sparse, as plain values.

C = classes.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.report.figures import Figures, SystemFigures
from audioflow.report.matrix import MAX_CLASSES

MOST_CELLS = 120_000
"""More cells than a page should carry; those with fewest clips are left out first."""


def mapped(figures: Figures) -> list[SystemFigures]:
    """The systems whose confusions are too many for a matrix with a number in every cell."""
    return [
        system
        for system in figures.evaluated
        if system.evaluation is not None
        and system.evaluation.confusion is not None
        and len(system.classes) > MAX_CLASSES
    ]


def heat_data(systems: Sequence[SystemFigures]) -> dict[str, Any]:
    """{"class_lists": [[name, ...], ...], "systems": [{"name", "classes": place of its list,
    "order", "support", "cells": [right class, predicted class, clips, ...], "left_out"}, ...]}.
    """
    lists: dict[tuple[str, ...], int] = {}
    found = []
    for system in systems:
        assert system.evaluation is not None
        confusion_CC = np.asarray(system.evaluation.confusion)
        cells, left_out = _cells(confusion_CC)
        found.append(
            {
                "name": system.name,
                "classes": lists.setdefault(system.classes, len(lists)),
                "order": list(system.order),
                "support": confusion_CC.sum(axis=1).tolist(),
                "cells": cells,
                "left_out": left_out,
            }
        )
    return {"class_lists": [list(names) for names in lists], "systems": found}


def _cells(confusion_CC: NDArray[np.int64]) -> tuple[list[int], int]:
    """Row, column and clips of the cells that have any, and how many cells were left out."""
    rows, columns = np.nonzero(confusion_CC)
    clips = confusion_CC[rows, columns]
    left_out = max(0, len(clips) - MOST_CELLS)
    if left_out:
        kept = np.sort(np.argsort(-clips, kind="stable")[:MOST_CELLS])
        rows, columns, clips = rows[kept], columns[kept], clips[kept]
    return np.stack([rows, columns, clips], axis=1).ravel().tolist(), left_out
