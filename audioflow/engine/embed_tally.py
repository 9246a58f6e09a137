"""What workers say of their time, added up over a run of `embed`."""

import time
from collections import Counter
from collections.abc import Mapping

from audioflow.backbones.tuning import has_fast_bfloat16
from audioflow.engine.embed_pipeline import AtWork, Pipeline
from audioflow.planning.verdict import Backbone, RunFacts, Verdict, verdict


class Tally:
    """Seconds per stage of all workers together; started with the job."""

    def __init__(self) -> None:
        self._began = time.perf_counter()
        self._seconds: Counter[str] = Counter()
        self.start_s = 0.0

    def add(self, seconds: Mapping[str, float]) -> None:
        """Add what a finished shard took."""
        if not self._seconds:
            so_far = time.perf_counter() - self._began
            self.start_s = max(0.0, so_far - sum(seconds.values()))
        self._seconds.update(seconds)

    def verdict(self, pipeline: Pipeline, items: int) -> Verdict:
        """Where the time went, at the end of the run."""
        facts = RunFacts(
            start_s=self.start_s,
            work_s=time.perf_counter() - self._began - self.start_s,
            items=items,
            workers=pipeline.workers(items),
            seconds=dict(self._seconds),
            backbones=[_backbone(one, pipeline, items) for one in pipeline.backbones],
            fast_bfloat16=has_fast_bfloat16(),
        )
        return verdict(facts)


def _backbone(one: AtWork, pipeline: Pipeline, items: int) -> Backbone:
    given = one.spec.ready.given
    return Backbone(
        one.spec.table,
        getattr(given, "precision", None),
        getattr(given, "hop_s", None),
        on_gpu=one.choice.num_gpus > 0,
        actors=0 if pipeline.own_workers else min(items, pipeline.actors(one.choice)),
    )
