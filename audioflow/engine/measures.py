"""Measures of a running job for Prometheus, through `ray.util.metrics`.

They are made of the events that a job tells anyway, in the driver, where they are known exactly: a
shard costs some twenty additions of 5 microseconds each. What a label may say is bounded by the
recipe and the cluster: never a clip, a file or a url.

Ray puts `ray_` before the names, and `_total` behind those of counters.
"""

import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import quote

from audioflow.engine.gauges import Gauges
from audioflow.events import Event

PREFIX = "audioflow_"

JOB = "audioflow_job"
"""The label of the job: what Prometheus itself calls `job` is what it scrapes."""


@dataclass(frozen=True)
class Measure:
    """One measure; what it says is `text`. Its labels are `JOB`, `run`, and these."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    text: str
    labels: tuple[str, ...] = ()

    @property
    def exported(self) -> str:
        """Its name in Prometheus."""
        return f"ray_{PREFIX}{self.name}" + ("_total" if self.kind == "counter" else "")


MEASURES = {
    measure.name: measure
    for measure in (
        Measure("job_active", "gauge", "1 while a job is at work, then 0", ("table",)),
        Measure("clips", "counter", "clips that a shard was committed with", ("table", "node")),
        Measure("clips_left", "gauge", "clips that are still to be done", ("table",)),
        Measure("failures", "counter", "clips that failed, by error class", ("table", "error")),
        Measure("media_seconds", "counter", "media time of the clips done", ("table", "node")),
        Measure("shards", "counter", "shards committed", ("table", "node")),
        Measure("shards_left", "gauge", "shards that are still to be committed", ("table",)),
        Measure("shards_waiting", "gauge", "decoded, and waiting for a backbone", ("table",)),
        Measure("shard_seconds", "histogram", "from the start of a shard to its end", ("table",)),
        Measure(
            "stage_seconds",
            "counter",
            "busy seconds of workers by stage; backbone is empty for those that are of none",
            ("stage", "backbone", "node"),
        ),
        Measure(
            "backbone_busy_ratio",
            "gauge",
            "share of the last minute that its workers were busy",
            ("backbone", "device"),
        ),
        Measure("backbone_workers", "gauge", "workers of a backbone", ("backbone", "device")),
        Measure("patches", "counter", "patches that went through a backbone", ("backbone",)),
        Measure("batch_slots", "counter", "patches, had all batches been full", ("backbone",)),
        Measure("read_bytes", "counter", "bytes of recordings or embeddings opened", ("node",)),
        Measure("written_bytes", "counter", "bytes of the shards committed", ("node",)),
        Measure("retries", "counter", "shards given to others for a lost worker", ("table",)),
        Measure("node_changes", "counter", "nodes that joined or were lost", ("change",)),
        Measure("nodes", "gauge", "nodes of the cluster, as of the last change"),
        Measure("epochs", "counter", "epochs trained", ("table",)),
        Measure("epochs_left", "gauge", "epochs that are still to come, at most", ("table",)),
        Measure("examples", "counter", "examples that heads were trained on", ("table",)),
        Measure("train_seconds", "counter", "seconds of epochs by part", ("table", "part")),
        Measure("loss", "gauge", "of the last epoch", ("table", "fold", "split")),
        Measure("val_metric", "gauge", "of the last epoch on val", ("table", "fold", "metric")),
        Measure("trials", "counter", "trials that ended, by how", ("table", "state")),
        Measure("best_score", "gauge", "of all trials so far", ("table",)),
    )
}
"""Every measure, by its name without `audioflow_`."""

SET_EVERY_S = 5.0
"""How often gauges are set again: Ray's agent drops those that were not set for 20 s."""

SHARD_SECONDS = [0.3, 1, 3, 10, 30, 100, 300, 1000, 3000]


@dataclass(frozen=True)
class Sample:
    """A value for a measure: added to a counter, set of a gauge, observed for a histogram."""

    name: str
    value: float
    labels: Mapping[str, str]


def samples(event: Event) -> Iterator[Sample]:
    """What an event says to the measures."""
    make = _OF_KIND.get(event.kind)
    if make is not None:
        yield from make(event.data, event.name)


