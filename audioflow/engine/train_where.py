"""What is known of where the time of training went."""

from collections.abc import Mapping, Sequence
from typing import Any

from audioflow.engine.train_place import gains
from audioflow.engine.train_task import TrainTask
from audioflow.planning.verdict_jobs import Trainer


def trainer_facts(
    task: TrainTask,
    results: Sequence[Mapping[str, Any]],
    start_s: float,
    needs_bytes: int,
    *,
    streams: bool,
) -> Trainer:
    """How the heads of a system were trained, one per fold, which may have been side by side.

    start_s: what was none of the epochs' time, of all folds together, as their seconds are.
    needs_bytes: of the examples. What an earlier run did of them counts as it did then.
    """
    train = task.section.train
    records = [record for result in results for record in result["records"]]
    return Trainer(
        start_s=start_s,
        epochs_s=epochs_seconds(results),
        ingest_s=sum(record.get("ingest_s", 0.0) for record in records),
        judge_s=sum(record.get("judge_s", 0.0) for record in records),
        place=f"systems.{task.system}.train",
        streams=streams,
        needs_gb=needs_bytes / 2**30,
        gains=gains(task.section.head.name),
        on_gpu=train.gpus > 0,
        bfloat16=train.precision == "bfloat16",
    )


def epochs_seconds(results: Sequence[Mapping[str, Any]]) -> float:
    """What all epochs of some results took, those of an earlier run included."""
    return float(sum(record["seconds"] for result in results for record in result["records"]))
