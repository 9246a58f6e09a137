"""What the front of a server asks its scorers."""

from collections.abc import Sequence
from dataclasses import dataclass

from audioflow.media.parts import Part

FRONT, SCORER = "front", "scorer"
"""The names of the two deployments."""


@dataclass(frozen=True)
class Asked:
    """A clip to be scored: its id, what was decoded of it, and until when (`time.time`) somebody
    waits for its scores."""

    clip_id: str
    parts: Sequence[Part]
    until: float
