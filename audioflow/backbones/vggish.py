"""`vggish`: Google's VGGish, 128 numbers per 0.96 s of sound (Hershey et al. 2017).

The front end is in `frontend/logmel.py`, the network in `networks/vggish.py`; what AudioSet's
release did to the embeddings is in `vggish_post.py`.

Shapes: P patches, T samples of a patch, F = 96 frames, M = 64 mel bands, D width.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones.base import Spectrum, spectrum_of
from audioflow.backbones.network import AS_TUPLE, Network, NetworkSettings, fill, unfilled
from audioflow.backbones.vggish_post import Post, Postprocess
from audioflow.frontend import to_float
from audioflow.frontend.logmel import VGGISH, log_mel
from audioflow.media.patches import Patching, Short
from audioflow.networks.vggish import CITATION, FRAMES_PER_PATCH, WEIGHTS, WIDTHS, Net, renamed
from audioflow.weights import KnownWeights, WeightsName

Layer = Literal["fc1_1", "fc1_2", "embedding"]
PATCH_SAMPLES = VGGISH.samples_of(FRAMES_PER_PATCH)
"""0.975 s: what the frames of a patch see, though patches lie 0.96 s apart."""

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
        *WEIGHTS,
        KnownWeights(
            PCA,
            "https://storage.googleapis.com/audioset/vggish_pca_params.npz",
            "Apache-2.0",
            CITATION,
            sha256="4d878af3e306defbfb37095365aa7e5a6cecb86bad13e859e626151c4e6a8b9d",
            size_bytes=73_020,
            note="for postprocess",
        ),
        KnownWeights(
            "torchvggish-pca",
            "https://github.com/harritaylor/torchvggish/releases/download/v0.1/"
            "vggish_pca_params-970ea276.pth",
            "Apache-2.0",
            CITATION,
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
        return self.from_spectrogram(self.spectrogram(batch))

    @property
    def spectrum(self) -> Spectrum:
        return spectrum_of(VGGISH)

    def spectrogram(self, batch: Tensor) -> Tensor:
        """int16 (P, 15600) -> float32 (P, 96, 64)."""
        return log_mel(to_float(batch), VGGISH)

    def from_spectrogram(self, spectrogram_PFM: Tensor) -> dict[str, Tensor]:
        """float32 (P, 96, 64) -> the wanted layers, float32 (P, D)."""
        assert self._network is not None, "to() comes first"
        found: dict[str, Tensor] = self._network(spectrogram_PFM[:, None])
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
