"""What a fusion rule offers, and what it is given.

Shapes: S systems, N (or, of a block, n) clips, C classes, Q quality columns.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Protocol

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import Fault
from audioflow.registry import Settings

Float = NDArray[np.float64]
Flags = NDArray[np.bool_]
Scores = NDArray[np.floating]
Targets = NDArray[np.intp] | Flags
"""Class indices (N,), or with several labels per clip which classes it has, bool (N, C)."""

Params = dict[str, Any]


@dataclass(frozen=True)
class Block:
    """Some clips, cut out of a table in any way.

    scores: (S, n, C) in [0, 1], NaN rows where a system lacks the clip. available: bool (S, n).
    quality: (n, Q), NaN where unknown; None where no rule asks for it. folds: the manifest's
    `fold` of each clip.
    """

    scores: Scores
    available: Flags
    quality: Float | None = None
    folds: Sequence[str | None] | None = None

    def __len__(self) -> int:
        return self.available.shape[1]

    @property
    def complete(self) -> Flags:
        """Which clips all systems scored, (n,)."""
        return np.asarray(self.available.all(axis=0))

    def at(self, places: NDArray[Any]) -> "Block":
        """The clips at these places (indices or flags)."""
        folds = self.folds
        if folds is not None:
            rows = np.flatnonzero(places) if places.dtype == bool else places
            folds = [folds[row] for row in rows.tolist()]
        quality = None if self.quality is None else self.quality[places]
        return Block(self.scores[:, places], self.available[:, places], quality, folds)

    def only(self, systems: NDArray[np.intp]) -> "Block":
        """The same clips as these systems have them."""
        return replace(self, scores=self.scores[systems], available=self.available[systems])


@dataclass(frozen=True)
class FitClips:
    """Labelled clips to fit on. groups: what must not be on both sides of a cross-validation."""

    clips: Block
    targets: Targets
    groups: Sequence[str]
    clip_ids: Sequence[str]

    def __len__(self) -> int:
        return len(self.clips)

    @property
    def multi_label(self) -> bool:
        """Whether a clip may have several labels."""
        return self.targets.ndim == 2

    def at(self, places: NDArray[Any]) -> "FitClips":
        """The clips at these places (indices or flags)."""
        rows = np.flatnonzero(places) if places.dtype == bool else places
        return FitClips(
            self.clips.at(rows),
            self.targets[rows],
            [self.groups[row] for row in rows.tolist()],
            [self.clip_ids[row] for row in rows.tolist()],
        )

    def complete(self) -> "FitClips":
        """The clips that all systems scored."""
        there = self.clips.complete
        return self if there.all() else self.at(there)


@dataclass(frozen=True)
class Task:
    """What is fused. multi_label: whether classes are scored independently of each other."""

    systems: tuple[str, ...]
    classes: tuple[str, ...]
    multi_label: bool = False
    quality: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.systems) < 2:
            raise ValueError(f"systems {self.systems} are too few to fuse; expected 2 or more")


class Rule(Protocol):
    """A fusion rule, constructed from one instance of its `Settings`.

    It sees calibrated scores. `apply` treats every clip by itself: its result does not depend on
    which other clips are in the block. Clips that one system alone scored are not its business:
    they keep that system's scores. `needs_quality` says whether it looks at `Block.quality`.
    """

    Settings: ClassVar[type[Settings]]
    needs_quality: ClassVar[bool]

    def __init__(self, settings: Any) -> None: ...

    @property
    def needs_fit(self) -> bool:
        """Whether `fit` needs clips; without, it takes None."""
        ...

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """What of the settings does not go with these systems; keys as in the settings."""
        ...

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """Parameters (JSON-able), from the clips that all systems scored; there is at least one.

        It may add what a report shows: `weights` {system: w}, `curve`, `out_of_fold`.
        """
        ...

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """Fused scores (n, C) in [0, 1]; rows sum to 1 unless clips may have several labels."""
        ...
