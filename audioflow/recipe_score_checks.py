"""Checks of what a recipe says about scoring, against the rest of it."""

from collections.abc import Iterator

from audioflow.errors import Fault
from audioflow.recipe_splits import SPLITS
from audioflow.recipe_uses import Values, items, mapping


def score_needs(data: Values) -> tuple[str, ...]:
    """The sections that the job score reads, its own last."""
    if mapping(data, "systems"):
        return "embed", "systems", "score"
    if mapping(data, "score", "heads"):
        return "embed", "score"
    if mapping(data, "score", "imports"):
        return ("score",)
    return "embed", "systems", "score"


def fuse_needs(data: Values) -> tuple[str, ...]:
    """The sections that the job fuse reads, its own last."""
    foreign = mapping(data, "score", "heads") or mapping(data, "score", "imports")
    return ("fuse",) if foreign else ("systems", "fuse")


def scored_names(data: Values) -> list[str]:
    """The names of all score tables but the fused ones."""
    places = (("systems",), ("tune",), ("score", "heads"), ("score", "imports"))
    return [name for place in places for name in mapping(data, *place)]


def score_faults(data: Values) -> list[Fault]:
    """Tables that would be made twice, and clips that cannot be scored as they are to be."""
    return [*_twice(data), *_without_media(data), *_without_variants(data)]


def _twice(data: Values) -> Iterator[Fault]:
    known = [*mapping(data, "systems"), *mapping(data, "tune")]
    for kind in ("heads", "imports"):
        for name in mapping(data, "score", kind):
            if name in known:
                problem = f"there is a system {name!r} already; give this one another name"
                yield Fault(f"score.{kind}.{name}", problem, name)
            known.append(name)


def _without_media(data: Values) -> Iterator[Fault]:
    """Systems on vectors that no backbone makes, where media are to be scored."""
    if mapping(data, "score").get("source") != "media":
        return
    for name, system in items(data, "systems"):
        table = system.get("backbone")
        if isinstance(table, str) and table in mapping(data, "embed", "imports"):
            problem = f"media cannot be scored by {name!r}: its vectors are imported ({table})"
            yield Fault("score.source", problem, "media", "embeddings")


def _without_variants(data: Values) -> Iterator[Fault]:
    """A mean over variants of clips that have none."""
    if mapping(data, "score").get("variants") != "mean":
        return
    augment = mapping(data, "embed", "augment")
    if not augment.get("variants"):
        problem = "'mean' has nothing to average: embed.augment makes no variants"
        yield Fault("score.variants", problem, "mean", "recorded, or embed.augment beside it")
        return
    made, scored = augment.get("splits", ["train"]), mapping(data, "score").get("splits")
    scored = ["val", "test"] if scored is None else scored
    folded = mapping(data, "manifest", "splits").get("folds") is not None
    if not isinstance(made, list) or not isinstance(scored, list):
        return
    if not set(map(str, scored)) & set(map(str, made)) and not (folded and "train" in made):
        wanted = ", ".join(split for split in SPLITS if split in scored)
        problem = f"'mean' has nothing to average: no clip of {wanted} has variants"
        yield Fault("score.variants", problem, "mean", "recorded, or embed.augment.splits")
