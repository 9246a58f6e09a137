"""Where a head is trained: on GPUs or not, and whether the cluster has room for it."""

from audioflow.engine.resources import look, ready_for
from audioflow.engine.run import Run
from audioflow.heads import HEADS
from audioflow.planning.machines import Machines, Need
from audioflow.recipe import SystemSection

_GAINS = ("pictures", "picture_sequences")
"""What heads take that gain by a GPU: those with convolutions. To the others a GPU gives less than
its start takes, and small heads are trained many at a time on a CPU."""


def gains(head: str) -> bool:
    """Whether a head is faster on a GPU."""
    return getattr(HEADS.load(head), "takes", "") in _GAINS


def placed(run: Run, job: str, name: str, system: SystemSection, workers: int) -> SystemSection:
    """The system with the GPUs that its workers get. Nothing in a table depends on them.

    name: of the system in the recipe. workers: so many train a head together. Raises `ClusterError`
    where the cluster has no room for them.
    """
    run.session.ensure()
    train = system.train
    gpus = train.gpus_per_worker
    if gpus is None:
        gpus = _gpus(run, system, look(), workers)
        if gpus:
            text = f"trained on a GPU, as ray.accelerator ({run.recipe.ray.accelerator}) says"
            run.tell(job, "note", name, text=text)
    which = "workers" if workers > 1 else "gpus_per_worker" if gpus else "cpus_per_worker"
    takes = {"CPU": train.cpus_per_worker, "GPU": gpus}
    decided = gpus and train.gpus_per_worker is None
    key = "ray.accelerator" if decided else f"systems.{name}.train.{which}"
    need = Need(key, f"a worker of {name}", takes, count=workers)
    ready_for(run, job, [need])
    return system.model_copy(update={"train": train.model_copy(update={"gpus_per_worker": gpus})})


def _gpus(run: Run, system: SystemSection, machines: Machines, workers: int) -> float:
    """Of each worker, where the recipe leaves it open."""
    accelerator = run.recipe.ray.accelerator
    if accelerator == "cpu" or not gains(system.head.name):
        return 0.0
    # NCCL refuses two workers on one GPU: each needs one of its own.
    return 1.0 if accelerator == "gpu" or machines.real_gpus >= workers else 0.0
