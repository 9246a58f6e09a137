"""What a report is made of: plain values that the engine reads off the tables of one run.

N = clips of a score table, C = classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audioflow.events import EpochRecord
from audioflow.report.exhibits import ClipTable, FailureGroup, PictureSet
from audioflow.report.timeline import Timeline


@dataclass(frozen=True)
class ValClass:
    """A head's results for one class on the `val` clips; `support` of them are of the class."""

    name: str
    support: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True)
class Training:
    """How one head was trained. A cross-validated system has one `Training` per fold.

    `num_parameters` is None for a head that scikit-learn fitted, which has one epoch. `temperature`
    is what its logits are divided by. `max_epochs` is how many it might have had. `classes` is
    empty where there was no clip to validate on.
    """

    epochs: tuple[EpochRecord, ...]
    best_epoch: int
    best_metric: str
    workers: int
    seconds: float
    num_parameters: int | None
    fold: str = ""
    temperature: float | None = None
    seed: int | None = None
    max_epochs: int | None = None
    classes: tuple[ValClass, ...] = ()

    @property
    def has_curve(self) -> bool:
        """Whether there are epochs to draw a line through."""
        return bool(self.epochs) and self.num_parameters is not None


@dataclass(frozen=True)
class SystemScores:
    """The score table of one system, and how the system came about.

    `kind` is "system" or "fused". `summary_line` says in a line what it is, for instance
    "acoustic -> mean -> mlp" or "weighted: audio 0.62, video 0.38 (fitted on val)". Rows of
    `clip_ids`, `uris`, `groups`, `splits`, `labels` and `scores` belong together; a clip has one
    label; `scores` is (N, C) float32 in [0, 1] in the order of `classes`. Texts of each clip may be
    columns of `audioflow.texts`: of millions of clips no list is made. Where a clip may have
    several labels or none, `label_sets` has them, and `labels` what a person reads. `columns` has
    further values per clip to compare by ("source" -> its data set); "" for none.

    A fused system also has `parts` (names of the systems it fuses), `available` (which of them
    scored each clip) and `fusion`: {"weights": {system: w}, "fit_split": "val", "curve":
    [{"weight": w of the second system, "accuracy": a, "log_loss": l}, ...]}, each key optional.

    A calibrated system has `calibration`, what its head's header says of it (method, clips, before,
    after, notes), and `raw_scores` (N, C), those before calibration, where they were kept.
    """

    name: str
    kind: str
    summary_line: str
    classes: tuple[str, ...]
    clip_ids: Sequence[str]
    uris: Sequence[str]
    groups: Sequence[str]
    splits: Sequence[str]
    labels: Sequence[str]
    scores: np.ndarray
    available: tuple[tuple[str, ...], ...] | None = None
    parts: tuple[str, ...] = ()
    training: tuple[Training, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)
    fusion: dict[str, Any] = field(default_factory=dict)
    calibration: Mapping[str, Any] = field(default_factory=dict)
    raw_scores: np.ndarray | None = None
    label_sets: tuple[tuple[str, ...], ...] | None = None
    columns: Mapping[str, Sequence[str]] = field(default_factory=dict)


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

    verdict: where the time went, in words. shares: of the workers' time, by stage. bound: what held
    it up ("decode", "network", ...). bare: its rate as a share of what the slowest backbone alone
    reaches. advice: the one setting that would change it most.
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
    bound: str = ""
    bare: float | None = None
    advice: str = ""


@dataclass(frozen=True)
class SweepParameter:
    """What a search varies under one key: one of `options`, or a number from `low` to `high`."""

    key: str
    options: tuple[Any, ...] = ()
    low: float = 0.0
    high: float = 1.0
    log: bool = False


@dataclass(frozen=True)
class SweepTrial:
    """One trial. `values` has every parameter that was active by its key; empty: as written.

    `score` is the mean of `scores`, one per place where it was judged; more is better, so that a
    loss has a minus. `state` is "finished", "stopped" (early) or "failed", with a `reason`.
    """

    number: int
    values: Mapping[str, Any]
    score: float | None
    epochs: int
    seconds: float
    state: str
    reason: str = ""
    scores: tuple[float, ...] = ()


@dataclass(frozen=True)
class Sweep:
    """One search for hyper-parameters of `system`, in the order of its trials.

    `metric` is what trials are compared by, like "val_accuracy". `mode` says how they were run.
    `best` is number and score. `importance` is (key, share of what the scores vary by), largest
    first. `written` has the settings as written by key, where they are known. `chosen` has the
    trial whose setting each fold's head got.
    """

    name: str
    system: str
    search: str
    metric: str
    mode: str
    seconds: float
    parameters: tuple[SweepParameter, ...]
    trials: tuple[SweepTrial, ...]
    best: tuple[int, float] | None = None
    default_score: float | None = None
    importance: tuple[tuple[str, float], ...] = ()
    written: Mapping[str, Any] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_loss(self) -> bool:
        """Whether scores are losses with a minus."""
        return self.metric in ("val_loss", "last")

    def shown(self, score: float) -> float:
        """A score as a person reads it: a loss without its minus."""
        return 0.0 - score if self.is_loss else score


@dataclass(frozen=True)
class ReportData:
    """Everything `build` needs about one experiment.

    `created` is an ISO time; `splits` is split -> class -> clips; `failures` may be capped, then
    `num_failures` is larger than its length; `failure_counts` is table -> error class -> clips;
    `failure_groups` has the largest groups of failures first, and may be capped too.
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
    sweeps: tuple[Sweep, ...] = ()
    failure_groups: tuple[FailureGroup, ...] = ()
    clip_tables: tuple[ClipTable, ...] = ()
    pictures: tuple[PictureSet, ...] = ()
    timeline: Timeline | None = None
