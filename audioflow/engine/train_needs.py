"""What a worker needs that trains a head alone: Ray gives out no more than a node has."""

from dataclasses import replace

import torch

from audioflow.engine.resources import look
from audioflow.engine.train_save import without_weights
from audioflow.engine.train_task import TrainTask
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.recipe_train import TrainSection
from audioflow.systems.network import SystemNetwork

_WORKER_BYTES = 2**29
"""What a worker takes before it has read anything: torch and scikit-learn, mostly."""

_COPIES = 6
"""Of a network: its weights, their gradients, two moments of Adam, the best epoch's and those of a
checkpoint."""


def alone_cpus(section: TrainSection) -> float:
    """CPUs of a worker that trains a head alone. Without a GPU it takes a whole core at least:
    more workers than cores would be no faster, and each has to start and takes its memory."""
    if section.gpus_per_worker:
        return section.cpus_per_worker
    has = max((node.resources.get("CPU", 0.0) for node in look().nodes), default=1.0)
    return max(section.cpus_per_worker, min(1.0, has))


def worker_bytes(task: TrainTask, examples_bytes: int) -> int:
    """Memory for a head, without what a batch takes. Examples are there twice while they are
    joined. examples_bytes: of all of them."""
    return _WORKER_BYTES + 2 * examples_bytes + _COPIES * _network_bytes(task)


def _network_bytes(task: TrainTask) -> int:
    if is_estimator(HEADS.load(task.section.head.name)):
        return 0
    spec = replace(task.network, head=without_weights(task.network.head))
    with torch.device("meta"):
        network = SystemNetwork(spec)
    return sum(one.numel() * one.element_size() for one in network.parameters())
