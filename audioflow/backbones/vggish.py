"""`vggish`: Google's VGGish, 128 numbers per 0.96 s of sound (Hershey et al. 2017).

The front end is in `frontend/logmel.py`; the network is VGG-A without its last group of
convolutions; what AudioSet's release did to the embeddings is in `vggish_post.py`.

Shapes: P patches, T samples of a patch, F = 96 frames, M = 64 mel bands, D width.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill, unfilled
from audioflow.backbones.vggish_post import Post, Postprocess
from audioflow.frontend import to_float
from audioflow.frontend.logmel import VGGISH, log_mel
from audioflow.media.patches import Patching, Short
from audioflow.weights import KnownWeights, WeightsName

Layer = Literal["fc1_1", "fc1_2", "embedding"]
WIDTHS: Mapping[str, int] = {"fc1_1": 4096, "fc1_2": 4096, "embedding": 128}
FRAMES_PER_PATCH = 96
PATCH_SAMPLES = VGGISH.samples_of(FRAMES_PER_PATCH)
"""0.975 s: what the frames of a patch see, though patches lie 0.96 s apart."""
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

_CITATION = (
    "Hershey et al., CNN Architectures for Large-Scale Audio Classification, ICASSP 2017; "
    "Gemmeke et al., Audio Set, ICASSP 2017"
)
PCA = "audioset-pca"


class VGGishSettings(NetworkSettings):
    """weights: `torchvggish`, `tensorflow` or `torchaudio` (the same numbers), or a file of them.

    layers: `embedding` (128), and the two fully connected layers before it, after their ReLU
    (4096 each; they are called as in TensorFlow).
    final_relu: a ReLU after the 128 numbers. All code before August 2020 has it, and so have
    torchvggish and torchaudio, hence most published results with these weights, and it is the
    default. Google has left it away since then (tensorflow/models#9080), for AudioSet's released
    embeddings were made without it: to get what is like these, give `false`, above all with
    `postprocess` (with the ReLU its last number is always 255).
    postprocess: `uint8` and `float` turn embeddings by the PCA of AudioSet's release and stretch
    them to 0 ... 255, cut off as Google does or rounded as torchvggish does. pca: the file of it.
    hop_s: distance of patches; a patch is 0.975 s. short: what shorter clips get.
    """

    weights: WeightsName = "torchvggish"
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(("embedding",), min_length=1)
    final_relu: bool = True
    postprocess: Postprocess = "none"
    pca: WeightsName | None = None
    hop_s: float = Field(0.96, ge=0.01, le=60)
    short: Short = "pad"

    @model_validator(mode="before")
    @classmethod
    def _pca(cls, data: Any) -> Any:
        """The public PCA is used where it is wanted and no other is named."""
        if not isinstance(data, dict):
            return data
        wanted = data.get("postprocess", "none") != "none"
        if not wanted and data.get("pca") is not None:
            raise ValueError(
                f"pca ({data['pca']}) is for postprocess, which is none: give postprocess "
                "uint8 or float, or leave pca out"
            )
        return data | {"pca": PCA} if wanted and data.get("pca") is None else data

    @model_validator(mode="after")
    def _embedding_for_post(self) -> "VGGishSettings":
        if self.postprocess != "none" and "embedding" not in self.layers:
            raise ValueError(
                f"postprocess ({self.postprocess}) works on the layer embedding, which is not "
                f"among layers ({', '.join(self.layers)}): add it, or give postprocess none"
            )
        return self


class VGGish:
    """VGGish, from any of its public weight files."""

    Settings = VGGishSettings
    revision = 1
    patches_on_cpu = 64  # its fully connected layers are 220 MB, read once per batch
    known = (
        KnownWeights(
            "torchvggish",
            "https://github.com/harritaylor/torchvggish/releases/download/v0.1/vggish-10086976.pth",
            "Apache-2.0",
            _CITATION,
            sha256="10086976",
            note="Google's weights as converted by torchvggish; the PCA is another file",
        ),
        KnownWeights(
            "tensorflow",
            "https://storage.googleapis.com/audioset/vggish_model.ckpt",
            "Apache-2.0",
            _CITATION,
            note="Google's own checkpoint, of TensorFlow's first format",
        ),
        KnownWeights(
            "torchaudio",
            "https://download.pytorch.org/torchaudio/models/vggish.pt",
            "Apache-2.0",
            _CITATION,
            note="Google's weights as in torchaudio's prototype pipeline",
        ),
        KnownWeights(
            PCA,
            "https://storage.googleapis.com/audioset/vggish_pca_params.npz",
            "Apache-2.0",
            _CITATION,
            sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
            size_bytes=73_020,
            note="for postprocess",
        ),
        KnownWeights(
            "torchvggish-pca",
            "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
            "vggish_pca_params-970ea276.pth",
            "Apache-2.0",
            _CITATION,
            sha256="970ea276",
            note="for postprocess; the same numbers, from torchvggish",
        ),
    )

    def __init__(self, settings: VGGishSettings) -> None:
        self._settings = settings
        self._network: Network | None = None
        self._post: Post | None = None

    @property
    def input(self) -> Patching:
        rate_hz = VGGISH.sample_rate_hz
        told = self._settings
        return Patching(rate_hz, PATCH_SAMPLES / rate_hz, told.hop_s, told.short)

    @property
    def layers(self) -> Mapping[str, int]:
        return {name: WIDTHS[name] for name in self._settings.layers}

    def to(self, device: torch.device) -> None:
        """Load the weights, and the PCA where it is wanted."""
        settings = self._settings
        self._network = Network(self._filled(), device, settings)
        if settings.postprocess != "none":
            assert settings.pca is not None
            self._post = Post(settings.postprocess)
            self._post.load(settings.pca, settings.seed)
            self._post.to(device)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, 15600) at 16 kHz -> the wanted layers, float32 (P, D)."""
        assert self._network is not None, "to() comes first"
        found: dict[str, Tensor] = self._network(log_mel(to_float(batch), VGGISH)[:, None])
        layers: dict[str, Tensor] = {name: found[name] for name in self._settings.layers}
        if self._post is not None:
            layers["embedding"] = self._post(layers["embedding"])
        return layers

    def trunk(self) -> nn.Module:
        """The network with its front end as a module to be trained further.

        Patches, int16 or float32 in [-1, 1] (P, T), T at least 15600 -> float32 (P, 128) with
        gradients, of the first 96 frames; the weights are those of the settings. `final_relu`
        holds. Raises `ValueError` where the settings ask for post-processing, which has no useful
        gradient.
        """
        if self._settings.postprocess != "none":
            raise ValueError(
                f"postprocess {self._settings.postprocess} rounds, so nothing before it could "
                "learn; a trunk takes postprocess none"
            )
        return Trunk(self._filled())

    def _filled(self) -> "Net":
        with unfilled():
            net = Net(self._settings.final_relu)
        fill(net, self._settings.weights, self._settings.seed, renamed)
        return net


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


class Trunk(nn.Module):
    """VGGish from waveforms to embeddings, with gradients."""

    def __init__(self, net: Net) -> None:
        super().__init__()
        self.net = net

    def forward(self, patches_PT: Tensor) -> Tensor:
        """int16 or float32 (P, T) -> (P, 128)."""
        waveform = patches_PT if patches_PT.is_floating_point() else to_float(patches_PT)
        log_mel_PFM = log_mel(waveform[:, :PATCH_SAMPLES], VGGISH)
        embedding: Tensor = self.net(log_mel_PFM[:, None])["embedding"]
        return embedding


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of any circulating file, named and shaped as in `Net`.

    torchvggish: `features.0.weight`, ..., perhaps with the PCA as `pproc.`; torchaudio:
    `features_network.0.weight`; TensorFlow: `vggish/conv1/weights`, kernels (kH, kW, in, out) and
    matrices (in, out).
    """
    if any(name.startswith("vggish/") for name in tensors):
        return _from_tensorflow(tensors)
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
