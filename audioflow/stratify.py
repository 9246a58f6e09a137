"""Whole groups of clips into parts, so that every class is divided as the parts' shares say.

A greedy form of iterative stratification (Sechidis et al., On the Stratification of Multi-Label
Data, ECML PKDD 2011): the classes that the fewest groups have come first.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping

ATTEMPTS = 20

Groups = Mapping[str, Counter[str]]
"""Group -> how many of its clips have each class."""


def divide(groups: Groups, shares: Mapping[str, float], seed: int) -> dict[str, str]:
    """The part of every group; the same for a seed, whatever the order of `groups`.

    shares: part -> its share of the clips, more than 0; they need not add up to 1. Where groups
    have several classes, some class may still miss a part (see `missing`); several divisions are
    tried then, and the one that misses least is returned.
    """
    best: dict[str, str] = {}
    least = None
    for attempt in range(ATTEMPTS):
        parts = _attempt(groups, shares, f"{seed}/{attempt}")
        _mend(groups, parts, shares)
        count = sum(map(len, missing(groups, parts, shares).values()))
        if least is None or count < least:
            best, least = parts, count
        if not least:
            break
    return best


def missing(
    groups: Groups, parts: Mapping[str, str], shares: Mapping[str, float]
) -> dict[str, list[str]]:
    """The parts that lack a class, by class; only classes that lack some."""
    found: dict[str, set[str]] = {}
    for group, labels in groups.items():
        for label in labels:
            found.setdefault(label, set()).add(parts[group])
    lacks = {label: [part for part in shares if part not in has] for label, has in found.items()}
    return {label: parts for label, parts in sorted(lacks.items()) if parts}


def _attempt(groups: Groups, shares: Mapping[str, float], salt: str) -> dict[str, str]:
    spread = Counter(label for labels in groups.values() for label in labels)
    rarest = {
        group: min(labels, key=lambda label: (spread[label], label), default="")
        for group, labels in groups.items()
    }
    order = {group: _hash(salt, group) for group in groups}

    def turn(group: str) -> tuple[int, str, int, int]:
        # Groups of about the same size in an order of chance, the large ones first.
        size = groups[group].total().bit_length()
        return spread[rarest[group]], rarest[group], -size, order[group]

    have: dict[str, Counter[str]] = {part: Counter() for part in shares}
    totals = dict.fromkeys(shares, 0)
    chosen: dict[str, str] = {}
    for group in sorted(groups, key=turn):
        labels, first, size = groups[group], rarest[group], groups[group].total()
        best: tuple[float, ...] = ()
        for index, (part, share) in enumerate(shares.items()):
            own = have[part]
            # How full the part would be, half of the group counted: the rounding of Sainte-Lague,
            # which favours neither large nor small parts.
            same = sum((own[label] + count / 2) * count for label, count in labels.items())
            fill = (
                own[first] > 0,
                round((own[first] + labels[first] / 2) / share, 6),
                round(same / share, 6),
                round((totals[part] + size / 2) / share, 6),
                (index + order[group]) % len(shares),
            )
            if not best or fill < best:
                best, chosen[group] = fill, part
        have[chosen[group]].update(labels)
        totals[chosen[group]] += size
    return chosen


def _mend(groups: Groups, parts: dict[str, str], shares: Mapping[str, float]) -> None:
    """Move groups, small ones first, to parts that lack their classes, while that helps."""
    have = {part: Counter[str]() for part in shares}
    for group, part in parts.items():
        have[part].update(list(groups[group]))
    lacking = missing(groups, parts, shares)
    if not lacking:
        return
    candidates = sorted(
        (group for group, labels in groups.items() if lacking.keys() & labels.keys()),
        key=lambda group: (groups[group].total(), group),
    )
    for group in candidates:
        here, labels = parts[group], groups[group]
        lost = sum(have[here][label] == 1 for label in labels)
        gains = {part: sum(not have[part][label] for label in labels) for part in shares}
        there = max(shares, key=lambda part: gains[part])
        if gains[there] > lost:
            parts[group] = there
            have[here].subtract(list(labels))
            have[there].update(list(labels))


def _hash(salt: str, group: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}/{group}".encode()).digest()[:8], "big")
