"""Makes the Grafana dashboard from the measures that the engine registers.

    python -m docs.grafana      writes cluster/grafana.json

A measure without a panel, or a panel of a measure that is not there, fails here.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioflow.engine.measures import JOB, MEASURES

PAGE = Path(__file__).resolve().parent.parent / "cluster" / "grafana.json"
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_MINE = f'run=~"$run",{JOB}=~"$job"'
_RATE = "[$__rate_interval]"
_WIDTH, _HEIGHT = 24, 8
_JOB = f"{{{{{JOB}}}}}"


@dataclass(frozen=True)
class Query:
    """One expression; `{name}` stands for a measure of ours, with the labels that are chosen.

    What happens seldom is shown as it stands: a counter comes to Prometheus with its first event
    already in it, which neither `rate` nor `increase` sees.
    """

    expression: str
    legend: str

    def target(self, place: int) -> dict[str, Any]:
        """As Grafana wants it."""
        expr = re.sub(r"\{(\w+)\}", lambda found: _measure(found[1]), self.expression)
        ref = chr(ord("A") + place)
        return {"datasource": _SOURCE, "expr": expr, "legendFormat": self.legend, "refId": ref}


@dataclass(frozen=True)
class Panel:
    """One panel; `text` says what it tells and what to do. width: of 24."""

    title: str
    text: str
    queries: Sequence[Query]
    unit: str = "short"
    kind: str = "timeseries"
    width: int = 8
    least: float | None = 0
    most: float | None = None
    stacked: bool = False


def _measure(name: str) -> str:
    measure = MEASURES[name]
    exported = measure.exported + ("_bucket" if measure.kind == "histogram" else "")
    return f"{exported}{{{_MINE}}}"


def _by(name: str, *labels: str) -> str:
    return f"sum by ({', '.join(labels)}) (rate({{{name}}}{_RATE}))"


def _quantile(name: str, share: str) -> str:
    return f"histogram_quantile({share}, sum by (le, {JOB}) (rate({{{name}}}{_RATE})))"


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "How far it is",
        (
            Panel(
                "Clips per second",
                "How fast clips are finished. Falls to nothing: see shards left and failures.",
                [Query(_by("clips", JOB, "table"), "{{audioflow_job}} {{table}}")],
                "cps",
            ),
            Panel(
                "Times real time",
                "Media time finished per second.",
                [Query(_by("media_seconds", JOB, "table"), "{{audioflow_job}} {{table}}")],
                "none",
            ),
            Panel(
                "Clips left",
                "What is still to be done; of training, epochs.",
                [
                    Query(
                        "sum by (audioflow_job, table) ({clips_left})",
                        "{{audioflow_job}} {{table}}",
                    ),
                    Query("sum by (table) ({epochs_left})", "{{table}} epochs"),
                ],
            ),
            Panel(
                "Jobs at work",
                "1 while a job makes a table.",
                [
                    Query(
                        "max by (audioflow_job, table) ({job_active})",
                        "{{audioflow_job}} {{table}}",
                    )
                ],
                "none",
                width=6,
                most=1,
            ),
            Panel(
                "Time left",
                "Clips left at the rate of the last minutes.",
                [
                    Query(
                        "sum by (audioflow_job, table) ({clips_left}) / "
                        "sum by (audioflow_job, table) (rate({clips}[5m]))",
                        "{{audioflow_job}} {{table}}",
                    )
                ],
                "s",
                width=6,
            ),
            Panel(
                "Failures by error class",
                "Clips that gave no row, so far. `network` or `permission` rising: see to the "
                "store and the credentials; others: `audioflow failures RUN_DIR` says what to do.",
                [Query("sum by (table, error) ({failures})", "{{table}} {{error}}")],
                "none",
                width=12,
                stacked=True,
            ),
        ),
    ),
    (
        "Where the time goes",
        (
            Panel(
                "Busy workers by stage",
                "Worker seconds per second. The largest is what bounds the run.",
                [Query(_by("stage_seconds", "stage", "backbone"), "{{stage}} {{backbone}}")],
                "none",
                stacked=True,
            ),
            Panel(
                "Backbones busy",
                "The share of the last minute in which the workers of a backbone were at it. On a "
                "GPU low: decoding is too slow, give Ray more CPUs.",
                [
                    Query(
                        "max by (backbone, device) ({backbone_busy_ratio})",
                        "{{backbone}} on {{device}}",
                    )
                ],
                "percentunit",
                most=1,
            ),
            Panel(
                "Batch fill",
                "Patches over what full batches would have held. Low: shards are too small, raise "
                "embed.clips_per_shard.",
                [
                    Query(
                        f"{_by('patches', 'backbone')} / {_by('batch_slots', 'backbone')}",
                        "{{backbone}}",
                    )
                ],
                "percentunit",
                most=1,
            ),
            Panel(
                "Shards that wait",
                "Decoded, and waiting for a backbone (with GPUs only). Always 0: the GPU waits for "
                "decoders; always high: the backbone is the limit.",
                [
                    Query(
                        "max by (audioflow_job, table) ({shards_waiting})",
                        "{{audioflow_job}} {{table}}",
                    )
                ],
            ),
            Panel(
                "Seconds per shard",
                "From the first byte to the commit: half of the shards, and 95 of 100. Far apart: "
                "a few recordings are much longer; smaller shards even that out.",
                [
                    Query(_quantile("shard_seconds", "0.5"), f"{_JOB} half"),
                    Query(_quantile("shard_seconds", "0.95"), f"{_JOB} 95 %"),
                ],
                "s",
            ),
            Panel(
                "Workers of backbones",
                "How many processes or actors hold a backbone.",
                [
                    Query(
                        "max by (backbone, device) ({backbone_workers})",
                        "{{backbone}} on {{device}}",
                    )
                ],
            ),
            Panel(
                "Bytes per second",
                "Recordings or embeddings read, and shards written.",
                [
                    Query(_by("read_bytes", JOB), "{{audioflow_job}} read"),
                    Query(_by("written_bytes", JOB), "{{audioflow_job}} written"),
                ],
                "Bps",
                width=12,
            ),
            Panel(
                "Shards",
                "Shards committed per minute, and those left.",
                [
                    Query(
                        "60 * " + _by("shards", JOB, "table"),
                        "{{audioflow_job}} {{table}} per minute",
                    ),
                    Query(
                        "sum by (audioflow_job, table) ({shards_left})",
                        "{{audioflow_job}} {{table}} left",
                    ),
                ],
                width=12,
            ),
        ),
    ),
    (
        "Training and search",
        (
            Panel(
                "Loss",
                "Of the last epoch. `val` rising while `train` falls: it learns by heart.",
                [Query("{loss}", "{{table}} {{fold}} {{split}}")],
                "none",
            ),
            Panel(
                "Metrics on val",
                "Of the last epoch.",
                [Query("{val_metric}", "{{table}} {{fold}} {{metric}}")],
                "none",
                least=None,
            ),
            Panel(
                "Examples per second",
                "And epochs per minute.",
                [
                    Query(_by("examples", "table"), "{{table}} examples"),
                    Query("60 * " + _by("epochs", "table"), "{{table}} epochs per minute"),
                ],
                "none",
            ),
            Panel(
                "Where training's time goes",
                "`ingest`: waiting for examples; `compute`: the network; `judge`: on val.",
                [Query(_by("train_seconds", "table", "part"), "{{table}} {{part}}")],
                "none",
                stacked=True,
            ),
            Panel(
                "Trials",
                "Trials that ended, by how.",
                [Query("sum by (table, state) ({trials})", "{{table}} {{state}}")],
            ),
            Panel(
                "Best score",
                "Of all trials so far; a loss has a minus.",
                [Query("max by (table) ({best_score})", "{{table}}")],
                "none",
                least=None,
            ),
        ),
    ),
    (
        "The cluster",
        (
            Panel(
                "Nodes that came and went, shards done again",
                "So far. Lost nodes cost the shards that were at work there. Often: mostly memory, "
                "or spot instances that were taken back.",
                [
                    Query("sum by (change) ({node_changes})", "nodes {{change}}"),
                    Query("sum by (audioflow_job) ({retries})", "{{audioflow_job}} shards again"),
                    Query("max({nodes})", "nodes"),
                ],
                width=12,
            ),
            Panel(
                "CPUs of nodes",
                "In use, by node. All full is what a run without GPUs should show.",
                [Query("avg by (instance) (ray_node_cpu_utilization)", "{{instance}}")],
                "percent",
                width=12,
                most=100,
            ),
            Panel(
                "GPUs of nodes",
                "What the devices themselves report; beside it, backbones busy.",
                [
                    Query(
                        "avg by (instance, GpuIndex) (ray_node_gpus_utilization)",
                        "{{instance}} {{GpuIndex}}",
                    )
                ],
                "percent",
                width=6,
                most=100,
            ),
            Panel(
                "GPU memory",
                "In use, in megabytes.",
                [
                    Query(
                        "sum by (instance, GpuIndex) (ray_node_gram_used)",
                        "{{instance}} {{GpuIndex}}",
                    )
                ],
                "decmbytes",
                width=6,
            ),
            Panel(
                "Memory of nodes",
                "Near the whole: Ray ends workers. Fewer workers (embed.backbones.NAME.actors), or "
                "smaller shards.",
                [
                    Query(
                        "sum by (instance) (ray_node_mem_used) / "
                        "sum by (instance) (ray_node_mem_total)",
                        "{{instance}}",
                    )
                ],
                "percentunit",
                width=6,
                most=1,
            ),
            Panel(
                "Object store",
                "Bytes in it, and those that it had to put on disk. Rows wait here between "
                "decoders and backbones.",
                [
                    Query(
                        'sum by (instance) (ray_object_store_memory{Location="MMAP_SHM"})',
                        "{{instance}}",
                    ),
                    Query(
                        "sum by (instance) "
                        '(ray_object_store_memory{Location=~"MMAP_DISK|SPILLED"})',
                        "{{instance}} on disk",
                    ),
                ],
                "bytes",
                width=6,
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The dashboard, as Grafana imports it."""
    return {
        "title": "audioflow",
        "uid": "audioflow",
        "description": "Runs of audioflow on Ray; docs/observing.md says what to do.",
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "refresh": "15s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "browser",
        "tags": ["audioflow", "ray"],
        "templating": {"list": [_data_source(), _variable("run", "run"), _variable("job", JOB)]},
        "panels": list(_panels()),
    }


