"""How good an epoch is, on `val`: loss, metrics, which epoch is kept, and when to stop.

Shapes: R readouts, N clips, F classes of the head, C classes.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.events import EpochRecord
from audioflow.ranking import ranking
from audioflow.recipe_train import TrainSection
from audioflow.systems.readout import Readout

_RANKING_CELLS = 5_000_000
_RANKED = ("val_map", "val_auc", "val_weighted_auc")


@dataclass(frozen=True)
class Judge:
    """Judges logits of clips whose `targets` are known: class indices (N,), or 0 and 1 (N, C).

    readouts: their names, where there are several.
    """

    readout: Readout
    targets: NDArray[Any]
    select: str = "val_loss"
    readouts: tuple[str, ...] = ()

    def __call__(self, logits_RNF: Tensor) -> tuple[float, dict[str, float]]:
        """The mean loss in nats, and the metrics by name."""
        loss = self.readout.loss(logits_RNF, torch.from_numpy(self.targets))
        scores_NC = self.readout.scores(logits_RNF)
        metrics = self._counted(scores_NC.numpy())
        for name, one_NF in zip(self.readouts, logits_RNF, strict=bool(self.readouts)):
            of_one = self._counted(self.readout.scores(one_NF[None]).numpy())
            metrics |= {f"{key}[{name}]": value for key, value in of_one.items()}
        if self.select in _RANKED or scores_NC.numel() <= _RANKING_CELLS:
            metrics |= self._ranked(scores_NC.numpy())
        return loss, metrics

    def by_class(
        self, scores_NC: NDArray[np.float32], names: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Precision, recall, F1 and number of clips of every class; a clip with one label is said
        to be of its best class, one that may have several of those with a score of 0.5."""
        if self.readout.multi_label:
            positive, said = self.targets > 0.5, scores_NC >= 0.5
        else:
            places = np.arange(len(names))
            positive = self.targets[:, None] == places
            said = scores_NC.argmax(axis=1)[:, None] == places
        hits = (positive & said).sum(axis=0)
        found = []
        for place, name in enumerate(names):
            support, called = int(positive[:, place].sum()), int(said[:, place].sum())
            found.append(
                {
                    "name": name,
                    "support": support,
                    "precision": float(hits[place] / called) if called else 0.0,
                    "recall": float(hits[place] / support) if support else 0.0,
                    "f1": float(2 * hits[place] / (called + support)) if called + support else 0.0,
                }
            )
        return found

    def _counted(self, scores_NC: NDArray[np.float32]) -> dict[str, float]:
        if not self.readout.multi_label:
            predicted = scores_NC.argmax(axis=1)
            return {
                "val_accuracy": float((predicted == self.targets).mean()),
                "val_macro_f1": macro_f1(predicted, self.targets),
            }
        positive, said = self.targets > 0.5, scores_NC >= 0.5
        hits, either = (positive & said).sum(0), positive.sum(0) + said.sum(0)
        f1 = np.divide(2.0 * hits, either, out=np.zeros(len(hits)), where=either > 0)
        return {
            "val_accuracy": float((positive == said).all(axis=1).mean()),
            "val_macro_f1": float(f1[either > 0].mean()) if (either > 0).any() else math.nan,
        }

    def _ranked(self, scores_NC: NDArray[np.float32]) -> dict[str, float]:
        """Means over the classes that have both clips and others; NaN where there is none."""
        ones = np.ones((1, len(scores_NC)), np.uint8)
        aucs, precisions, supports = [], [], []
        for index in range(scores_NC.shape[1]):
            if self.readout.multi_label:
                positive = self.targets[:, index] > 0.5
            else:
                positive = self.targets == index
            auc, precision = ranking(positive, scores_NC[:, index], ones)
            if not math.isnan(auc[0]):
                aucs.append(float(auc[0]))
                precisions.append(float(precision[0]))
                supports.append(int(positive.sum()))
        if not aucs:
            return dict.fromkeys(_RANKED, math.nan)
        weighted = float(np.average(aucs, weights=supports))
        return {
            "val_map": float(np.mean(precisions)),
            "val_auc": float(np.mean(aucs)),
            "val_weighted_auc": weighted,
        }


def macro_f1(predicted_N: NDArray[np.int64], targets_N: NDArray[np.int64]) -> float:
    """Mean F1 over the classes that occur among the targets or the predictions."""
    size = int(max(predicted_N.max(initial=0), targets_N.max(initial=0))) + 1
    hits = np.bincount(targets_N[predicted_N == targets_N], minlength=size)
    either = np.bincount(predicted_N, minlength=size) + np.bincount(targets_N, minlength=size)
    return float((2 * hits[either > 0] / either[either > 0]).mean())


def better(record: EpochRecord, best: EpochRecord | None, section: TrainSection) -> bool:
    """Whether `record` is of a better epoch than `best` by the metric that selects."""
    return best is None or quality(record, section) > quality(best, section)


def quality(
    record: EpochRecord, section: TrainSection, *, last_is_loss: bool = False
) -> tuple[float, float]:
    """What epochs are compared by: the selected metric, then the lower loss."""
    if section.select == "last" and not last_is_loss:
        return float(record.epoch), 0.0
    loss = record.train_loss if record.val_loss is None else record.val_loss
    loss = math.inf if math.isnan(loss) else loss
    if section.select not in record.metrics:  # val_loss, or no clip to validate on
        return -loss, 0.0
    value = record.metrics[section.select]
    return (-math.inf if math.isnan(value) else value), -loss


def stopped(records: Sequence[EpochRecord], best_epoch: int, section: TrainSection) -> bool:
    """Whether training ends here, before all epochs: none was better for `patience` of them."""
    return section.patience is not None and len(records) - best_epoch >= section.patience
