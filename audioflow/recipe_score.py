"""The part of a recipe that says what is scored, and with which heads."""

from typing import Any, Literal

from pydantic import ConfigDict, Field, field_validator

from audioflow.errors import shown
from audioflow.recipe_names import folder_names
from audioflow.recipe_splits import Split
from audioflow.registry import Settings

Source = Literal["embeddings", "media"]
Variants = Literal["recorded", "mean"]


class ImportChoice(Settings):
    """One table that other programs computed: vectors, or scores.

    name: the importer, by default the key of this entry; its own settings stand beside it.
    """

    model_config = ConfigDict(extra="allow")

    name: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The importer's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class ScoreSection(Settings):
    """Which splits are scored. Cross-validated clips are all scored, out of fold, as `test` (as
    `val` where a test split was held out).

    splits: which clips. source: `embeddings`, or `media`: decoded, embedded and scored in one pass,
    and no embeddings are written. variants: scores of a clip as recorded, or the mean of those of
    the clip and all its variants (`embed.augment`). patches: whether the scores of every patch by
    itself are kept, too. heads: by name, folders of heads that another run trained. imports: by
    name, scores that other programs computed.
    """

    splits: list[Split] = Field(default=["val", "test"], min_length=1)
    source: Source = "embeddings"
    variants: Variants = "recorded"
    patches: bool = False
    heads: dict[str, str] = Field(default_factory=dict)
    imports: dict[str, ImportChoice] = Field(default_factory=dict)

    @field_validator("heads", "imports")
    @classmethod
    def _folders(cls, value: dict[str, Any]) -> dict[str, Any]:
        return folder_names(value)

    @field_validator("heads")
    @classmethod
    def _places(cls, value: dict[str, str]) -> dict[str, str]:
        empty = [name for name, place in value.items() if not place]
        if empty:
            raise ValueError(
                f"{', '.join(map(shown, empty))} has no folder; give that of the head, such as "
                "runs/demo/heads/audio"
            )
        return value
