"""The recipe: the strict YAML of one experiment.

`load_recipe` reads a file, applies `section.key=value` overrides, and either returns a `Recipe` whose
every value was checked, or raises one `RecipeError` that lists all faults. Settings of plug-ins are
checked by the plug-in that owns them; their registries are handed in, so that this module needs none.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, field_validator, model_validator

from audioflow.registry import Registry, Settings

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
SPLITS = ("train", "val", "test")
JOBS = ("manifest", "embed", "train", "score", "fuse", "report")

Split = Literal["train", "val", "test"]


class PluginChoice(Settings):
    """A plug-in by name, with that plug-in's own settings beside the name."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str

    @property
    def options(self) -> dict[str, Any]:
        """The plug-in's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


def _by_name(value: Any) -> Any:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[PluginChoice, BeforeValidator(_by_name)]


class RaySection(Settings):
    """Which Ray to use: `auto` joins a running one or starts a local one, `local` always starts one."""

    address: str = "auto"
    num_cpus: int | None = Field(None, ge=1)
    dashboard: bool = True


class SplitsSection(Settings):
    """How clips are divided: by fractions, by a published column, or into folds."""

    train: Any = None
    val: Any = None
    test: Any = None
    column: str | None = None
    folds: Any = None

    @model_validator(mode="after")
    def _one_way(self) -> "SplitsSection":
        given = {name: getattr(self, name) for name in SPLITS if getattr(self, name) is not None}
        if self.folds is not None:
            _check_folds(self.folds, given or ({"column": self.column} if self.column else {}))
        elif self.column is not None:
            _check_values(given)
        else:
            _check_fractions(given)
        return self

    @property
    def fractions(self) -> dict[str, float]:
        """Share of clips per split, in the order train, val, test."""
        return {name: float(getattr(self, name) or 0.0) for name in SPLITS}

    @property
    def values(self) -> dict[str, str]:
        """Value of `column` -> split."""
        return {str(value): name for name in SPLITS for value in getattr(self, name) or ()}


def _check_folds(folds: Any, others: Mapping[str, Any]) -> None:
    if others:
        raise ValueError(
            f"folds cannot stand beside {', '.join(others)}: with folds every clip is tested once"
        )
    if isinstance(folds, bool) or not isinstance(folds, int | str):
        raise ValueError(f"folds is {folds!r}; allowed: a number of folds, or the name of a column")
    if isinstance(folds, int) and folds < 3:
        raise ValueError(
            f"folds is {folds}; allowed: 3 or more (one to test, one to select, the rest to train)"
        )


def _check_values(given: Mapping[str, Any]) -> None:
    if not given:
        raise ValueError("column needs train, val and test: lists of that column's values")
    seen: dict[str, str] = {}
    for split, values in given.items():
        if not isinstance(values, list) or not values:
            raise ValueError(
                f"{split} is {values!r}; beside column, allowed: a list of that column's values"
            )
        for value in map(str, values):
            if value in seen:
                raise ValueError(f"value {value!r} stands in both {seen[value]} and {split}")
            seen[value] = split


def _check_fractions(given: Mapping[str, Any]) -> None:
    for split, share in given.items():
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise ValueError(f"{split} is {share!r}; allowed: a share from 0 to 1")
    total = sum(given.values())
    if abs(total - 1) > 1e-6:
        raise ValueError(
            f"the shares of {', '.join(given) or 'no split'} add up to {total:g}, not 1"
        )


class ManifestSection(Settings):
    """Where the clips come from; the reader's own settings stand beside these keys."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    reader: str
    splits: SplitsSection = SplitsSection(train=0.6, val=0.2, test=0.2)
    group_by: str = "recording"
    seed: int = 0

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class BackboneChoice(Settings):
    """One embeddings table: `name` is the backbone, by default the key of this entry."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    name: str | None = None
    actors: int | None = Field(None, ge=1)
    num_gpus: float = Field(0.0, ge=0)

    @property
    def options(self) -> dict[str, Any]:
        """The backbone's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class EmbedSection(Settings):
    """Media to embeddings."""

    backbones: dict[str, BackboneChoice] = Field(min_length=1)
    clips_per_shard: int = Field(32, ge=1, le=4096)
    decode_cpus: float = Field(1.0, gt=0)
    decode_timeout_s: float = Field(60.0, gt=0)
    decode_memory_gb: float = Field(4.0, ge=0.5)
    max_duration_s: float = Field(600.0, gt=0)
    min_coverage: float = Field(0.9, ge=0, le=1)
    max_failed_share: float = Field(0.05, ge=0, le=1)
    stall_timeout_s: float = Field(600.0, gt=0)


