"""The recipe: the strict YAML of one experiment, as checked settings.

`recipe_file.load_recipe` makes one from a file. Settings of plug-ins are kept as given; they are
checked by the plug-in that owns them.
"""

import re
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    PlainValidator,
    field_validator,
    model_validator,
)

from audioflow.errors import shown
from audioflow.recipe_augment import AugmentSection
from audioflow.recipe_sources import MAIN, ExtraSection
from audioflow.recipe_splits import Split, SplitsSection
from audioflow.recipe_train import MAX_SEED, TrainSection
from audioflow.recipe_tune import TrackingSection, TuneSection
from audioflow.redaction import OPTIONS_KEY, misplaced_masked
from audioflow.registry import Registry, Settings
from audioflow.stores import StorageOptions, option_faults

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")
JOBS = ("manifest", "embed", "train", "tune", "score", "fuse", "report")


class PluginChoice(Settings):
    """A plug-in by name, with that plug-in's own settings beside the name."""

    model_config = ConfigDict(extra="allow")

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The plug-in's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[PluginChoice, BeforeValidator(_by_name)]


class RaySection(Settings):
    """Which Ray: `auto` joins a running one or starts a local one, `local` always starts one."""

    address: str = Field("auto", min_length=1)
    num_cpus: int | None = Field(None, ge=1)
    dashboard: bool = True


