"""The part of a recipe that says how a head is trained. 0 is a legal value of every rate."""

import math
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, field_validator, model_validator

from audioflow.errors import shown
from audioflow.registry import LEAST_SHARE, Gpus, Settings

MAX_SEED = 2**32 - 1

Select = Literal[
    "val_loss", "val_accuracy", "val_macro_f1", "val_map", "val_auc", "val_weighted_auc", "last"
]
_SCHEDULE_KEYS = {
    "constant": (),
    "plateau": ("factor", "patience", "min_lr"),
    "step": ("factor", "every", "milestones"),
    "cosine": ("min_lr",),
}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


Milestones = Annotated[tuple[Annotated[int, Field(ge=1)], ...], BeforeValidator(_as_tuple)]


class ScheduleSection(Settings):
    """How the learning rate changes from epoch to epoch.

    name: `plateau` is times `factor` after `patience` epochs in which what `select` names (the
    loss, for `last`) was not better; `step` is times `factor` after every `every` epochs, or after
    those in `milestones`; `cosine` goes down towards `min_lr` over all epochs. warmup_epochs: it
    rises to that of the first epoch over so many, batch by batch. factor: of `plateau` and `step`.
    patience: epochs of `plateau` without a better one. every: so many epochs of `step`. milestones:
    epochs after which `step` acts. min_lr: least rate of `plateau` and `cosine`.
    """

    name: Literal["constant", "plateau", "step", "cosine"] = "constant"
    warmup_epochs: float = Field(0.0, ge=0)
    factor: float = Field(0.1, ge=0, le=1)
    patience: int = Field(5, ge=0)
    every: int | None = Field(None, ge=1)
    milestones: Milestones | None = None
    min_lr: float = Field(0.0, ge=0)

    @model_validator(mode="after")
    def _fits(self) -> "ScheduleSection":
        usable = {"name", "warmup_epochs", *_SCHEDULE_KEYS[self.name]}
        beside = sorted(self.model_fields_set - usable)
        if beside:
            allowed = ", ".join(sorted(usable - {"name"}))
            given = ", ".join(f"{key} ({shown(getattr(self, key))})" for key in beside)
            raise ValueError(f"{given} has no use with {self.name}; allowed: {allowed}")
        if self.name == "step" and (self.every is None) == (self.milestones is None):
            given = "neither" if self.every is None else f"every ({self.every}) and milestones"
            raise ValueError(f"step needs either every or milestones, got {given}")
        return self


class SpecAugmentSection(Settings):
    """Stripes of training pictures set to their mean (Park et al., SpecAugment, Interspeech 2019).

    time_masks, mel_masks: how many stripes of frames and of bands. time_share, mel_share: the most
    that one covers of its side.
    """

    time_masks: int = Field(2, ge=0, le=100)
    time_share: float = Field(0.1, ge=0, le=1)
    mel_masks: int = Field(2, ge=0, le=100)
    mel_share: float = Field(0.1, ge=0, le=1)


