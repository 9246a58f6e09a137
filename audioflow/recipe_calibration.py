"""The part of a recipe that says how scores of a system become probabilities and decisions."""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from audioflow.errors import shown
from audioflow.registry import Settings

CalibrationMethod = Literal["temperature", "vector", "platt", "isotonic", "none"]


class ThresholdsSection(Settings):
    """What the threshold of every class is for; one of the three is given.

    precision: at least this. recall: at least this. f1: the best.
    """

    precision: float | None = Field(None, gt=0, le=1)
    recall: float | None = Field(None, gt=0, le=1)
    f1: Literal["best"] | None = None

    @model_validator(mode="after")
    def _one(self) -> "ThresholdsSection":
        given = {k: getattr(self, k) for k in self.model_fields_set if getattr(self, k) is not None}
        if len(given) != 1:
            told = ", ".join(f"{key} ({shown(value)})" for key, value in sorted(given.items()))
            raise ValueError(f"needs one of precision, recall and f1, got {told or 'none'}")
        return self


def _by_method(value: Any) -> Any:
    return {"method": value} if isinstance(value, str) else value


class CalibrationSection(Settings):
    """How scores are calibrated, on `val` or out of fold; the method's name alone will do.

    method: `temperature` is one number, `vector` a weight and a bias for each class, `platt` a
    logistic curve for each class, `isotonic` any rising curve for each class, which needs many
    clips. thresholds: of the classes. keep_raw: whether score tables keep the scores before it
    beside those after it.
    """

    method: CalibrationMethod = "temperature"
    thresholds: ThresholdsSection | None = None
    keep_raw: bool = True


Calibration = Annotated[CalibrationSection, BeforeValidator(_by_method)]
