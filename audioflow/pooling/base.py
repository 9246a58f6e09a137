"""What every pooling offers.

Shapes: B clips, P patches of a clip, D width of an embedding, K columns of what is pooled (D, or C
classes).
"""

from typing import Any, ClassVar, Literal, Protocol

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from audioflow.embeddings import LayerRows
from audioflow.registry import Settings

On = Literal["embeddings", "logits", "scores"]
"""What is pooled: the patches' vectors before the head, or what the head makes of every patch."""


class PoolModule(Protocol):
    """A pooling in a network."""

    def __call__(self, values_BPK: Tensor, vectors_BPD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, K) from what is pooled, the embeddings it came of, and where there is a patch.

        Every clip has a patch; what stands elsewhere does not count.
        """
        ...


class Pooling(Protocol):
    """Patches to clip.

    on: what this pooling can be used on, the usual first. learned: whether it has parameters, and
    so cannot be applied before training.
    """

    Settings: ClassVar[type[Settings]]
    on: ClassVar[tuple[On, ...]]
    learned: ClassVar[bool]

    def __init__(self, settings: Any) -> None: ...

    def width(self, layer_width: int) -> int:
        """Length of a clip's vector where embeddings are pooled."""
        ...

    def module(self, width: int, num_columns: int) -> nn.Module:
        """A `PoolModule` for embeddings of this width and K columns to be pooled."""
        ...


class FixedPooling(Pooling, Protocol):
    """One that has nothing to learn: on embeddings it is applied as they are read."""

    def pool(self, rows: LayerRows) -> NDArray[np.float32]:
        """(sum of P, D) -> (B, width) float32."""
        ...
