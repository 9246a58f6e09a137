"""What `audioflow plan` measures of a sample, and what it says of the whole.

Everything it says is a field of `Forecast`; `--json` prints it as it is. Shapes: n recordings of
the sample, R of the manifest. Measurements of a recording of whose clips only some were tried are
scaled to all of them.
"""

from dataclasses import dataclass

from audioflow.planning.estimate import Cluster, Memory, Wall, Where
from audioflow.planning.intervals import Interval
from audioflow.planning.sample import Floats


@dataclass(frozen=True)
class ErrorSeen:
    """One class of failures: how many clips of the sample had it, and one of them."""

    error: str
    clips: int
    clip_id: str
    uri: str
    reason: str


@dataclass(frozen=True, eq=False)
class TableMeasured:
    """One backbone on the sample; arrays are (n,).

    rows: clips that gave a row. failed: clips that failed. media_s: length of the former. patches:
    of all their variants. raw_bytes: size of their rows in memory. patch_cost_s: seconds per patch,
    once warm. packed: bytes in Parquet per byte in memory. file_bytes: of a file without rows.
    process_bytes: peak of a process with this backbone. hop_s: distance of patches, where set.
    """

    table: str
    backbone: str
    device: str
    rows: Floats
    failed: Floats
    media_s: Floats
    patches: Floats
    raw_bytes: Floats
    patch_cost_s: float
    packed: float
    file_bytes: int
    load_s: float
    process_bytes: float
    hop_s: float | None = None
    errors: tuple[ErrorSeen, ...] = ()


@dataclass(frozen=True, eq=False)
class Measured:
    """The sample, decoded; arrays are (n,). clips_tried: over all recordings.

    media_s: length of the clips that any table has. child_bytes: peak of the decoder child.
    row_bytes: the largest row on the way to the backbones. probe_s: how long all of it took.
    """

    media_s: Floats
    decode_s: Floats
    fetch_s: Floats
    fetched_bytes: Floats
    tables: tuple[TableMeasured, ...]
    clips_tried: int
    child_bytes: float
    row_bytes: float
    probe_s: float


@dataclass(frozen=True, eq=False)
class TableTodo:
    """What the engine has to do for a table. left: (R,) recordings with clips not committed yet."""

    table: str
    shards: int
    shards_done: int
    actors: int
    on_gpu: bool
    left: Where
    may_take_over: bool = False


@dataclass(frozen=True)
class Rules:
    """Settings of the recipe that a forecast depends on.

    own_workers: those that decode and embed by themselves, 0 where decoding is a step of its own.
    """

    decode_cpus: float
    decode_memory_gb: float
    max_failed_share: float
    own_workers: int = 0


@dataclass(frozen=True)
class Price:
    """What one machine costs for an hour."""

    per_machine_h: float
    currency: str = ""


@dataclass(frozen=True)
class StratumForecast:
    """What was measured of the sampled recordings of one stratum, and how many it has."""

    kind: str
    recordings: int
    sampled: int
    low_bytes: int | None
    high_bytes: int | None
    clips: float
    fetched_bytes: float
    media_s: float
    fetch_s: float
    decode_s: float
    embed_s: dict[str, float]
    output_bytes: dict[str, float]
    failed_clips: dict[str, float]


@dataclass(frozen=True)
class TableForecast:
    """One embeddings table. x_real_time: of one core (or GPU, where device is cuda)."""

    table: str
    backbone: str
    device: str
    actors: int
    actors_on_gpu: bool
    x_real_time: float
    patches_per_clip: float
    hop_s: float | None
    core_s: float
    core_s_left: float
    rows: float
    bytes_per_clip: float
    output_bytes: Interval
    shards: int
    shards_done: int
    may_take_over: bool
    failed_share: Interval
    too_many_failures: bool
    errors: tuple[ErrorSeen, ...]
    load_s: float
    process_bytes: float


@dataclass(frozen=True)
class Forecast:
    """What `embed` will take. Intervals of shares of failed clips hold 95 %, all others 90 %.

    wall, wall_s, cost, reads, writes: for what is not committed yet. reads: of recordings. writes:
    of files, two for every shard of a table; where they are in a bucket, each is a request.
    decode_x_real_time: of one core, fetching included.
    """

    clips: int
    recordings: int
    sampled_recordings: int
    sampled_clips: int
    probe_s: float
    media_s: Interval
    media_s_left: Interval
    fetch_bytes: Interval
    reads: int
    writes: int
    decode_x_real_time: float
    decode_core_s: float
    decode_core_s_left: float
    decode_workers: int
    fetch_share: float
    tables: tuple[TableForecast, ...]
    cluster: Cluster
    wall: Wall
    wall_s: Interval
    memory_per_machine: Memory
    row_bytes: float
    decoder_child_bytes: float
    max_failed_share: float
    strata: tuple[StratumForecast, ...]
    price: Price | None = None
    cost: Interval | None = None

    @property
    def done(self) -> bool:
        """Whether every shard is committed."""
        return all(table.shards_done == table.shards for table in self.tables)