def _named(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


class TrainSection(Settings):
    """How a head is trained.

    unit: what an example is: a clip, or every patch by itself with its clip's label. task: `auto`
    is `multi` (a score of its own for every class) where a clip has several labels, or one that is
    not of the split test has none. fine: train on the labels as they were before `manifest.merge`.
    drop_sources: data sets that are left out, `main` or names in `manifest.extra`.
    epochs: passes over the train clips, at most. batch_size: examples of a step. optimizer: what
    makes the steps. lr: the learning rate. momentum: of `sgd`. weight_decay: of the optimizer.
    schedule: how the rate changes. clip_norm: a longer gradient is shortened to this.
    loss: of an example. focal_gamma: of `focal` (Lin et al. 2017); 0 is cross entropy.
    label_smoothing: share of a label that is spread over all classes. class_weights: `balanced`
    weighs the loss of a class by one over its share. sampling: `balanced` draws clips so that all
    classes come equally often. mixup: alpha of its beta distribution; 0 for none. spec_augment:
    stripes of pictures are masked.
    select: what the best epoch is best in, on `val`; `last` keeps the last one, and then no fold is
    held out to select on. patience: epochs without a better one after which training ends.
    temperature: what logits are divided by before softmax: a number, or fitted on `val`. normalise:
    inputs to mean 0 and deviation 1 over the train clips; by default as is usual for the head.
    precision: of the network in training. workers: so many train one head together, with the
    gradients of one. cpus_per_worker, gpus_per_worker: what each is given; of GPUs some whole ones
    or a share of one, as `ray.accelerator` says where it is not given. ingest: whether embeddings
    are kept in memory or stream from their shards in every epoch; `auto` streams what is larger
    than memory_gb. memory_gb: most that is kept in memory. seed: of weights and order.
    """

    unit: Literal["clip", "patch"] = "clip"
    task: Literal["auto", "single", "multi"] = "auto"
    fine: bool = False
    drop_sources: list[str] = Field(default_factory=list)
    epochs: int = Field(30, ge=1, le=100_000)
    batch_size: int = Field(64, ge=1, le=1_000_000)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    lr: float = Field(1e-3, ge=0)
    momentum: float = Field(0.9, ge=0, lt=1)
    weight_decay: float = Field(1e-4, ge=0)
    schedule: Annotated[ScheduleSection, BeforeValidator(_named)] = ScheduleSection()
    clip_norm: float | None = Field(None, gt=0)
    loss: Literal["cross_entropy", "focal"] = "cross_entropy"
    focal_gamma: float = Field(2.0, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    sampling: Literal["shuffle", "balanced"] = "shuffle"
    mixup: float = Field(0.0, ge=0)
    spec_augment: SpecAugmentSection | None = None
    select: Select = "val_loss"
    patience: int | None = Field(None, ge=1)
    temperature: Literal["fit"] | float = "fit"
    normalise: bool | None = None
    precision: Literal["float32", "bfloat16"] = "float32"
    workers: int = Field(1, ge=1)
    cpus_per_worker: float = Field(0.5, ge=LEAST_SHARE)
    gpus_per_worker: Gpus | None = Field(None, ge=0)
    ingest: Literal["auto", "memory", "stream"] = "auto"
    memory_gb: float = Field(4.0, gt=0)
    seed: int = Field(0, ge=0, le=MAX_SEED)

    @property
    def gpus(self) -> float:
        """GPUs of each worker; none where nothing has been decided."""
        return self.gpus_per_worker or 0.0

    @field_validator("temperature", mode="before")
    @classmethod
    def _divides(cls, value: Any) -> Any:
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if value != "fit" and not (number and 0 < value < math.inf):
            raise ValueError(f"{shown(value)} is not allowed; allowed: fit, or a number above 0")
        return value

    @model_validator(mode="after")
    def _fits(self) -> "TrainSection":
        problems = []
        if self.ingest == "stream" and self.sampling == "balanced":
            problems.append(
                "sampling: balanced needs all clips in memory; use class_weights: balanced to "
                "stream, or ingest: memory"
            )
        if "momentum" in self.model_fields_set and self.optimizer != "sgd":
            problems.append(
                f"momentum ({self.momentum:g}) has no use with optimizer: {self.optimizer}; "
                "leave it out, or set optimizer: sgd"
            )
        if "focal_gamma" in self.model_fields_set and self.loss != "focal":
            problems.append(
                f"focal_gamma ({self.focal_gamma:g}) has no use with loss: {self.loss}; leave it "
                "out, or set loss: focal"
            )
        if self.patience is not None and self.select == "last":
            problems.append(
                f"patience ({self.patience}) has no use with select: last, which ends after all "
                "epochs; leave it out, or select something on val"
            )
        if problems:
            raise ValueError("\n".join(problems))
        return self
