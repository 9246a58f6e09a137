"""The loop of every worker of Ray Train, and what passes between it and the driver."""

import json
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import get_device, prepare_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch import distributed as dist

from audioflow.engine.train_stream import StreamSource, StreamTask, streamed_sets
from audioflow.engine.train_task import TrainTask
from audioflow.engine.train_tell import Begun
from audioflow.engine.train_workers import Due, Prepared, is_last, judge_of, use_cores
from audioflow.events import EpochRecord
from audioflow.systems.network import network_for
from audioflow.training import FitState, Workers, fit

STATE = "state.json"
BEST = "best.safetensors"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.pt"
RESULT = "result.json"
HEAD_WEIGHTS = "head.safetensors"


def streaming(stream: StreamTask, workers: Workers) -> Prepared:
    """`val` in memory; `train` from its shards, in every epoch again."""
    task = stream.task
    network = network_for(task.network, task.section.train.seed)
    sets = streamed_sets(stream, workers)
    network.set_normalisation(*sets.normalisation) if len(network.normalise) else None
    source = StreamSource(stream, sets.weights, workers)
    return Prepared(task, network, source, sets.val, judge_of(task, sets.val), sets.clips)


def train_loop(config: dict[str, Any]) -> None:
    """The loop of every Ray Train worker. All ranks report, rank 0 with a checkpoint when due."""
    stream: StreamTask | None = config["stream"]
    task: TrainTask = config["task"]
    section = task.section.train
    context = ray.train.get_context()
    use_cores(section)
    workers = _workers(context)
    if stream is not None:
        data = streaming(stream, workers)
    else:
        data = Prepared.of(task, workers.rank, workers.count)
    due, resume = Due(), _resumed()
    if workers.rank == 0:
        config["tell"](Begun(task.fold, len(resume.records) if resume else 0))

    def on_epoch(record: EpochRecord, state: FitState) -> None:
        metrics: dict[str, Any] = {"epoch": record.epoch, "train_loss": record.train_loss}
        metrics |= {"val_loss": record.val_loss, "lr": record.lr, **record.metrics}
        if workers.rank != 0:
            ray.train.report(metrics)
            return
        best = record.epoch == state.best_epoch
        config["tell"]({"fold": task.fold, "best": best} | asdict(record))
        if not due.now(record, state, section):
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder), state)
            if is_last(record, state, section):
                save_result(Path(folder), data.result(state))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    fit(
        data.network,
        data.material,
        section,
        on_epoch=on_epoch,
        workers=workers,
        resume=resume,
    )


def _workers(context: Any) -> Workers:
    rank, count, device = context.get_world_rank(), context.get_world_size(), get_device()
    if count == 1:
        return Workers(device=str(device))

    def wrap(network: nn.Module) -> nn.Module:
        return prepare_model(network, move_to_device=False)

    def total(value: float) -> float:
        found = torch.tensor(value, dtype=torch.float64, device=device)
        dist.all_reduce(found)
        return float(found)

    def agree(value: Any) -> Any:
        found = [value]
        dist.broadcast_object_list(found, src=0, device=device)
        return found[0]

    return Workers(rank, count, wrap, total, agree, str(device))


def _resumed() -> FitState | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return load_state(Path(folder))


def save_state(folder: Path, state: FitState) -> None:
    """Write everything a training run needs to go on."""
    save_file(_contiguous(state.best), str(folder / BEST))
    save_file(_contiguous(state.model), str(folder / MODEL))
    torch.save(state.optimizer, folder / OPTIMIZER)
    records = [asdict(record) for record in state.records]
    (folder / STATE).write_text(json.dumps({"best_epoch": state.best_epoch, "records": records}))


def _contiguous(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach().cpu().contiguous() for name, value in tensors.items()}


def load_state(folder: Path) -> FitState:
    """Read what `save_state` wrote."""
    data = json.loads((folder / STATE).read_text())
    return FitState(
        model=load_file(str(folder / MODEL)),
        optimizer=torch.load(folder / OPTIMIZER, weights_only=True, map_location="cpu"),
        best=load_file(str(folder / BEST)),
        best_epoch=data["best_epoch"],
        records=[EpochRecord(**record) for record in data["records"]],
    )


def save_result(folder: Path, result: dict[str, Any]) -> None:
    """Write what the driver needs of a trained head, so that it reads no vectors itself."""
    save_file(_contiguous(result["weights"]), str(folder / HEAD_WEIGHTS))
    told = {key: value for key, value in result.items() if key != "weights"}
    (folder / RESULT).write_text(json.dumps(told))


def load_result(folder: Path) -> dict[str, Any]:
    """Read what `save_result` wrote."""
    told: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return told | {"weights": load_file(str(folder / HEAD_WEIGHTS))}
