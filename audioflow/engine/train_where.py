"""What is known of where the time of training went."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

from audioflow.engine.train_data import estimated_bytes
from audioflow.engine.train_task import TrainTask
from audioflow.planning.verdict_jobs import Trainer


def trainer_facts(
    task: TrainTask, results: Sequence[Mapping[str, Any]], begun: float, *, streams: bool
) -> Trainer:
    """How the heads of a system were trained, one per fold. begun: when (Unix time).

    What an earlier run did of them counts as it did then. Folds may have been side by side: what
    the longest of them leaves of the time is the start.
    """
    train = task.section.train
    records = [record for result in results for record in result["records"]]
    longest = max((_seconds(result["records"]) for result in results), default=0.0)
    whole = _seconds(records)
    together = longest if len(results) == 1 else max(longest, whole / len(results))
    return Trainer(
        start_s=max(0.0, time.time() - begun - together),
        epochs_s=whole,
        ingest_s=sum(record.get("ingest_s", 0.0) for record in records),
        judge_s=sum(record.get("judge_s", 0.0) for record in records),
        place=f"systems.{task.system}.train",
        streams=streams,
        needs_gb=estimated_bytes(task) / 2**30,
        on_gpu=train.gpus_per_worker > 0,
        bfloat16=train.precision == "bfloat16",
    )


def _seconds(records: Sequence[Mapping[str, Any]]) -> float:
    return float(sum(record["seconds"] for record in records))
