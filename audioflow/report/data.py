"""What a report is made of: plain values that the engine reads off the tables of one run.

N = clips of a score table, C = classes.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audioflow.events import EpochRecord


@dataclass(frozen=True)
class Training:
    """How one head was trained. A cross-validated system has one `Training` per fold."""

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    best_metric: str
    workers: int
    seconds: float
    num_parameters: int
    fold: str = ""


@dataclass(frozen=True)
class SystemScores:
    """The score table of one system, and how the system came about.

    `kind` is "system" or "fused". `summary_line` says in a line what it is, for instance
    "acoustic -> mean -> mlp" or "weighted: audio 0.62, video 0.38 (fitted on val)". Rows of
    `clip_ids`, `uris`, `groups`, `splits`, `labels` and `scores` belong together; a clip has one
    label; `scores` is (N, C) float32 in [0, 1] in the order of `classes`.

    A fused system also has `parts` (names of the systems it fuses), `available` (which of them
    scored each clip) and `fusion`: {"weights": {system: w}, "fit_split": "val", "curve":
    [{"weight": w of the second system, "accuracy": a, "log_loss": l}, ...]}, each key optional.
    """

    name: str
    kind: str
    summary_line: str
    classes: tuple[str, ...]
    clip_ids: tuple[str, ...]
    uris: tuple[str, ...]
    groups: tuple[str, ...]
    splits: tuple[str, ...]
    labels: tuple[str, ...]
    scores: np.ndarray
    available: tuple[tuple[str, ...], ...] | None = None
    parts: tuple[str, ...] = ()
    training: tuple[Training, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    fusion: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class FailureRow:
    """One clip that gave no row in `table`; `error` is one of `audioflow.errors.ERROR_CLASSES`."""

    table: str
    clip_id: str
    uri: str
    stage: str
    error: str
    reason: str


@dataclass(frozen=True)
class StageRow:
    """One table that a job wrote. `resumed` counts the shards that were found already done.

    verdict: where the time went, in words. shares: of the workers' time, by stage.
    """

    job: str
    table: str
    rows: int
    failures: int
    seconds: float
    clips_per_s: float
    x_real_time: float | None
    size_bytes: int
    note: str = ""
    resumed: int = 0
    verdict: str = ""
    shares: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class ReportData:
    """Everything `build` needs about one experiment.

    `created` is an ISO time; `splits` is split -> class -> clips; `failures` may be capped, then
    `num_failures` is larger than its length; `failure_counts` is table -> error class -> clips.
    """

    title: str
    run_dir: str
    created: str
    command: str
    recipe_yaml: str
    splits: dict[str, dict[str, int]]
    stages: tuple[StageRow, ...]
    systems: tuple[SystemScores, ...]
    failures: tuple[FailureRow, ...]
    num_failures: int
    failure_counts: dict[str, dict[str, int]]
    versions: dict[str, str]
    fingerprints: dict[str, str]
    machine: dict[str, str]
