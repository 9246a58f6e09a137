"""Where the time of a run of `embed` went, and the one setting that would change it most.

Workers say how many seconds they spent on each stage: `fetch`, `decode`, `embed TABLE`, `write`,
or `score` where no embeddings are written.
What they had beside that, they waited. Times of several workers are added up: worker seconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal[
    "start",
    "decode",
    "network",
    "heads",
    "io",
    "scheduler",
    "fit",
    "join",
    "ingest",
    "compute",
    "judge",
]

WAIT = "wait"
_EMBED = "embed "
MORE_CLIPS = "more clips in one run cost no more of it"
MANY_ITEMS = 4
"""From so many shards per worker on, it is not for want of shards that workers wait."""


@dataclass(frozen=True)
class Backbone:
    """What the advice depends on. precision: None where a backbone has no such setting.

    actors: its own, where decoding is a step of its own; they may be on a GPU.
    """

    table: str
    precision: str | None = None
    hop_s: float | None = None
    on_gpu: bool = False
    actors: int = 0


@dataclass(frozen=True)
class RunFacts:
    """What is known of a run when it has ended.

    start_s: until the first worker began. work_s: from then on. seconds: worker seconds per stage.
    workers: those that decode, and embed where no backbone needs a GPU. items: shards.
    room, cores: how many workers of their own there would be room for, and for how many if memory
    were no matter; 0 where it is not known. fast_bfloat16: whether this machine's processor has
    instructions for it. joined: whether the Ray was there before, and goes by no `ray.num_cpus`.
    lost_nodes: whether any were.
    """

    start_s: float
    work_s: float
    items: int
    workers: int
    seconds: Mapping[str, float]
    backbones: Sequence[Backbone]
    room: int = 0
    cores: int = 0
    fast_bfloat16: bool = False
    joined: bool = False
    lost_nodes: bool = False


@dataclass(frozen=True)
class Verdict:
    """kind: what bounds the run. shares: of the workers' time, by stage, `wait` among them.

    bare: rate of the run, once it had begun, as a share of what the slowest backbone alone reaches
    in as many processes; None where there is no backbone. text: all of it in words.
    """

    kind: Kind
    shares: Mapping[str, float]
    bare: float | None
    text: str
    advice: str = field(default="")


def verdict(facts: RunFacts) -> Verdict:
    """What bounded a run. Raises nothing: a run without any work is bound by its start."""
    shares = _shares(facts)
    slowest = _slowest(facts)
    bare = _bare(facts, slowest)
    kind = _kind(facts, shares, bare)
    advice = _advice(kind, facts, shares, slowest)
    text = f"{_words(kind, facts, shares, slowest)}{_told_bare(facts, slowest, bare)}"
    return Verdict(kind, shares, bare, f"{text}; {advice}" if advice else text, advice)


def _capacity_s(facts: RunFacts) -> float:
    """Worker seconds that there were, of those that decode and of the actors on GPUs."""
    return facts.work_s * (facts.workers + sum(one.actors for one in facts.backbones))


def _shares(facts: RunFacts) -> dict[str, float]:
    busy = sum(facts.seconds.values())
    capacity = max(_capacity_s(facts), busy)
    if capacity <= 0:
        return {WAIT: 1.0}
    found = {stage: spent / capacity for stage, spent in sorted(facts.seconds.items())}
    return found | {WAIT: 1 - busy / capacity}


def _slowest(facts: RunFacts) -> Backbone:
    """The backbone whose workers were busiest."""
    return max(facts.backbones, key=lambda one: _load(facts, one))


def _load(facts: RunFacts, one: Backbone) -> float:
    return facts.seconds.get(f"{_EMBED}{one.table}", 0.0) / (one.actors or facts.workers)


def _bare(facts: RunFacts, one: Backbone) -> float:
    return min(1.0, _load(facts, one) / facts.work_s) if facts.work_s > 0 else 0.0


def _kind(facts: RunFacts, shares: Mapping[str, float], bare: float) -> Kind:
    if facts.start_s > facts.work_s:
        return "start"
    if any(one.actors for one in facts.backbones):  # stages side by side: the busiest holds all up
        decode = (facts.seconds.get("decode", 0.0) + facts.seconds.get("fetch", 0.0)) / (
            facts.workers * facts.work_s
        )
        if max(bare, decode) < 0.5:
            return "scheduler"
        if bare >= decode:
            return "network"
        return "io" if _io(shares) > shares.get("decode", 0.0) else "decode"
    network = sum(share for stage, share in shares.items() if stage.startswith(_EMBED))
    candidates: dict[Kind, float] = {
        "network": network,
        "decode": shares.get("decode", 0.0),
        "heads": shares.get("score", 0.0),
        "io": _io(shares),
        "scheduler": shares[WAIT],
    }
    return max(candidates, key=lambda kind: candidates[kind])


def _io(shares: Mapping[str, float]) -> float:
    return shares.get("fetch", 0.0) + shares.get("write", 0.0)


def _words(kind: Kind, facts: RunFacts, shares: Mapping[str, float], slowest: Backbone) -> str:
    if kind == "start":
        return f"the start took {facts.start_s:.1f} s, the work {facts.work_s:.1f} s"
    parts = [(share, stage) for stage, share in shares.items() if share >= 0.005]
    told = ", ".join(f"{_name(stage)} {share:.0%}" for share, stage in sorted(parts, reverse=True))
    heads: dict[Kind, str] = {
        "network": f"bound by the backbone {slowest.table}",
        "decode": "bound by decoding",
        "heads": "bound by the heads",
        "io": "bound by fetching and writing",
        "scheduler": "workers waited for work most of the time",
    }
    lost = "; nodes were lost meanwhile" if kind == "scheduler" and facts.lost_nodes else ""
    return f"{heads[kind]} ({told}){lost}"


def _name(stage: str) -> str:
    return {WAIT: "waiting"}.get(stage, stage.removeprefix(_EMBED))


def _told_bare(facts: RunFacts, slowest: Backbone, bare: float) -> str:
    if facts.work_s <= 0 or not bare:
        return ""
    where = "on the GPU" if slowest.on_gpu else "in as many processes"
    return f"; {bare:.0%} of what {slowest.table} alone reaches {where}"


def _advice(kind: Kind, facts: RunFacts, shares: Mapping[str, float], slowest: Backbone) -> str:
    if kind == "start":
        return MORE_CLIPS
    if kind == "network":
        return _faster_backbone(facts, slowest)
    if kind == "decode" and slowest.on_gpu:
        return "give Ray more CPUs: the GPU waits for the decoders"
    if kind in ("decode", "heads"):
        return _idle_cores(facts, slowest) or more_cores(joined=facts.joined)
    if kind == "io":
        return _faster_io(facts, shares, slowest)
    return "" if facts.lost_nodes else _other_shards(facts)


def _other_shards(facts: RunFacts) -> str:
    few = facts.items < MANY_ITEMS * facts.workers
    size, why = ("smaller", "too few to share out") if few else ("larger", "too little work each")
    return f"try a {size} embed.clips_per_shard: the {facts.items} shards were {why}"


def _faster_io(facts: RunFacts, shares: Mapping[str, float], slowest: Backbone) -> str:
    if shares.get("write", 0.0) > shares.get("fetch", 0.0):
        return "try a larger embed.clips_per_shard: fewer files are written"
    if slowest.on_gpu:
        return "try a smaller embed.decode_cpus: more files are fetched at once"
    if facts.room <= facts.workers and (idle := _idle_cores(facts, slowest)):
        return idle
    more = 2 * facts.workers
    return f"try embed.backbones.{slowest.table}.actors={more}: workers wait side by side"


def more_cores(*, joined: bool) -> str:
    """Advice for who has none to spare. joined: whether the Ray was there before."""
    how = "more nodes, or larger ones" if joined else "ray.num_cpus, more nodes"
    return f"only more cores help ({how})"


def _idle_cores(facts: RunFacts, slowest: Backbone) -> str:
    """What would put cores to work that had no worker; "" where there are none."""
    if facts.items <= facts.workers:
        return ""
    place = f"embed.backbones.{slowest.table}"
    if facts.room > facts.workers:
        return f"try {place}.actors={facts.room}: there is room for so many workers"
    if facts.cores > facts.workers:
        return (
            f"memory allows no more workers: nodes with more of it, or a smaller {place}.memory_gb"
        )
    return ""


def _faster_backbone(facts: RunFacts, slowest: Backbone) -> str:
    place = f"embed.backbones.{slowest.table}"
    if idle := _idle_cores(facts, slowest):
        return idle
    if slowest.precision == "float32" and (slowest.on_gpu or facts.fast_bfloat16):
        return f"try {place}.precision=bfloat16"
    if not slowest.on_gpu and slowest.precision is not None:
        return f"try {place}.num_gpus=1 on a machine with a GPU"
    if slowest.hop_s:
        return f"{place}.hop_s={2 * slowest.hop_s:g} (now {slowest.hop_s:g}) would halve it"
    return more_cores(joined=facts.joined)
