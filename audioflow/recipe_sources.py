"""The part of a recipe that says which further data sets are mixed into the manifest."""

from typing import Any

from pydantic import ConfigDict, Field, model_validator

from audioflow.recipe_splits import Split
from audioflow.registry import Settings

MAIN = "main"
"""What the section's own reader is called in the manifest's column `source`."""


class ClassFilter(Settings):
    """Which classes of a data set are taken, by their names there; one of the two is given.

    keep: these alone. drop: all but these.
    """

    keep: list[str] | None = Field(None, min_length=1)
    drop: list[str] | None = Field(None, min_length=1)

    @model_validator(mode="after")
    def _one(self) -> "ClassFilter":
        if (self.keep is None) == (self.drop is None):
            both = "both keep and drop" if self.keep is not None else "neither keep nor drop"
            raise ValueError(f"says {both}; allowed: one of them, a list of classes")
        return self

    @property
    def named(self) -> list[str]:
        """The classes that it names."""
        return list(self.keep or self.drop or ())

    def takes(self, label: str) -> bool:
        """Whether clips of this class are taken."""
        return label in self.keep if self.keep is not None else label not in (self.drop or ())


class ExtraSection(Settings):
    """One further data set; its reader's own settings stand beside these keys.

    reader: what reads it. classes: which of its classes are taken. rename: its name of a class ->
    ours; `classes` goes by the names before. one_label: clips that have several of the classes that
    are taken are left out. new_classes: it may bring classes that the main data set has not. limit:
    at most so many of its clips, drawn by `manifest.seed`. split: where its clips go.
    """

    model_config = ConfigDict(extra="allow")

    reader: str
    classes: ClassFilter | None = None
    rename: dict[str, str] = Field(default_factory=dict)
    one_label: bool = False
    new_classes: bool = False
    limit: int | None = Field(None, ge=1)
    split: Split = "train"

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own settings as given."""
        return dict(self.__pydantic_extra__ or {})
