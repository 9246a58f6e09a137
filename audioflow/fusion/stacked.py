"""`stacked`: a regularised logistic regression on the log scores of all systems.

Shapes: S systems, N clips, C classes, n clips of a block.

The score of class c is read off z_c = sum over s of weight_sc x_sc + bias_c, where x is the log of
system s's score of c (less its mean over the classes; log odds, with several labels). A weight per
system and class would be too much for what most fit splits hold, and one for every pair of classes
is far too much for 600 of them. So weights are what all classes share, plus a deviation that is
held small: `C` is its variance in the sense of a ridge penalty (scikit-learn's C), chosen by
cross-validation over groups, and with a small one every class has the same weights.

- `tied`: shared weights and a bias per class: S + C numbers;
- `per_class`: weights of each class may deviate: S x C more;
- `full`: a class may look at the scores of all others too: S x C x C instead;
- `auto`: `full` up to 20 classes, else `per_class`.

Wolpert, Stacked Generalization, Neural Networks 1992.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from pydantic import ConfigDict, Field

from audioflow.errors import Fault
from audioflow.fusion.base import Block, FitClips, Params, Scores, Task
from audioflow.fusion.folds import held_out, sample
from audioflow.fusion.links import blocks
from audioflow.fusion.regression import Regression, Weights
from audioflow.registry import Settings

MOST_FULL_CLASSES = 20
MOST_LOOKS = 8_000_000
"""How often the cross-validation looks at a score: in the features `full` once for each class, else
it costs as much as 4 times."""


class StackedSettings(Settings):
    """features: which weights there are. C: the variances of deviations to choose from."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    features: Literal["auto", "tied", "per_class", "full"] = "auto"
    C: list[float] = Field([0.0001, 0.001, 0.01, 0.1, 1.0], min_length=1, max_length=10)


class Stacked:
    """Logistic regression on log scores, drawn towards weights that all classes share."""

    Settings = StackedSettings
    needs_quality = False
    needs_fit = True

    def __init__(self, settings: StackedSettings) -> None:
        self.settings = settings

    def problems(self, systems: Sequence[str]) -> list[Fault]:
        """Variances that are none."""
        return [
            Fault("C", f"{variance} is no variance", variance, "above 0")
            for variance in self.settings.C
            if variance <= 0
        ]

    def fit(self, task: Task, clips: FitClips | None) -> Params:
        """`weights`: the shared ones, which need not sum to 1; `model`: all numbers; `C`: what was
        chosen; `out_of_fold`: how good clips are that had no part in the fit (None for one group).
        """
        assert clips is not None
        model = Regression(self._features(len(task.classes)), task.multi_label)
        variance, quality = self._variance(model, clips)
        found = model.fit(clips, variance)
        return {
            "weights": dict(zip(task.systems, found.shared_S.tolist(), strict=True)),
            "model": found.to_json(),
            "features": model.features,
            "C": variance,
            "out_of_fold": quality,
        }

    def apply(self, task: Task, params: Mapping[str, Any], clips: Block) -> Scores:
        """A system that a clip lacks is taken to say what those that it has say in the mean."""
        model = Regression(params["features"], task.multi_label)
        weights = Weights.from_json(params["model"])
        fused_NC = np.empty((len(clips), len(task.classes)), np.float32)
        for rows in blocks(*fused_NC.shape):
            there_Sn1 = clips.available[:, rows, None]
            scores_SnC = np.where(there_Sn1, clips.scores[:, rows], 0)
            values_SnC = np.stack([model.link.values(scores_nC) for scores_nC in scores_SnC])
            mean_nC = np.where(there_Sn1, values_SnC, 0).sum(axis=0) / there_Sn1.sum(axis=0)
            values_SnC = np.where(there_Sn1, values_SnC, mean_nC)
            fused_NC[rows] = model.link.scores(model.mixed(weights, values_SnC))
        return fused_NC

    def _features(self, num_classes: int) -> str:
        if self.settings.features != "auto":
            return self.settings.features
        return "full" if num_classes <= MOST_FULL_CLASSES else "per_class"

    def _variance(
        self, model: Regression, clips: FitClips
    ) -> tuple[float, dict[str, float] | None]:
        """The variance with the least loss on held-out groups; the least one for one group."""
        looks = clips.clips.scores.shape[2] if model.features == "full" else 4
        pairs = list(held_out(sample(clips, MOST_LOOKS // looks)))
        variances = sorted(self.settings.C)
        if not pairs:
            return variances[0], None
        starts: list[Weights | None] = [None] * len(pairs)
        qualities = {}
        for variance in variances:
            starts = [
                model.fit(learnt, variance, start)
                for (learnt, _), start in zip(pairs, starts, strict=True)
            ]
            judged = [
                model.quality(found, held)
                for found, (_, held) in zip(starts, pairs, strict=True)
                if found is not None
            ]
            count = sum(len(held) for _, held in pairs)
            qualities[variance] = {
                name: sum(
                    quality[name] * len(held)
                    for quality, (_, held) in zip(judged, pairs, strict=True)
                )
                / count
                for name in judged[0]
            }
        best = min(variances, key=lambda variance: (qualities[variance]["log_loss"], variance))
        return best, qualities[best]