class ManifestSection(Settings):
    """Where the clips come from; the reader's own settings stand beside these keys.

    extra: further data sets by name, for training unless they say otherwise. merge: label -> the
    class that it becomes; the column `fine_labels` keeps what it was, and heads may be trained on
    that (`train.fine`).
    """

    model_config = ConfigDict(extra="allow")

    reader: str
    splits: SplitsSection = SplitsSection(train=0.6, val=0.2, test=0.2)
    group_by: str = "recording"
    seed: int = Field(0, ge=0, le=MAX_SEED)
    extra: dict[str, ExtraSection] = Field(default_factory=dict)
    merge: dict[str, str] = Field(default_factory=dict)

    @field_validator("extra")
    @classmethod
    def _sources(cls, value: dict[str, Any]) -> dict[str, Any]:
        if MAIN in value:
            raise ValueError(f"{MAIN!r} is the name of the section's own data set; choose another")
        return _names(value)

    @field_validator("group_by")
    @classmethod
    def _usable(cls, value: str) -> str:
        if not value:
            raise ValueError("'' is empty; allowed: recording, regex:<pattern>, or a column")
        if value.startswith("regex:"):
            try:
                re.compile(value.removeprefix("regex:"))
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class BackboneChoice(Settings):
    """One embeddings table: `name` is the backbone, by default the key of this entry."""

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    actors: int | None = Field(None, ge=1)
    num_gpus: float = Field(0.0, ge=0)

    @property
    def options(self) -> dict[str, Any]:
        """The backbone's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


def _names(value: dict[str, Any]) -> dict[str, Any]:
    wrong = [name for name in value if not NAME.fullmatch(name)]
    if wrong:
        raise ValueError(
            f"{', '.join(map(shown, wrong))} cannot be a name; allowed: at most 100 letters, "
            "digits, '_' and '-', a letter or digit first (it becomes a folder)"
        )
    return value


class ImportChoice(Settings):
    """One embeddings table of vectors that other programs computed.

    name: the importer, by default the key of this entry; its own settings stand beside it.
    """

    model_config = ConfigDict(extra="allow")

    name: str | None = None

    @property
    def options(self) -> dict[str, Any]:
        """The importer's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class EmbedSection(Settings):
    """Media to embeddings; `imports` are tables that need no media."""

    backbones: dict[str, BackboneChoice] = Field(default_factory=dict)
    imports: dict[str, ImportChoice] = Field(default_factory=dict)
    clips_per_shard: int = Field(48, ge=1, le=4096)
    decode_cpus: float = Field(1.0, gt=0)
    decoder: str = "pyav"
    decode_timeout_s: float = Field(60.0, gt=0)
    decode_memory_gb: float = Field(4.0, ge=0.5)
    sound_track: int | None = Field(None, ge=0)
    video_track: int | None = Field(None, ge=0)
    max_duration_s: float = Field(14_400.0, gt=0)
    min_coverage: float = Field(0.9, ge=0, le=1)
    max_failed_share: float = Field(0.05, ge=0, le=1)
    give_up_after: int = Field(32, ge=1)
    stall_timeout_s: float = Field(600.0, gt=0)
    augment: AugmentSection | None = None

    @field_validator("backbones", "imports")
    @classmethod
    def _folders(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _names(value)

    @model_validator(mode="after")
    def _some(self) -> "EmbedSection":
        if not self.tables:
            raise ValueError("makes no table; give it an entry in backbones or in imports")
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of all tables."""
        return (*self.backbones, *self.imports)


class PoolingChoice(PluginChoice):
    """A pooling by name, and what it is used on: embeddings, logits or scores."""

    on: Literal["embeddings", "logits", "scores"] | None = None


class SystemSection(Settings):
    """One system: a backbone's table (and layers), a pooling, and the head trained on it.

    layers: for heads that read several. pooling: by default what suits the head: the mean of
    embeddings for one that takes vectors, of logits for one that takes pictures; none for one that
    pools by itself.
    """

    backbone: str
    layer: str | None = None
    layers: list[str] | None = Field(None, min_length=1)
    pooling: Annotated[PoolingChoice, BeforeValidator(_by_name)] | None = None
    head: Choice
    train: TrainSection = TrainSection()

    @model_validator(mode="after")
    def _one_way(self) -> "SystemSection":
        if self.layer is not None and self.layers is not None:
            raise ValueError(f"layer ({self.layer!r}) cannot stand beside layers")
        return self


class ScoreSection(Settings):
    """Which splits are scored. Cross-validated clips are all scored, out of fold, as `test`."""

    splits: list[Split] = Field(default=["val", "test"], min_length=1)


class FuseSection(Settings):
    """One fused system; the rule's own settings stand beside these keys."""

    model_config = ConfigDict(extra="allow")

    systems: list[str] = Field(min_length=2)
    rule: str = "weighted"
    fit_split: Literal["train", "val"] = "val"
    """Never `test`: what is reported on a clip must not have been fitted on it."""

    @property
    def options(self) -> dict[str, Any]:
        """The rule's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class ReportSection(Settings):
    """What the report shows."""

    title: str | None = None
    split: Split = "test"
    num_bootstrap: int = Field(1000, ge=0, le=100_000)


def _storage(value: Any) -> StorageOptions:
    if isinstance(value, StorageOptions):
        return value
    # What is wrong with it is told by `recipe_checks`: pydantic would quote the values.
    return StorageOptions() if option_faults(value) else StorageOptions.of(value)


class Recipe(Settings):
    """One experiment, top to bottom as the flow goes."""

    run_dir: str = Field(min_length=1)
    ray: RaySection = RaySection()
    storage_options: Annotated[StorageOptions, PlainValidator(_storage)] = Field(
        StorageOptions(), exclude=True
    )
    manifest: ManifestSection
    embed: EmbedSection | None = None
    systems: dict[str, SystemSection] = Field(default_factory=dict)
    tune: dict[str, TuneSection] = Field(default_factory=dict)
    tracking: TrackingSection = TrackingSection()
    score: ScoreSection | None = None
    fuse: dict[str, FuseSection] = Field(default_factory=dict)
    report: ReportSection | None = None

    @model_validator(mode="before")
    @classmethod
    def _no_secret_in_faults(cls, data: Any) -> Any:
        """Storage options in a wrong place are a fault; its message would quote their values."""
        if not isinstance(data, dict):
            return data
        return {
            key: value if key == OPTIONS_KEY else misplaced_masked(value, key)
            for key, value in data.items()
        }

    @field_validator("embed", "score", "report", mode="before")
    @classmethod
    def _not_empty(cls, value: Any) -> Any:
        if value is None:
            raise ValueError("is empty (null); write {} for its defaults, or leave the section out")
        return value

    @field_validator("systems", "tune", "fuse")
    @classmethod
    def _folders(cls, value: dict[str, Any]) -> dict[str, Any]:
        return _names(value)

    @property
    def trained(self) -> dict[str, SystemSection]:
        """The systems that get heads: those as written, and the tuned ones."""
        found = {name: self.systems[one.system] for name, one in self.tune.items()}
        return self.systems | found

    @property
    def sections(self) -> tuple[str, ...]:
        """The jobs this recipe has a section for, in the order of the flow."""
        has = {
            "manifest": True,
            "embed": self.embed is not None,
            "train": bool(self.systems),
            "tune": bool(self.tune),
            "score": self.score is not None,
            "fuse": bool(self.fuse),
            "report": self.report is not None,
        }
        return tuple(job for job in JOBS if has[job])


@dataclass(frozen=True)
class Plugins:
    """The registries that a recipe's plug-in names are looked up in."""

    readers: Registry
    decoders: Registry
    backbones: Registry
    poolings: Registry
    heads: Registry
    rules: Registry
    importers: Registry
