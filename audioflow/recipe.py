"""The recipe: the strict YAML of one experiment, as checked settings.

`recipe_file.load_recipe` makes one from a file. Settings of plug-ins are kept as given; they are
checked by the plug-in that owns them.
"""

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

from audioflow.recipe_calibration import Calibration
from audioflow.recipe_embed import EmbedSection
from audioflow.recipe_fuse import FuseSection
from audioflow.recipe_names import folder_names
from audioflow.recipe_score import ScoreSection
from audioflow.recipe_sources import MAIN, ExtraSection
from audioflow.recipe_splits import Split, SplitsSection
from audioflow.recipe_train import MAX_SEED, TrainSection
from audioflow.recipe_tune import TrackingSection, TuneSection
from audioflow.redaction import OPTIONS_KEY, misplaced_masked
from audioflow.registry import Registry, Settings, expression
from audioflow.stores import StorageOptions, option_faults

Accelerator = Literal["auto", "cpu", "gpu"]

JOBS = ("manifest", "embed", "train", "tune", "score", "fuse", "report")


class PluginChoice(Settings):
    """A plug-in by name, with that plug-in's own settings beside the name.

    name: of the plug-in; where nothing else is set, the name alone will do.
    """

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
    """Which Ray does the work.

    address: `auto` joins a running one or starts a local one, `local` always starts one; or the
    address of a running one. num_cpus: cores of a Ray that is started; all that the machine has
    where it is not given. dashboard: whether one that is started has its dashboard. accelerator:
    what works on GPUs where the recipe gives no number of them: with `auto` the networks that gain
    by it, where the cluster has GPUs; with `gpu` the same, and a job with such a network does not
    begin where there are none; with `cpu` nothing. It never changes what is in a table.
    wait_for_nodes_s: how long to wait for nodes where there are too few for what is asked; by
    default 600 where nodes are started as they are needed, else 0 before a job begins, and 120
    where nodes were lost since.
    """

    address: str = Field("auto", min_length=1)
    num_cpus: int | None = Field(None, ge=1)
    dashboard: bool = True
    accelerator: Accelerator = "auto"
    wait_for_nodes_s: float | None = Field(None, ge=0)


class ManifestSection(Settings):
    """Where the clips come from; the reader's own settings stand beside these keys.

    reader: what reads the data set. splits: how clips are divided. group_by: what must not straddle
    splits: `recording`, a column of the list, or `regex:` and a pattern, whose first group or whole
    match in a clip's id names the group. seed: another one divides otherwise. extra: further data
    sets by name, for training unless they say otherwise. merge: label -> the class that it becomes;
    the column `fine_labels` keeps what it was, and heads may be trained on that (`train.fine`).
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
        return folder_names(value)

    @field_validator("group_by")
    @classmethod
    def _usable(cls, value: str) -> str:
        if not value:
            raise ValueError("'' is empty; allowed: recording, regex:<pattern>, or a column")
        if value.startswith("regex:"):
            expression(value, "regex:")
        return value

    @property
    def options(self) -> dict[str, Any]:
        """The reader's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


class PoolingChoice(PluginChoice):
    """A pooling by name, with its own settings beside these keys.

    on: what is pooled, by default what suits pooling and head.
    """

    on: Literal["embeddings", "logits", "scores"] | None = None


class SystemSection(Settings):
    """One system: a backbone's table (and layers), a pooling, and the head trained on it.

    backbone: its table, an entry of `embed.backbones` or `embed.imports`. layer: of that table; not
    needed where it has one. layers: for heads that read several. pooling: by default what suits the
    head, the mean of embeddings for one that takes vectors, of logits for one that takes pictures,
    and none for one that pools by itself. head: what is trained. train: how. calibration: what is
    done with the scores of the trained head.
    """

    backbone: str
    layer: str | None = None
    layers: list[str] | None = Field(None, min_length=1)
    pooling: Annotated[PoolingChoice, BeforeValidator(_by_name)] | None = None
    head: Choice
    train: TrainSection = TrainSection()
    calibration: Calibration | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "SystemSection":
        if self.layer is not None and self.layers is not None:
            raise ValueError(f"layer ({self.layer!r}) cannot stand beside layers")
        return self

    @property
    def calibrated(self) -> bool:
        """Whether anything is fitted to the scores of the trained head."""
        wanted = self.calibration
        return wanted is not None and (wanted.method != "none" or wanted.thresholds is not None)

    @property
    def of_head(self) -> dict[str, Any]:
        """What its head is made by: all but what is done with its scores afterwards, and whether
        a GPU does it."""
        found = self.model_dump(mode="json", exclude={"calibration"})
        found["train"]["gpus_per_worker"] = 0.0
        return found


class ChecksSection(Settings):
    """What the report looks for in the data.

    leaks: recordings on two sides of a split. duplicates: the embeddings table by which
    near-duplicates are found among them; `auto` takes one of sound, `off` none. labels: probable
    label errors.
    """

    leaks: bool = True
    duplicates: str = "auto"
    labels: bool = True


class ReportSection(Settings):
    """What the report shows.

    title: of the page. split: the clips that are judged. num_bootstrap: draws of every interval; 0
    for no intervals. players: how many of the listed clips of each system are in the page, with
    their sound and a frame.
    """

    title: str | None = None
    split: Split = "test"
    num_bootstrap: int = Field(1000, ge=0, le=100_000)
    players: int = Field(12, ge=0, le=200)
    checks: ChecksSection = ChecksSection()


def _storage(value: Any) -> StorageOptions:
    if isinstance(value, StorageOptions):
        return value
    # What is wrong with it is told by `recipe_checks`: pydantic would quote the values.
    return StorageOptions() if option_faults(value) else StorageOptions.of(value)


class Recipe(Settings):
    """One experiment, top to bottom as the flow goes.

    run_dir: folder or url that everything is written under. ray: which Ray does the work.
    storage_options: options of fsspec for urls, of which those under a key such as `"s3://bucket/"`
    are for urls that begin so; they are written nowhere. manifest: the clips. embed: media to
    embeddings. systems: what is trained, by name. tune: searches, by name. tracking: who is told of
    training. score: what is scored. fuse: fused systems, by name. report: the page.
    """

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
        return folder_names(value)

    @property
    def trained(self) -> dict[str, SystemSection]:
        """The systems that get heads: those as written, and the tuned ones."""
        found = {name: self.systems[one.system] for name, one in self.tune.items()}
        return self.systems | found

    @property
    def scored(self) -> tuple[str, ...]:
        """The names of all score tables but the fused ones."""
        more = (*self.score.heads, *self.score.imports) if self.score else ()
        return (*self.trained, *more)

    @property
    def embeds(self) -> bool:
        """Whether embeddings are needed: not where clips are only scored, straight from media."""
        if self.embed is None:
            return False
        from_media = self.score is not None and self.score.source == "media"
        qualities = [one.quality for one in self.fuse.values() if one.quality is not None]
        return bool(self.systems or self.embed.imports or qualities) or not from_media

    @property
    def sections(self) -> tuple[str, ...]:
        """The jobs this recipe has a section for, in the order of the flow."""
        has = {
            "manifest": True,
            "embed": self.embeds,
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
    score_importers: Registry
