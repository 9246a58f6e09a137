"""No calibration: scores as they are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from numpy.typing import ArrayLike, NDArray

from audioflow.calibration.base import Scores, checked_scores


@dataclass(frozen=True)
class Identity:
    """Scores as they are."""

    num_classes: int
    multi_label: bool
    few: tuple[int, ...] = ()
    instead: str = ""

    @classmethod
    def fit(cls, scores_NC: Scores, targets: NDArray[Any]) -> "Identity":
        return cls(scores_NC.shape[1], targets.ndim == 2)

    def apply(self, scores_NC: ArrayLike) -> Scores:
        return checked_scores(scores_NC, self.num_classes)

    def to_json(self) -> dict[str, Any]:
        return {
            "method": "none",
            "num_classes": self.num_classes,
            "multi_label": self.multi_label,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> "Identity":
        return cls(data["num_classes"], data["multi_label"])
