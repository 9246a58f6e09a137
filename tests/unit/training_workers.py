"""What a worker of the distributed training test runs, in a process of its own."""

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from audioflow.recipe import TrainSection
from audioflow.training import ClipSet, Workers, fit


def make_model(width: int = 4, classes: int = 3) -> nn.Module:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(width, 8), nn.ReLU(), nn.Linear(8, classes))


def train_as_worker(
    rank: int, count: int, store: str, vectors: np.ndarray, targets: np.ndarray, options: dict
) -> tuple[dict[str, np.ndarray], list[float]]:
    """Train with DDP; the parameters at the end, and the validation loss of every epoch."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", store=dist.FileStore(store, count), rank=rank, world_size=count)
    clips = ClipSet(vectors, targets)
    state = fit(
        make_model(),
        clips,
        clips,
        TrainSection(**options),
        on_epoch=lambda _record, _state: None,
        workers=Workers(rank, count, DistributedDataParallel),
    )
    dist.destroy_process_group()
    parameters = {name: value.numpy() for name, value in state.model.items()}
    return parameters, [record.val_loss for record in state.records]
