"""The part of a recipe that says how media becomes embeddings."""

from typing import Annotated, Any

from pydantic import ConfigDict, Field, field_validator, model_validator

from audioflow.recipe_augment import AugmentSection
from audioflow.recipe_names import folder_names
from audioflow.recipe_score import ImportChoice
from audioflow.registry import LEAST_SHARE, Gpus, Settings


class BackboneChoice(Settings):
    """One embeddings table; the backbone's own settings stand beside these keys.

    name: the backbone, by default the key of this entry. actors: workers where no backbone needs a
    GPU (the largest number counts), else actors of this backbone; as many as there is room for
    where it is not given. num_gpus: of each actor, some whole ones or a share of one: 0.5 puts two
    on a GPU; as `ray.accelerator` says where it is not given. memory_gb: what a worker takes for it
    at most, by which nodes are chosen; a measured figure where it is not given.
    """

    model_config = ConfigDict(extra="allow")

    name: str | None = None
    actors: int | None = Field(None, ge=1)
    num_gpus: Gpus | None = Field(None, ge=0)
    memory_gb: float | None = Field(None, gt=0)

    @property
    def options(self) -> dict[str, Any]:
        """The backbone's own settings as given."""
        return dict(self.__pydantic_extra__ or {})


Labels = dict[Annotated[str, Field(min_length=1)], str]


class PlacementSection(Settings):
    """On which nodes of a cluster the work is done: labels that a node must have, as it was started
    with (`ray start --labels key=value`).

    decode: where media is decoded; where nothing is said, and decoding is a step of its own, on
    nodes with the label `audioflow/tier=decode` if there are any. embed: where backbones have
    actors of their own.
    """

    decode: Labels = Field(default_factory=dict)
    embed: Labels = Field(default_factory=dict)


class EmbedSection(Settings):
    """Media to embeddings.

    backbones: the tables that are made from media, by name. imports: tables that need no media, by
    name. clips_per_shard: at most so many in a shard, the unit of work and of resume. decode_cpus:
    CPUs of a decode task, where decoding feeds GPUs. placement: on which nodes. decoder: what
    decodes. decode_timeout_s: no progress for so long, and the clip is given up (`timeout`).
    decode_memory_gb: most memory of the child that decodes (`out_of_memory`). sound_track,
    video_track: which of the recording's, from 0 on; the one that FFmpeg prefers where it is not
    given. max_duration_s: a longer clip is a failure (`too_long`). min_coverage: a clip of which a
    smaller share can be read is a failure (`truncated`). max_failed_share: more failures than this,
    and the job ends with exit code 3, its tables complete. give_up_after: where so many
    first clips, or later recordings in a row, all fail for credentials or the network, the job
    ends. stall_timeout_s: no clip finished for so long, and the job ends; the first workers have
    two minutes at least to begin. augment: altered copies of clips.
    """

    backbones: dict[str, BackboneChoice] = Field(default_factory=dict)
    imports: dict[str, ImportChoice] = Field(default_factory=dict)
    clips_per_shard: int = Field(48, ge=1, le=4096)
    decode_cpus: float = Field(1.0, ge=LEAST_SHARE)
    placement: PlacementSection = PlacementSection()
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
        return folder_names(value)

    @model_validator(mode="after")
    def _some(self) -> "EmbedSection":
        if not self.tables:
            raise ValueError("makes no table; give it an entry in backbones or in imports")
        return self

    @property
    def tables(self) -> tuple[str, ...]:
        """The names of all tables."""
        return (*self.backbones, *self.imports)
