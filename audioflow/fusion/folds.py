"""Parts of the clips for cross-validation, whole groups each, whatever the order of the clips.

Shapes: N clips.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from audioflow.fusion.base import FitClips, Flags

NUM_PARTS = 5
"""A cross-validation inside of a rule has so many parts."""


def fit_order(names: Sequence[str]) -> NDArray[np.uint64]:
    """A number for each name that depends on nothing else: those with the least are a sample."""
    digests = b"".join(hashlib.blake2b(name.encode(), digest_size=8).digest() for name in names)
    return np.frombuffer(digests, "<u8")


def sample(clips: FitClips, most_cells: int) -> FitClips:
    """The clips themselves, or as many as `most_cells` scores allow, drawn by their ids."""
    systems, count, classes = clips.clips.scores.shape
    most = max(1, most_cells // (systems * classes))
    if count <= most:
        return clips
    order = np.argsort(fit_order(clips.clip_ids), kind="stable")
    return clips.at(np.sort(order[:most]))


def parts(groups: Sequence[str], count: int = NUM_PARTS) -> list[Flags]:
    """Which clips (N,) each part has: about as many each. One part where there is one group."""
    names, group_N = np.unique(np.asarray(groups, str), return_inverse=True)
    sizes = np.bincount(group_N)
    part_of, filled = np.zeros(len(names), np.intp), np.zeros(min(count, len(names)), np.intp)
    # The largest first, each to the part with fewest clips; of equals by a hash of the name.
    for group in np.lexsort((fit_order(names.tolist()), -sizes)):
        part_of[group] = filled.argmin()
        filled[part_of[group]] += sizes[group]
    return [part_of[group_N] == part for part in range(len(filled))]


def held_out(clips: FitClips, count: int = NUM_PARTS) -> Iterator[tuple[FitClips, FitClips]]:
    """The clips of all parts but one, and those of that one. Nothing where there is one group."""
    found = parts(clips.groups, count)
    for part_N in found if len(found) > 1 else ():
        yield clips.at(~part_N), clips.at(part_N)
