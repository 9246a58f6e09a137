"""From what was measured of a sample to what all of a manifest takes.

Shapes: n recordings of the sample, R of the manifest, in the order of `Sample` and `Recordings`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from audioflow.planning.intervals import Interval
from audioflow.planning.sample import Floats, Recordings, Sample

WORKERS = "workers"
CONFIDENCE = 0.9
"""Of the intervals of totals."""

Where = NDArray[np.bool_]


def total(
    values: Floats, sample: Sample, recordings: Recordings, where: Where | None = None
) -> Interval:
    """The sum over all recordings (or those `where`) of what was measured, with 90 % bounds.

    A ratio estimate (Cochran 1977, chapter 6): for each suffix what was measured per clip, per
    byte or per second, whichever it follows most closely, times all clips, bytes or seconds.
    """
    kinds = np.array([stratum.kind for stratum in sample.strata])
    value, variance = 0.0, 0.0
    for kind in dict.fromkeys(kinds.tolist()):
        mine = kinds[sample.stratum] == kind
        members = kinds[sample.of_recording] == kind
        if not mine.any():
            continue
        found = [
            _ratio(values, known, sample, mine, _Sums.of(known, members, where))
            for known in _followed(recordings, members)
        ]
        best = min(found, key=lambda one: one.misfit)
        value, variance = value + best.value, variance + best.variance
    degrees = max(1, len(sample) - len(sample.strata))
    half = _student(degrees) * sqrt(variance)
    return Interval(value, max(0.0, value - half), value + half)


@dataclass(frozen=True)
class _Sums:
    """What is known of all recordings of a suffix, summed up; and of those that are asked for."""

    all: float
    asked: float

    @classmethod
    def of(cls, known: Floats, members: Where, where: Where | None) -> "_Sums":
        asked = members if where is None else members & where
        return cls(float(known[members].sum()), float(known[asked].sum()))


@dataclass(frozen=True)
class _Estimate:
    """A total, its variance, and how badly what was measured follows what is known."""

    value: float
    variance: float
    misfit: float


def _followed(recordings: Recordings, members: Where) -> list[Floats]:
    """What is known of every one of these recordings, and may tell how much it takes."""
    found = [recordings.clips.astype(np.float64)]
    for known in (recordings.size_bytes, recordings.claimed_s):
        if not np.isnan(known[members]).any() and known[members].sum() > 0:
            found.append(known)
    return found


def _ratio(values: Floats, known: Floats, sample: Sample, mine: Where, sums: _Sums) -> _Estimate:
    weights, seen = sample.weights[mine], known[sample.chosen[mine]]
    weighted = float((weights * seen).sum())
    if not weighted:
        return _Estimate(0.0, 0.0, float("inf"))
    rate = float((weights * values[mine]).sum()) / weighted
    errors = values[mine] - rate * seen
    variance = _variance(errors, sample.stratum[mine], sample)
    part = sums.asked / sums.all if sums.all else 0.0
    misfit = float((weights * errors**2).sum())
    return _Estimate(rate * sums.asked, variance * part**2, misfit)


def _variance(errors: Floats, stratum: NDArray[np.int64], sample: Sample) -> float:
    """Of a weighted sum of errors; a stratum with one recording varies as all do together."""
    together = float(np.var(errors, ddof=1)) if len(errors) > 1 else 0.0
    found = 0.0
    for number in np.unique(stratum):
        mine = errors[stratum == number]
        size, count = sample.strata[number].recordings, len(mine)
        spread = float(np.var(mine, ddof=1)) if count > 1 else together
        found += size**2 * max(0.0, 1 - count / size) * spread / count
    return found


def _student(degrees: int) -> float:
    """Student's quantile for the bounds (Abramowitz and Stegun 1964, 26.7.5)."""
    z = NormalDist().inv_cdf((1 + CONFIDENCE) / 2)
    first = (z**3 + z) / 4
    second = (5 * z**5 + 16 * z**3 + 3 * z) / 96
    third = (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384
    return z + first / degrees + second / degrees**2 + third / degrees**3


@dataclass(frozen=True)
class Cluster:
    """What the run will have, over all its machines."""

    cpus: float
    gpus: float = 0.0
    machines: int = 1


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline: what it takes of one core (or GPU), and how often it runs at once."""

    name: str
    seconds: float
    workers: int
    on_gpu: bool = False


@dataclass(frozen=True)
class Wall:
    """How long a run takes, and what holds it up.

    by: `cores` where all cores are busy, `longest` where one recording is, else the stage whose
    workers are too few, or `workers` where those do all stages. busiest: the stage that takes most,
    `share` of all core seconds.
    """

    seconds: float
    startup_s: float
    core_s: float
    by: str
    busiest: str
    share: float


Wish = tuple[int | None, float]
"""`actors` and `num_gpus` of a backbone, as in the recipe."""


def gpu_shares(
    asked: Sequence[float | None], networks: Sequence[bool], accelerator: str, gpus: float
) -> list[float]:
    """How much of a GPU an actor of each backbone gets.

    asked: `num_gpus` of the recipe, which has the last word. networks: which of them gain by a GPU;
    those share the GPUs that the others leave, each with a whole one if there are enough.
    """
    open_ones = sum(
        network and given is None for given, network in zip(asked, networks, strict=True)
    )
    left = int(gpus - sum(given or 0.0 for given in asked))
    share = 0.0
    if open_ones and accelerator != "cpu":
        share = 1 / ceil(open_ones / left) if left > 0 else float(accelerator == "gpu")
    return [
        given if given is not None else share * network
        for given, network in zip(asked, networks, strict=True)
    ]


def own_workers(wishes: Sequence[Wish], cluster: Cluster) -> int:
    """Processes of the engine that decode and embed by themselves; 0 where decoding is a step of
    its own, for a backbone that needs a GPU."""
    if any(num_gpus for _, num_gpus in wishes):
        return 0
    chosen = [actors for actors, _ in wishes if actors]
    return max(chosen) if chosen else max(1, int(cluster.cpus))


def decode_workers(cluster: Cluster, decode_cpus: float, shards: int) -> int:
    """Decode tasks that run at once; as the engine asks Ray for them."""
    return max(1, min(shards, int(cluster.cpus / min(decode_cpus, cluster.cpus) + 1e-9)))


def wall(
    stages: Sequence[Stage],
    cluster: Cluster,
    longest_s: float,
    startup_s: float,
    own_workers: int = 0,
) -> Wall:
    """Time on the clock: all core seconds over all cores, but no less than any stage takes with
    its workers, and than the longest recording takes; and the start.

    own_workers: those that do all stages by themselves, where there are such.
    """
    on_cores = [stage for stage in stages if not stage.on_gpu]
    core_s = sum(stage.seconds for stage in on_cores)
    limits = {"cores": core_s / cluster.cpus, "longest": longest_s}
    if own_workers:
        limits[WORKERS] = core_s / own_workers
    else:
        limits |= {stage.name: stage.seconds / stage.workers for stage in stages}
    by = max(limits, key=lambda name: limits[name])
    busiest = max(stages, key=lambda stage: stage.seconds)
    every_s = sum(stage.seconds for stage in stages)
    share = busiest.seconds / every_s if every_s else 0.0
    start = startup_s if every_s else 0.0
    return Wall(limits[by] + start, start, core_s, by, busiest.name, share)


@dataclass(frozen=True)
class Memory:
    """Peak memory of one machine.

    decode_limit_bytes: what decoding may take at most, where decode_bytes is what it was seen to.
    """

    decode_bytes: float
    backbones_bytes: float
    store_bytes: float
    decode_limit_bytes: float

    @property
    def expected(self) -> float:
        return self.decode_bytes + self.backbones_bytes + self.store_bytes

    @property
    def at_most(self) -> float:
        return self.decode_limit_bytes + self.backbones_bytes + self.store_bytes


def engine_actors(wish: Wish, cluster: Cluster, wishes: Sequence[Wish]) -> int:
    """Actors of a backbone that the engine starts, where each has its own.

    wishes: of all backbones, which share the GPUs evenly: all of them have to run at once.
    """
    actors, num_gpus = wish
    if actors:
        return actors
    if num_gpus:
        return max(1, int(cluster.gpus / sum(gpus for _, gpus in wishes)))
    return max(1, int(cluster.cpus / len(wishes)))
