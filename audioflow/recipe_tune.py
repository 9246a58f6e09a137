"""The parts of a recipe that say how hyper-parameters are searched, and who else is told."""

from typing import Any, Literal

from pydantic import Field

from audioflow.recipe_train import MAX_SEED
from audioflow.registry import Settings

TUNED = ("head", "pooling", "train", "layer", "layers")
"""Keys of a system that a search may vary."""


class TuneSection(Settings):
    """A search over the settings of a system; its best head is a system of this entry's name.

    system: the one that is varied. space: key of the system (`train.lr`, `head.hidden`) -> what it
    may be. search: how trials are proposed; the first is the system as written, but for a grid.
    trials: how many, at most. stop_early: end poor trials after
    `grace_epochs`, and after each further `stop_factor` times as many the poorer ones again (ASHA).
    grace_epochs: every trial has so many. stop_factor: one of so many goes on.
    inner_folds: with folds, how many of the others each setting is judged on; the fold that a head
    is tested on has no part in what is chosen for it from a random search or a grid (what optuna
    proposes, and what stop_early ends, looks at the mean over all folds). max_concurrent: trials at
    once, as many as the cluster has room for where it is not given. stacked: whether small heads of
    equal shapes are trained together as one. seed: of what is proposed.
    """

    system: str
    space: dict[str, Any] = Field(min_length=1)
    search: Literal["random", "optuna", "grid"] = "random"
    trials: int = Field(40, ge=1, le=100_000)
    stop_early: bool = False
    grace_epochs: int = Field(5, ge=1)
    stop_factor: int = Field(3, ge=2)
    inner_folds: int | None = Field(None, ge=1)
    max_concurrent: int | None = Field(None, ge=1)
    stacked: Literal["auto", "never"] = "auto"
    seed: int = Field(0, ge=0, le=MAX_SEED)


LoggerName = Literal["tensorboard", "mlflow", "wandb"]


def _usual_loggers() -> list[LoggerName]:
    return ["tensorboard"]


class TrackingSection(Settings):
    """Who is told of training beside the run's own files.

    loggers: `tensorboard` writes below the head's folder; `mlflow` and `wandb` need their packages.
    project: name of the experiment there. mlflow_uri: its server or folder. wandb_mode: `offline`
    keeps runs in a local folder.
    """

    loggers: list[LoggerName] = Field(default_factory=_usual_loggers)
    project: str = Field("audioflow", min_length=1)
    mlflow_uri: str | None = Field(None, min_length=1)
    wandb_mode: Literal["online", "offline"] = "online"
