"""What a client gets: the scores of a clip as JSON.

Shapes: C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

PROBABLE = 0.5
"""Where several classes may be heard at once and no thresholds were fitted."""


@dataclass(frozen=True)
class About:
    """What is served, for whoever asks.

    fingerprint: of the table of the head, or of the fused table; "" where there is none. untrained:
    backbones whose weights are random. backbones: their names in the registry.
    """

    system: str
    classes: tuple[str, ...]
    multi_label: bool
    fingerprint: str
    systems: tuple[str, ...]
    backbones: tuple[str, ...]
    variants: int
    untrained: tuple[str, ...] = ()


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
    scores: list[float] = scored.scores.astype(float).tolist()
    best = int(np.argmax(scored.scores))
    found: dict[str, Any] = {"label": best, "probability": scores, "class": about.classes[best]}
    if about.multi_label:
        above = scored.above
        if above is None:
            above = [name for name, p in zip(about.classes, scores, strict=True) if p >= PROBABLE]
        found["label"] = [place for place, name in enumerate(about.classes) if name in above]
        found["class"] = [about.classes[place] for place in found["label"]]
    found |= {"classes": list(about.classes), "score": scores[best]}
    if scored.above is not None:
        found["above_threshold"] = list(scored.above)
    if scored.systems is not None:
        found["available"] = list(scored.systems)
    found |= {"system": about.system, "duration_s": round(scored.duration_s, 6)}
    found["coverage"] = round(scored.coverage, 6)
    if about.untrained:
        found["untrained"] = list(about.untrained)
    return found
