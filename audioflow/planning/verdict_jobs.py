"""Where the time of the jobs without media went: scores of stored vectors, fusions, training.

As for runs from media, workers say what they spent on each stage, and the rest they waited.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from audioflow.planning.verdict import MANY_ITEMS, MORE_CLIPS, WAIT, Kind, Verdict, more_cores


@dataclass(frozen=True)
class JobFacts:
    """What is known of a run when it has ended.

    start_s: until the first worker began. work_s: from then on. seconds: worker seconds per stage.
    workers: at once. items: shards, or parts. joined: whether the Ray was there before, and goes by
    no `ray.num_cpus`.
    """

    start_s: float
    work_s: float
    seconds: Mapping[str, float]
    workers: int
    items: int
    joined: bool = False


@dataclass(frozen=True)
class Trainer:
    """How a head was trained: over all of its folds, which may have been side by side.

    start_s: until the first epoch began. epochs_s: of all epochs, of which ingest_s passed waiting
    for examples and judge_s judging on `val`. streams: whether examples come from their shards.
    needs_gb: what they would take in memory. place: of its settings in the recipe. gains: whether
    the head would be faster on a GPU.
    """

    start_s: float
    epochs_s: float
    ingest_s: float
    judge_s: float
    place: str
    streams: bool = False
    needs_gb: float = 0.0
    gains: bool = False
    on_gpu: bool = False
    bfloat16: bool = False


def scored(facts: JobFacts) -> Verdict:
    """What bounded the scoring of stored vectors: stages `read`, `score` and `write`, and `load`,
    which every worker does once and which counts as its start."""
    load_s = facts.seconds.get("load", 0.0) / facts.workers
    facts = replace(
        facts,
        start_s=facts.start_s + load_s,
        work_s=max(0.0, facts.work_s - load_s),
        seconds={stage: spent for stage, spent in facts.seconds.items() if stage != "load"},
    )
    kinds: dict[str, Kind] = {"read": "io", "score": "heads", "write": "io"}
    words = {
        "read": "bound by reading embeddings",
        "score": "bound by the heads",
        "write": "bound by writing scores",
    }
    cores = more_cores(joined=facts.joined)
    more = "more nodes, or larger ones" if facts.joined else f"try ray.num_cpus={2 * facts.workers}"
    waits = f"{more}: workers wait for the store side by side"
    advice = {"read": waits, "score": cores, "write": waits}
    return _judged(facts, kinds, words, advice)


def fused(facts: JobFacts, name: str, *, streams: bool) -> Verdict:
    """What bounded a fusion: stages `read`, `fit`, `fuse` and `write`."""
    kinds: dict[str, Kind] = {"read": "io", "fit": "fit", "fuse": "join", "write": "io"}
    words = {
        "read": "bound by reading scores",
        "fit": "bound by the fit",
        "fuse": "bound by joining and fusing",
        "write": "bound by writing scores",
    }
    engine = f"fuse.{name}.engine"
    cores = more_cores(joined=facts.joined)
    other = cores if streams else f"{engine}=stream has it done in parts, side by side"
    read = f"{engine}=memory reads every row once, where all of them fit" if streams else other
    fit = "it is done on a bounded sample, and more clips cost no more of it"
    found = _judged(facts, kinds, words, {"read": read, "fit": fit, "fuse": other, "write": other})
    return replace(found, advice="") if found.kind == "fit" else found


def trained(facts: Trainer) -> Verdict:
    """What bounded the training of a system: its examples, its network, or what judges it."""
    compute_s = max(0.0, facts.epochs_s - facts.ingest_s - facts.judge_s)
    spent: dict[Kind, float] = {
        "ingest": facts.ingest_s,
        "compute": compute_s,
        "judge": facts.judge_s,
    }
    whole = sum(spent.values()) or 1.0
    shares: dict[str, float] = {one: seconds / whole for one, seconds in spent.items()}
    kind: Kind = max(spent, key=lambda one: spent[one])
    if facts.start_s > facts.epochs_s:
        text = f"the start took {facts.start_s:.1f} s, the epochs {facts.epochs_s:.1f} s"
        advice = "more epochs, or more heads in one recipe, cost no more of it"
        return Verdict("start", shares, None, f"{text}; {advice}", advice)
    words = {
        "ingest": "bound by the examples, which the network waited for",
        "compute": "bound by the network",
        "judge": "bound by judging on val",
    }
    advice = _faster_training(facts, kind)
    text = f"{words[kind]} ({_told(shares, _TRAINING)})"
    return Verdict(kind, shares, None, f"{text}; {advice}" if advice else text, advice)


_TRAINING = {"ingest": "examples", "compute": "network", "judge": "val"}


def _faster_training(facts: Trainer, kind: Kind) -> str:
    if kind == "ingest" and facts.streams:
        return (
            f"{facts.place}.ingest=memory on a machine with {facts.needs_gb:.1f} GB to spare, or "
            f"{facts.place}.workers=2 to read side by side"
        )
    if kind == "ingest":
        return f"try a larger {facts.place}.batch_size: fewer, larger pieces are taken"
    if kind == "judge":
        return "a smaller share of val in manifest.splits is judged sooner"
    if not facts.on_gpu and not facts.gains:
        return f"try a larger {facts.place}.batch_size: an epoch has fewer steps"
    if not facts.on_gpu:
        return f"try {facts.place}.gpus_per_worker=1 on a machine with a GPU"
    return "" if facts.bfloat16 else f"try {facts.place}.precision=bfloat16"


def _judged(
    facts: JobFacts, kinds: Mapping[str, Kind], words: Mapping[str, str], advice: Mapping[str, str]
) -> Verdict:
    busy = sum(facts.seconds.values())
    capacity = max(facts.work_s * facts.workers, busy)
    shares = {stage: spent / capacity for stage, spent in facts.seconds.items()} if busy else {}
    shares[WAIT] = 1 - sum(shares.values())
    if facts.start_s > facts.work_s:
        text = f"the start took {facts.start_s:.1f} s, the work {facts.work_s:.1f} s"
        return Verdict("start", shares, None, f"{text}; {MORE_CLIPS}", MORE_CLIPS)
    slowest = max(shares, key=lambda stage: shares[stage])
    told = _told(shares, {WAIT: "waiting"})
    if slowest == WAIT:
        few = facts.items < MANY_ITEMS * facts.workers
        why = f": {_shards(facts.items)} too few to share out" if few else ""
        return Verdict("scheduler", shares, None, f"workers waited most of the time ({told}){why}")
    text = f"{words[slowest]} ({told}); {advice[slowest]}"
    return Verdict(kinds[slowest], shares, None, text, advice[slowest])


def _shards(number: int) -> str:
    return "1 shard is" if number == 1 else f"{number} shards are"


def _told(shares: Mapping[str, float], names: Mapping[str, str]) -> str:
    """Shares in words, the largest first."""
    parts: Sequence[tuple[float, str]] = sorted(
        ((share, stage) for stage, share in shares.items() if share >= 0.005), reverse=True
    )
    return ", ".join(f"{names.get(stage, stage)} {share:.0%}" for share, stage in parts)
