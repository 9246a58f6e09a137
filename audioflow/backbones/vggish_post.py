"""What became of VGGish embeddings in AudioSet's release: PCA, clipped, in 8 bits.

Shapes: P patches, D = 128.
"""

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioflow.backbones.network import fill

Postprocess = Literal["none", "uint8", "float"]

LIMIT = 2.0
"""Components are clipped to +-2, so that 256 steps cover them."""
STEPS = 255.0


class Post(nn.Module):
    """PCA with whitening, clipped to [-2, 2] and stretched to [0, 255].

    kind: `uint8` cuts off what is behind the point, as Google does; `float` rounds, as torchvggish
    does: the two differ by one in half of the cases. Computed in float64, as by Google: a value
    next to a whole number would fall to the wrong side else.
    """

    def __init__(self, kind: Postprocess, width: int = 128) -> None:
        super().__init__()
        self._kind = kind
        self.register_buffer("pca_eigen_vectors", torch.zeros(width, width, dtype=torch.float64))
        self.register_buffer("pca_means", torch.zeros(width, dtype=torch.float64))

    def load(self, weights: str, seed: int) -> None:
        """Raises `WeightsError` where the file holds no PCA of this width."""
        fill(self, weights, seed, renamed_pca)

    def forward(self, embedding_PD: Tensor) -> Tensor:
        """float32 (P, 128) -> float32 (P, 128), whole numbers in [0, 255]."""
        assert isinstance(self.pca_eigen_vectors, Tensor)
        assert isinstance(self.pca_means, Tensor)
        turned = (embedding_PD.double() - self.pca_means) @ self.pca_eigen_vectors.T
        stretched = (turned.clamp(-LIMIT, LIMIT) + LIMIT) * (STEPS / (2 * LIMIT))
        whole = stretched.floor() if self._kind == "uint8" else stretched.round()
        return whole.float()


def renamed_pca(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of Google's `.npz`, of torchvggish's `.pth`, or of a whole torchvggish model.

    The means are a vector in the first two, a column in the last.
    """
    found = {name.removeprefix("pproc."): values for name, values in tensors.items()}
    found = {name: values for name, values in found.items() if name.startswith("pca_")} or found
    means = found.get("pca_means")
    if means is not None and means.ndim == 2 and 1 in means.shape:
        found["pca_means"] = np.asarray(means).reshape(-1)
    return found
