"""From the labels of clips to what a fusion is fitted on.

Shapes: N clips, C classes.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from audioflow.errors import TableError
from audioflow.fusion.base import Flags, Targets


def multi_label_of(said: Mapping[str, bool | None], labels: Sequence[Sequence[str]]) -> bool:
    """Whether clips may have several labels: what the score tables say (by system, None where one
    does not), else whether any clip has more than one. Raises `TableError` where they disagree.
    """
    known = {system: one for system, one in said.items() if one is not None}
    for system, one in known.items():
        first = next(iter(known))
        if one != known[first]:
            several, single = (first, system) if known[first] else (system, first)
            raise TableError(
                f"system {several!r} scores several labels per clip and {single!r} one: "
                "train both for the same (train.task)"
            )
    return next(iter(known.values()), any(len(own) > 1 for own in labels))


def targets_of(
    labels: Sequence[Sequence[str]], classes: Sequence[str], multi_label: bool
) -> tuple[Flags, Targets]:
    """Which clips (N,) count, and the targets of those.

    Targets are class indices of clips with exactly one label that is a class or, with several
    labels, bool (n, C) of all clips; a label that is no class does not count there.
    """
    index = {name: position for position, name in enumerate(classes)}
    if multi_label:
        truth_NC = np.zeros((len(labels), len(classes)), np.bool_)
        for row, own in enumerate(labels):
            truth_NC[row, [index[name] for name in own if name in index]] = True
        return np.ones(len(labels), np.bool_), truth_NC
    places_N = np.array([index.get(own[0], -1) if len(own) == 1 else -1 for own in labels], np.intp)
    keep_N = places_N >= 0
    return keep_N, places_N[keep_N]


def labelled(
    labels: Sequence[Sequence[str]], classes: Sequence[str], multi_label: bool
) -> tuple[Flags, Targets]:
    """`targets_of` the clips to fit a fusion on; raises `TableError` where none of them counts."""
    keep_N, targets = targets_of(labels, classes, multi_label)
    if len(labels) and not keep_N.any():
        raise TableError(
            f"none of {len(labels)} clips to fit the fusion on has exactly one label that is a "
            f"class; the first has {list(labels[0])}"
        )
    return keep_N, targets