def _data_source() -> dict[str, Any]:
    return {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Source"}


def _variable(name: str, label: str) -> dict[str, Any]:
    """What there is of a label, all of it chosen."""
    clips = MEASURES["job_active"].exported
    return {
        "name": name,
        "label": name.capitalize(),
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": f"label_values({clips}, {label})", "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "refresh": 2,
        "current": {"selected": True, "text": "All", "value": "$__all"},
    }


def _panels() -> Iterator[dict[str, Any]]:
    number, y = 1, 0
    for title, panels in ROWS:
        place = {"h": 1, "w": _WIDTH, "x": 0, "y": y}
        row = {"id": number, "type": "row", "title": title, "gridPos": place}
        yield row | {"collapsed": False, "panels": []}
        number, y, x = number + 1, y + 1, 0
        for panel in panels:
            if x + panel.width > _WIDTH:
                x, y = 0, y + _HEIGHT
            yield _panel(panel, number, {"h": _HEIGHT, "w": panel.width, "x": x, "y": y})
            number, x = number + 1, x + panel.width
        y += _HEIGHT


def _panel(panel: Panel, number: int, place: dict[str, int]) -> dict[str, Any]:
    custom = {"fillOpacity": 40 if panel.stacked else 8, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    bounds = {"min": panel.least, "max": panel.most}
    defaults: dict[str, Any] = {"unit": panel.unit, "custom": custom}
    defaults |= {name: value for name, value in bounds.items() if value is not None}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.text,
        "datasource": _SOURCE,
        "gridPos": place,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [query.target(at) for at, query in enumerate(panel.queries)],
    }


def text() -> str:
    """The file's content."""
    return json.dumps(dashboard(), indent=1) + "\n"


if __name__ == "__main__":
    PAGE.write_text(text(), encoding="utf-8")
