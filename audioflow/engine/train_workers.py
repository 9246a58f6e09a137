"""What runs on the workers of the job `train`: the loop of Ray Train, and a fold as a task."""

import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray.train
import torch
from ray.train.torch import prepare_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from audioflow.engine.train_data import TrainTask, clip_sets
from audioflow.heads import HEADS
from audioflow.training import (
    ClipSet,
    EpochRecord,
    FitState,
    Workers,
    fit,
    normalisation,
)

STATE = "state.json"
BEST = "best.safetensors"
MODEL = "model.safetensors"
OPTIMIZER = "optimizer.pt"
RESULT = "result.json"
HEAD_WEIGHTS = "head.safetensors"


def head_module(task: TrainTask) -> nn.Module:
    """A fresh head for this task; equal for an equal seed."""
    torch.manual_seed(task.section.train.seed)
    choice = task.section.head
    module: nn.Module = HEADS.build(choice.name, choice.options).build(
        task.width, len(task.classes)
    )
    return module


@dataclass(frozen=True)
class Prepared:
    """What a task trains on: normalised clips, and what normalised them."""

    train: ClipSet
    val: ClipSet
    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, task: TrainTask) -> "Prepared":
        sets = clip_sets(task)
        mean, std = normalisation(sets["train"].vectors)
        train, val = (_normalised(sets[split], mean, std) for split in ("train", "val"))
        return cls(train, val, mean, std)

    def result(self, state: FitState) -> dict[str, Any]:
        """The trained head: its weights with the normalisation, and how it went."""
        return {
            "weights": bundle_weights(state.best, self.mean, self.std),
            "records": [asdict(record) for record in state.records],
            "best_epoch": state.best_epoch,
            "clips": {"train": len(self.train), "val": len(self.val)},
        }


def bundle_weights(best: dict[str, Tensor], mean: Tensor, std: Tensor) -> dict[str, Tensor]:
    """The tensors of a head bundle."""
    head = {f"head.{name}": value for name, value in best.items()}
    return head | {"normalise.mean": mean, "normalise.std": std}


def _normalised(clips: ClipSet, mean: Tensor, std: Tensor) -> ClipSet:
    vectors = (torch.from_numpy(clips.vectors) - mean) / std
    return ClipSet(vectors.numpy(), clips.targets)


def fit_fold(task: TrainTask, tell: Callable[[dict[str, Any]], None]) -> dict[str, Any]:
    """One fold, in a plain Ray task."""
    torch.set_num_threads(1)
    data = Prepared.of(task)

    def on_epoch(record: EpochRecord, state: FitState) -> None:
        tell({"fold": task.fold, **asdict(record)})

    module, section = head_module(task), task.section.train
    return data.result(fit(module, data.train, data.val, section, on_epoch=on_epoch))


def train_loop(config: dict[str, Any]) -> None:
    """The loop of every Ray Train worker. All ranks report, rank 0 with a checkpoint when due."""
    task: TrainTask = config["task"]
    section = task.section.train
    context = ray.train.get_context()
    torch.set_num_threads(1)
    data = Prepared.of(task)
    workers = Workers(context.get_world_rank(), context.get_world_size(), _wrap(context))

    def on_epoch(record: EpochRecord, state: FitState) -> None:
        metrics: dict[str, Any] = {"epoch": record.epoch, "train_loss": record.train_loss}
        metrics |= {"val_loss": record.val_loss, "lr": record.lr, **record.metrics}
        best = record.epoch == state.best_epoch and section.select != "last"
        due = best or record.epoch == section.epochs or record.epoch % 10 == 0
        if workers.rank == 0:
            config["tell"](asdict(record))
        if workers.rank != 0 or not due:
            ray.train.report(metrics)
            return
        with tempfile.TemporaryDirectory() as folder:
            save_state(Path(folder), state)
            save_result(Path(folder), data.result(state))
            ray.train.report(metrics, checkpoint=ray.train.Checkpoint.from_directory(folder))

    module = head_module(task)
    fit(
        module,
        data.train,
        data.val,
        section,
        on_epoch=on_epoch,
        workers=workers,
        resume=_resumed(),
    )


def _wrap(context: Any) -> Callable[[nn.Module], nn.Module]:
    if context.get_world_size() == 1:
        return lambda module: module
    return lambda module: prepare_model(module, move_to_device=False)


def _resumed() -> FitState | None:
    checkpoint = ray.train.get_checkpoint()
    if checkpoint is None:
        return None
    with checkpoint.as_directory() as folder:
        return load_state(Path(folder))


def save_state(folder: Path, state: FitState) -> None:
    """Write everything a training run needs to go on."""
    save_file(state.best, str(folder / BEST))
    save_file(state.model, str(folder / MODEL))
    torch.save(state.optimizer, folder / OPTIMIZER)
    records = [asdict(record) for record in state.records]
    (folder / STATE).write_text(json.dumps({"best_epoch": state.best_epoch, "records": records}))


def load_state(folder: Path) -> FitState:
    """Read what `save_state` wrote."""
    data = json.loads((folder / STATE).read_text())
    return FitState(
        model=load_file(str(folder / MODEL)),
        optimizer=torch.load(folder / OPTIMIZER, weights_only=True),
        best=load_file(str(folder / BEST)),
        best_epoch=data["best_epoch"],
        records=[EpochRecord(**record) for record in data["records"]],
    )


def save_result(folder: Path, result: dict[str, Any]) -> None:
    """Write what the driver needs of a trained head, so that it reads no vectors itself."""
    save_file(result["weights"], str(folder / HEAD_WEIGHTS))
    told = {key: value for key, value in result.items() if key != "weights"}
    (folder / RESULT).write_text(json.dumps(told))


def load_result(folder: Path) -> dict[str, Any]:
    """Read what `save_result` wrote."""
    told: dict[str, Any] = json.loads((folder / RESULT).read_text())
    return told | {"weights": load_file(str(folder / HEAD_WEIGHTS))}
