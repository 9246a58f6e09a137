"""The part of a recipe that says which systems are fused, and how."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from audioflow.registry import Settings

Calibrate = Literal["auto", "temperature", "vector", "platt", "isotonic", "none"]
Missing = Literal["fallback", "drop", "fail"]

PLAIN_QUALITIES = ("coverage", "duration_s")
"""Columns of every embeddings table that tell of a clip's sound: the share of its span that was
decoded, and its length."""


class QualityChoice(Settings):
    """What is known of a clip's sound beside its scores: columns of an embeddings table.

    table: an entry of `embed.backbones`. columns: `coverage`, `duration_s`, or descriptors of that
    backbone by name; by default `coverage` and all its descriptors.
    """

    table: str = Field(min_length=1)
    columns: list[str] | None = Field(None, min_length=1)

    @field_validator("columns")
    @classmethod
    def _once(cls, columns: list[str] | None) -> list[str] | None:
        for name in columns or ():
            if (columns or []).count(name) > 1:
                raise ValueError(f"names {name!r} twice")
        return columns


class FuseSection(Settings):
    """One fused system; the rule's own settings stand beside these keys.

    systems: the names of their score tables. rule: how they are fused. fit_split: the clips on
    which rule and calibration are fitted; where everything is scored out of fold, each fold's clips
    are fused by what was fitted on the other folds. calibrate: how each system is calibrated
    before; `auto` is `temperature` where there are clips to fit it on, else `none`. missing: what
    becomes of clips that a system did not score: the others decide, the clip is dropped (a failure
    with its reason), or the job fails. quality: what the rule `gated` looks at. engine: `memory`
    joins in one process, `stream` in bounded memory on Ray; both give the same table.
    """

    model_config = ConfigDict(extra="allow")

    systems: list[str] = Field(min_length=2)
    rule: str = "weighted"
    fit_split: Literal["train", "val"] = "val"
    """Never `test`: what is reported on a clip must not have been fitted on it."""
    calibrate: Calibrate = "auto"
    missing: Missing = "fallback"
    quality: QualityChoice | None = None
    engine: Literal["auto", "memory", "stream"] = "auto"

    @property
    def options(self) -> dict[str, Any]:
        """The rule's own settings as given."""
        return dict(self.__pydantic_extra__ or {})
