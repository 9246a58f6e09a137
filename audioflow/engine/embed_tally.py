"""What workers say of their time, added up over a run from media."""

import time
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from audioflow.backbones.tuning import has_fast_bfloat16
from audioflow.engine.embed_crew import AtWork
from audioflow.engine.embed_pipeline import Pipeline
from audioflow.planning.verdict import Backbone, RunFacts, Verdict, verdict
from audioflow.timing import Times

_RECENT_S = 60.0


class Tally:
    """Seconds per stage of all workers together; started with the job."""

    def __init__(self, pipeline: Pipeline, items: int) -> None:
        self._pipeline, self._items = pipeline, items
        self._began = time.perf_counter()
        self._seconds: Counter[str] = Counter()
        self._recent: deque[tuple[float, Mapping[str, float]]] = deque()
        self._lately: Counter[str] = Counter()
        self.start_s = 0.0

    def add(self, times: Times) -> None:
        """Add what a finished shard took."""
        seconds = times.seconds
        self._recent.append((time.perf_counter(), seconds))
        self._lately.update(seconds)
        if not self._seconds:
            so_far = time.perf_counter() - self._began
            self.start_s = max(0.0, so_far - sum(seconds.values()))
        self._seconds.update(seconds)

    def busy(self) -> dict[str, dict[str, Any]]:
        """By backbone, the share of the last minute that its workers were at it, and on what."""
        now, pipeline = time.perf_counter(), self._pipeline
        while self._recent and self._recent[0][0] < now - _RECENT_S:
            self._lately.subtract(self._recent.popleft()[1])
        window_s = min(_RECENT_S, max(now - self._began - self.start_s, 1e-6))
        found = {}
        for one in pipeline.backbones:
            facts = _backbone(one, pipeline, self._items)
            workers = facts.actors or pipeline.workers(self._items)
            busy_s = max(0.0, self._lately[f"embed {facts.table}"])
            share = min(1.0, busy_s / (workers * window_s))
            device = "gpu" if facts.on_gpu else "cpu"
            found[facts.table] = {"share": round(share, 3), "device": device, "workers": workers}
        return found

    def verdict(self, *, lost_nodes: bool = False) -> Verdict:
        """Where the time went, at the end of the run. lost_nodes: whether any were."""
        pipeline, items = self._pipeline, self._items
        room, cores = _room(pipeline)
        facts = RunFacts(
            start_s=self.start_s,
            work_s=time.perf_counter() - self._began - self.start_s,
            items=items,
            workers=pipeline.workers(items),
            seconds=dict(self._seconds),
            backbones=[_backbone(one, pipeline, items) for one in pipeline.backbones],
            room=room,
            cores=cores,
            fast_bfloat16=has_fast_bfloat16(),
            joined=pipeline.joined,
            lost_nodes=lost_nodes,
        )
        return verdict(facts)


def _room(pipeline: Pipeline) -> tuple[int, int]:
    """For how many workers that decode and embed by themselves there is room, with their memory and
    without; 0 where decoding is a step of its own."""
    if not pipeline.own_workers:
        return 0, 0
    need = pipeline.crew.worker
    bare = replace(need, resources={"CPU": need.resources["CPU"]})
    return pipeline.machines.room(need), pipeline.machines.room(bare)


def _backbone(one: AtWork, pipeline: Pipeline, items: int) -> Backbone:
    given = one.spec.ready.given
    return Backbone(
        one.spec.table,
        getattr(given, "precision", None),
        getattr(given, "hop_s", None),
        on_gpu=one.spec.num_gpus > 0,
        actors=0 if pipeline.own_workers else min(items, pipeline.actors(one)),
    )
