"""What every torch head offers.

Shapes: B clips of a batch, D width of their vectors, C classes.
"""

from typing import Any, ClassVar, Protocol

from torch import nn

from audioflow.registry import Settings


class Head(Protocol):
    """A classifier on clip vectors."""

    Settings: ClassVar[type[Settings]]

    def __init__(self, settings: Any) -> None: ...

    def build(self, width: int, num_classes: int) -> nn.Module:
        """A fresh module: normalised float32 (B, D) -> logits (B, C)."""
        ...