class TrainSection(Settings):
    """How a head is trained. 0 is a legal value of every rate."""

    epochs: int = Field(30, ge=1)
    lr: float = Field(1e-3, ge=0)
    batch_size: int = Field(64, ge=1)
    optimizer: Literal["adamw", "adam", "sgd"] = "adamw"
    weight_decay: float = Field(1e-4, ge=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)
    class_weights: Literal["none", "balanced"] = "none"
    select: Literal["val_accuracy", "val_macro_f1", "val_loss"] = "val_accuracy"
    workers: int = Field(1, ge=1)
    cpus_per_worker: float = Field(0.5, gt=0)
    num_gpus: float = Field(0.0, ge=0)
    seed: int = 0


class SystemSection(Settings):
    """One system: a backbone's table (and layer), pooled, and the head trained on it."""

    backbone: str
    layer: str | None = None
    pooling: Choice = PluginChoice(name="mean")
    head: Choice
    train: TrainSection = TrainSection()


class ScoreSection(Settings):
    """Which splits are scored. Cross-validated clips are all scored, out of fold, as `test`."""

    splits: list[Split] = Field(default=["val", "test"], min_length=1)


class FuseSection(Settings):
    """One fused system; the rule's own settings stand beside these keys."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    systems: list[str] = Field(min_length=2)
    rule: str = "weighted"
    fit_split: Split = "val"

    @property
    def options(self) -> dict[str, Any]:
        """The rule's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class ReportSection(Settings):
    """What the report shows."""

    title: str | None = None
    split: Split = "test"
    num_bootstrap: int = Field(1000, ge=0, le=100_000)


class Recipe(Settings):
    """One experiment, top to bottom as the flow goes."""

    run_dir: str = Field(min_length=1)
    ray: RaySection = RaySection()
    manifest: ManifestSection
    embed: EmbedSection | None = None
    systems: dict[str, SystemSection] = {}
    score: ScoreSection | None = None
    fuse: dict[str, FuseSection] = {}
    report: ReportSection | None = None

    @field_validator("systems", "fuse")
    @classmethod
    def _names(cls, value: dict[str, Any]) -> dict[str, Any]:
        for name in value:
            if not NAME.fullmatch(name):
                raise ValueError(
                    f"{name!r} is no name; allowed: letters, digits, '_', '.' and '-', "
                    "a letter or digit first (it becomes a folder)"
                )
        return value

    @property
    def sections(self) -> tuple[str, ...]:
        """The jobs this recipe has a section for, in the order of the flow."""
        has = {
            "manifest": True,
            "embed": self.embed is not None,
            "train": bool(self.systems),
            "score": self.score is not None,
            "fuse": bool(self.fuse),
            "report": self.report is not None,
        }
        return tuple(job for job in JOBS if has[job])


@dataclass(frozen=True)
class Plugins:
    """The registries that a recipe's plug-in names are looked up in."""

    readers: Registry
    backbones: Registry
    poolings: Registry
    heads: Registry
    rules: Registry


@dataclass(frozen=True)
class PluginUse:
    """One place of a recipe that names a plug-in."""

    key: tuple[str, ...]
    registry: Registry
    name: str
    options: Mapping[str, Any]
    name_key: str
    own_keys: Sequence[str]
    """Keys of the recipe that may stand beside the plug-in's settings."""


def plugin_uses(recipe: Recipe, plugins: Plugins) -> Iterator[PluginUse]:
    """Every plug-in that `recipe` names, with the settings given for it."""
    manifest = recipe.manifest
    own = tuple(ManifestSection.model_fields)
    yield PluginUse(
        ("manifest",), plugins.readers, manifest.reader, manifest.options, "reader", own
    )
    for table, backbone in (recipe.embed.backbones if recipe.embed else {}).items():
        yield PluginUse(
            ("embed", "backbones", table),
            plugins.backbones,
            backbone.name or table,
            backbone.options,
            "name",
            tuple(BackboneChoice.model_fields),
        )
    for name, system in recipe.systems.items():
        for part, registry in (("pooling", plugins.poolings), ("head", plugins.heads)):
            choice: PluginChoice = getattr(system, part)
            key = ("systems", name, part)
            yield PluginUse(key, registry, choice.name, choice.options, "name", ("name",))
    for name, fused in recipe.fuse.items():
        own = tuple(FuseSection.model_fields)
        yield PluginUse(("fuse", name), plugins.rules, fused.rule, fused.options, "rule", own)