def _start(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    yield Sample("job_active", 1, {"table": table})
    if "shards" in data:
        yield Sample("clips_left", data["total"] - data["done"], {"table": table})
        yield Sample("shards_left", data["shards"], {"table": table})


def _ended(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    yield Sample("job_active", 0, {"table": table})


def _shard(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    place = {"table": table, "node": data["node"]}
    yield Sample("clips", data["clips"], place)
    yield Sample("shards", 1, place)
    yield Sample("media_seconds", data["media_s"], place)
    yield Sample("shard_seconds", data["wall_s"], {"table": table})
    yield Sample("written_bytes", data["size_bytes"], {"node": data["node"]})
    for name, errors in data["errors"].items():
        for error, number in errors.items():
            yield Sample("failures", number, {"table": name, "error": error})
    for stage, seconds in data["seconds"].items():
        stage, _, backbone = stage.partition(" ")  # noqa: PLW2901
        labels = {"stage": stage, "backbone": backbone, "node": data["node"]}
        yield Sample("stage_seconds", seconds, labels)
    for what, number in data["counts"].items():
        what, _, backbone = what.partition(" ")  # noqa: PLW2901
        if what == "bytes":
            yield Sample("read_bytes", number, {"node": data["node"]})
        else:
            name = {"patches": "patches", "slots": "batch_slots"}[what]
            yield Sample(name, number, {"backbone": backbone})


def _progress(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    left = "epochs_left" if "before" in data else "clips_left"
    yield Sample(left, data["total"] - data["done"], {"table": table})
    for name in ("shards_left", "shards_waiting"):
        if name in data:
            yield Sample(name, data[name], {"table": table})
    for backbone, busy in data.get("busy", {}).items():
        labels = {"backbone": backbone, "device": busy["device"]}
        yield Sample("backbone_busy_ratio", busy["share"], labels)
        yield Sample("backbone_workers", busy["workers"], labels)


def _retry(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    yield Sample("retries", 1, {"table": table})


def _node(data: Mapping[str, Any], name: str) -> Iterator[Sample]:
    yield Sample("node_changes", 1, {"change": data["what"]})
    yield Sample("nodes", data["nodes"], {})


def _epoch(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    yield Sample("epochs", 1, {"table": table})
    yield Sample("epochs_left", data["total"] - data["done"], {"table": table})
    yield Sample("examples", data["examples"], {"table": table})
    compute_s = data["seconds"] - data["ingest_s"] - data["judge_s"]
    parts = {"ingest": data["ingest_s"], "judge": data["judge_s"], "compute": compute_s}
    for part, seconds in parts.items():
        yield Sample("train_seconds", seconds, {"table": table, "part": part})
    fold = {"table": table, "fold": data["fold"] or ""}
    yield Sample("loss", data["train_loss"], fold | {"split": "train"})
    if data["val_loss"] is not None:
        yield Sample("loss", data["val_loss"], fold | {"split": "val"})
    for metric, value in data["metrics"].items():
        yield Sample("val_metric", value, fold | {"metric": metric.removeprefix("val_")})


def _trial(data: Mapping[str, Any], table: str) -> Iterator[Sample]:
    yield Sample("trials", 1, {"table": table, "state": data["state"]})
    if data["best"] is not None:
        yield Sample("best_score", data["best"]["score"], {"table": table})


_OF_KIND = {
    "start": _start,
    "shard": _shard,
    "progress": _progress,
    "retry": _retry,
    "node": _node,
    "epoch": _epoch,
    "trial": _trial,
    "done": _ended,
    "skip": _ended,
    "failed": _ended,
}


class Measures:
    """Tells Ray's agents what the events of a run say, while a Ray is there.

    From a thread of its own it sets gauges again while tables are made. Used by several threads.
    """

    def __init__(self, run: str) -> None:
        """run: the name of the run, which tells it from others on the same dashboards."""
        self._run = "".join(each if each.isascii() else quote(each) for each in run)  # for Ray
        self._kept: dict[str, Any] = {}
        self._gauges = Gauges()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()

    def __enter__(self) -> "Measures":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def hear(self, event: Event) -> None:
        """Record what an event says. Nothing is recorded where no Ray is connected."""
        if not _connected():
            return
        with self._lock:
            table = self._gauges.table(event)
            if table is None:
                return
            for sample in samples(replace(event, name=table)):
                self._record(event.job, sample)
            self._gauges.forget(event, table)
            if self._gauges.at_work and self._thread is None:
                self._stopped = threading.Event()
                self._thread = threading.Thread(
                    target=self._set_again, args=(self._stopped,), daemon=True
                )
                self._thread.start()

    def stop(self) -> None:
        """Set no gauge again, whatever is at work."""
        with self._lock:
            self._stopped.set()
            thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()

    def _set_again(self, stopped: threading.Event) -> None:
        while not stopped.wait(SET_EVERY_S):
            with self._lock:
                if stopped.is_set():
                    return
                if not self._gauges.at_work:
                    self._thread = None
                    return
                for job, name, labels, value in self._gauges.current() if _connected() else ():
                    self._metric(MEASURES[name]).set(value, self._labels(job, labels))

    def _record(self, job: str, sample: Sample) -> None:
        measure, value = MEASURES[sample.name], float(sample.value)
        labels = self._labels(job, sample.labels)
        metric = self._metric(measure)
        if measure.kind == "gauge":
            metric.set(value, labels)
            self._gauges.note(job, measure.name, sample.labels, value)
        elif measure.kind == "histogram":
            metric.observe(value, labels)
        elif value > 0:  # a counter takes no other
            metric.inc(value, labels)

    def _labels(self, job: str, more: Mapping[str, str]) -> dict[str, str]:
        return {JOB: job, "run": self._run, **more}

    def _metric(self, measure: Measure) -> Any:
        if measure.name not in self._kept:
            from ray.util import metrics

            kinds: dict[str, Any] = {"counter": metrics.Counter, "gauge": metrics.Gauge}
            labels, name = (JOB, "run", *measure.labels), PREFIX + measure.name
            if measure.kind == "histogram":
                made = metrics.Histogram(name, measure.text, SHARD_SECONDS, labels)
            else:
                made = kinds[measure.kind](name, measure.text, labels)
            self._kept[measure.name] = made
        return self._kept[measure.name]


def _connected() -> bool:
    ray = sys.modules.get("ray")
    return ray is not None and ray.is_initialized()
