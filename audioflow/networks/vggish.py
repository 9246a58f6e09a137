"""VGGish's network, and the weight files of it that circulate (Hershey et al. 2017).

VGG-A without its last group of convolutions, and without batch normalisation: 72,141,184 numbers.

Shapes: P patches, F = 96 frames, M = 64 mel bands, C channels, H and W size of a picture.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from audioflow.weights import KnownWeights

WIDTHS: Mapping[str, int] = {"fc1_1": 4096, "fc1_2": 4096, "embedding": 128}
FRAMES_PER_PATCH = 96
NUM_MELS = 64
FLAT = 6 * 4 * 512
"""Time, frequency, channels: the order in which the last pictures are flattened."""

_CONVOLUTIONS = (64, 0, 128, 0, 256, 256, 0, 512, 512, 0)
"""Channels of every 3 x 3 convolution; 0 is a max-pooling by two."""
_SCOPES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3/conv3_1": "features.6",
    "conv3/conv3_2": "features.8",
    "conv4/conv4_1": "features.11",
    "conv4/conv4_2": "features.13",
    "fc1/fc1_1": "embeddings.0",
    "fc1/fc1_2": "embeddings.2",
    "fc2": "embeddings.4",
}
"""Name in TensorFlow, below `vggish/` -> name in torchvggish, which is that of the module."""
_KINDS = {"weights": "weight", "biases": "bias"}
_WITHIN = "feature_extractor."
"""What the names of torchvggish begin with in a network around it."""

CITATION = (
    "Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017; "
    "Gemmeke et al., Audio Set, ICASSP 2017"
)
WEIGHTS = (
    KnownWeights(
        "torchvggish",
        "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
        "Apache-2.0",
        CITATION,
        sha256="10086976",
        note="Google's weights as converted by torchvggish; the PCA is another file",
    ),
    KnownWeights(
        "tensorflow",
        "https://storage.googleapis.com/audioset/vggish_model.ckpt",
        "Apache-2.0",
        CITATION,
        note="Google's own checkpoint, of TensorFlow's first format",
    ),
    KnownWeights(
        "torchaudio",
        "https://download.pytorch.org/torchaudio/models/vggish.pt",
        "Apache-2.0",
        CITATION,
        note="Google's weights as in torchaudio's prototype pipeline",
    ),
)
"""Of the network; the same numbers."""


class Net(nn.Module):
    """Log-mel patches (P, 1, 96, 64) -> the fully connected layers, by name."""

    def __init__(self, final_relu: bool) -> None:
        super().__init__()
        self.features = nn.Sequential(*_features())
        self.embeddings = nn.Sequential(
            nn.Linear(FLAT, 4096),
            nn.ReLU(),
            nn.Linear(4096, 4096),
            nn.ReLU(),
            nn.Linear(4096, 128),
        )
        self._final_relu = final_relu

    def forward(self, log_mel_P1FM: Tensor) -> dict[str, Tensor]:
        pictures_PCHW = self.features(log_mel_P1FM)
        # Channels last, as TensorFlow flattens, whose weights these are.
        flat = pictures_PCHW.permute(0, 2, 3, 1).flatten(1)
        first = self.embeddings[1](self.embeddings[0](flat))
        second = self.embeddings[3](self.embeddings[2](first))
        embedding = self.embeddings[4](second)
        if self._final_relu:
            embedding = embedding.relu()
        return {"fc1_1": first, "fc1_2": second, "embedding": embedding}


def _features() -> list[nn.Module]:
    layers: list[nn.Module] = []
    given = 1
    for channels in _CONVOLUTIONS:
        if channels:
            layers += [nn.Conv2d(given, channels, 3, padding=1), nn.ReLU()]
            given = channels
        else:
            layers.append(nn.MaxPool2d(2))
    return layers


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of any circulating file, named and shaped as in `Net`.

    torchvggish: `features.0.weight`, ..., perhaps with the PCA as `pproc.`; torchaudio:
    `features_network.0.weight`; TensorFlow: `vggish/conv1/weights`, kernels (kH, kW, in, out) and
    matrices (in, out). Of a network that has torchvggish in it as `feature_extractor` (the
    checkpoints of Splend1d/Tomofun-Challenge-Audio-Classificaiton), that part.
    """
    if any(name.startswith("vggish/") for name in tensors):
        return _from_tensorflow(tensors)
    inner = [name for name in tensors if name.startswith(_WITHIN)]
    tensors = {name.removeprefix(_WITHIN): tensors[name] for name in inner} or tensors
    found = {}
    for name, values in tensors.items():
        if not name.startswith("pproc."):
            short = name.replace("features_network.", "features.")
            found[short.replace("embedding_network.", "embeddings.")] = values
    return found


def _from_tensorflow(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    found = {}
    for name, values in tensors.items():
        scope, _, kind = name.removeprefix("vggish/").rpartition("/")
        if scope in _SCOPES and kind in _KINDS:
            turned = np.transpose(values, (3, 2, 0, 1)) if values.ndim == 4 else values.T
            found[f"{_SCOPES[scope]}.{_KINDS[kind]}"] = turned
        elif kind in _KINDS:
            found[name] = values  # of another network: told as a misfit
        # The rest counts steps and belongs to the optimiser.
    return found
