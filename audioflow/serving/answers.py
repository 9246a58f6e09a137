"""What a client gets: the scores of a clip as JSON.

Shapes: C classes.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.errors import InputError
from audioflow.registry import nearest

PROBABLE = 0.5
"""Where several classes may be heard at once and no thresholds were fitted."""


@dataclass(frozen=True)
class About:
    """What is served, for whoever asks.

    fingerprint: of the table of the head, or of the fused table; "" where there is none. untrained:
    backbones whose weights are random. backbones: their names in the registry. shown: the classes
    in the order in which answers have them, where that is another.
    """

    system: str
    classes: tuple[str, ...]
    multi_label: bool
    fingerprint: str
    systems: tuple[str, ...]
    backbones: tuple[str, ...]
    variants: int
    untrained: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()


def in_order(about: About, classes: Sequence[str]) -> About:
    """With answers that have the classes in this order.

    Raises `InputError` unless every class is named, once.
    """
    for name in classes:
        if name not in about.classes:
            hint = nearest(name, about.classes)
            raise InputError(
                f"--classes: {about.system!r} has no class {name!r}; its classes are "
                f"{', '.join(about.classes)}" + (f"; did you mean {hint!r}?" if hint else "")
            )
    counts = Counter(classes)
    for name in about.classes:
        if counts[name] != 1:
            often = "is missing" if not counts[name] else f"stands {counts[name]} times"
            raise InputError(f"--classes: {name!r} {often}; name each class of the head once")
    return replace(about, shown=tuple(classes))


@dataclass(frozen=True)
class Scored:
    """The scores (C,) of one clip; above: the classes that reach their thresholds, where there are
    any. systems: those that scored it, of a fused one."""

    scores: NDArray[np.float32]
    duration_s: float
    coverage: float
    above: Sequence[str] | None = None
    systems: Sequence[str] | None = None


def answer(about: About, scored: Scored) -> dict[str, Any]:
    """The answer: `label` and `probability`, and what these mean in words.

    `label` is the place of the best class; a list of places (which may be empty) where several
    classes may be there at once: those that reach their thresholds, or 0.5.
    """
    classes = about.shown or about.classes
    values = scored.scores[[about.classes.index(name) for name in classes]]
    scores: list[float] = values.astype(float).tolist()
    best = int(np.argmax(values))
    found: dict[str, Any] = {"label": best, "probability": scores, "class": classes[best]}
    if about.multi_label:
        above = scored.above
        if above is None:
            above = [name for name, p in zip(classes, scores, strict=True) if p >= PROBABLE]
        found["label"] = [place for place, name in enumerate(classes) if name in above]
        found["class"] = [classes[place] for place in found["label"]]
    found |= {"classes": list(classes), "score": scores[best]}
    if scored.above is not None:
        found["above_threshold"] = list(scored.above)
    if scored.systems is not None:
        found["available"] = list(scored.systems)
    found |= {"system": about.system, "duration_s": round(scored.duration_s, 6)}
    found["coverage"] = round(scored.coverage, 6)
    if about.untrained:
        found["untrained"] = list(about.untrained)
    return found
