"""The audio network of "Look, Listen and Learn" (Arandjelovic and Zisserman 2017) as OpenL3
(Cramer et al. 2019) and EdgeL3 (Srivastava et al.) have it, and the tensors of their files.

Shapes: P patches, T samples of a patch, M bands, F frames, K frequency bins, D width.
"""

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from audioflow.backbones.folding import fold
from audioflow.frontend import decibel, mel_filters, power_spectrogram
from audioflow.media.patches import Patching, Short

KERAS_EPSILON = 1e-3
DYNAMIC_RANGE_DB = 80.0
_POOLED_AFTER = (2, 4, 6)


class L3(nn.Module):
    """Spectrograms in dB (P, 1, M, F) -> (P, D).

    widths: channels of the eight convolutions. last_pool: bands and frames of the max-pooling at
    the end, whose result is flattened channels last. last_norm: whether normalisation and ReLU
    follow the last convolution, too. Layers are called as in Keras.
    """

    def __init__(
        self, widths: Sequence[int], last_pool: tuple[int, int], *, last_norm: bool
    ) -> None:
        super().__init__()
        self._last_pool, self._last_norm = last_pool, last_norm
        self.add_module("batch_normalization_1", nn.BatchNorm2d(1, KERAS_EPSILON))
        given = 1
        for number, width in enumerate(widths, 1):
            self.add_module(_convolution(number), nn.Conv2d(given, width, 3, padding=1))
            if number < len(widths) or last_norm:
                self.add_module(_norm(number), nn.BatchNorm2d(width, KERAS_EPSILON))
            given = width

    def forward(self, db_P1MF: Tensor) -> Tensor:
        """-> (P, D), D = pooled bands x pooled frames x channels."""
        x: Tensor = self.get_submodule("batch_normalization_1")(db_P1MF)
        for number in range(1, 8):
            x = self.get_submodule(_norm(number))(self.get_submodule(_convolution(number))(x))
            x = x.relu()
            if number in _POOLED_AFTER:
                x = functional.max_pool2d(x, 2)
        x = self.get_submodule(_convolution(8))(x)
        if self._last_norm:
            x = self.get_submodule(_norm(8))(x).relu()
        return functional.max_pool2d(x, self._last_pool).permute(0, 2, 3, 1).flatten(1)

    def fold(self) -> None:
        """Work every normalisation but the first one into the convolution before it."""
        last = 8 if self._last_norm else 7
        fold(self, [(_convolution(number), _norm(number)) for number in range(1, last + 1)])


def _convolution(number: int) -> str:
    return f"conv2d_{number}" if number < 8 else "audio_embedding_layer"


def _norm(number: int) -> str:
    """Of what comes out of a convolution."""
    return f"batch_normalization_{number + 1}"


def patching(rate_hz: int, hop_s: float, short: Short, *, centre: bool) -> Patching:
    """Windows of 1 s whose middle lies at multiples of the hop (`centre`), or whose begin does;
    silence fills the last one, so that every sample is heard."""
    lead_s = 0.5 if centre else 0.0
    return Patching(rate_hz, 1.0, hop_s, short, lead_s=lead_s, tail="pad", exact=True)


def kapre_0_1_mel(waveform_PT: Tensor, n_fft: int, hop: int, rate_hz: int, bands: int) -> Tensor:
    """float32 waveforms (P, T) -> (P, M, F) as Kapre 0.1.4 gives it with `htk=True`.

    Zeros are put on both sides as TensorFlow's `same` does, F = ceil(T / hop). The mel bands sum
    the power, and the root is taken of the sum; HTK's scale, bands of equal area (`norm=1` in
    librosa until 0.7; the matrix inside EdgeL3's file is this one).
    """
    samples = waveform_PT.shape[1]
    lacking = max(0, (-(-samples // hop) - 1) * hop + n_fft - samples)
    padded = functional.pad(waveform_PT, (lacking // 2, lacking - lacking // 2))
    power_PFK = power_spectrogram(padded, n_fft, hop, center=False)
    with warnings.catch_warnings():
        # 256 bands leave the lowest ones without a bin; so it was.
        warnings.filterwarnings("ignore", "At least one mel filterbank")
        mel_KM = mel_filters(n_fft, rate_hz, bands, 0.0, rate_hz / 2, "htk", "slaney")
    return (power_PFK @ mel_KM.to(power_PFK.device)).sqrt().transpose(1, 2)


def relative_db(values_PMF: Tensor) -> Tensor:
    """dB below the loudest value of each patch, at least -80.

    The formula is that of a power although the values are amplitudes: 10 dB per factor of ten.
    """
    db_PMF = decibel(values_PMF)
    return (db_PMF - db_PMF.amax(dim=(1, 2), keepdim=True)).clamp(min=-DYNAMIC_RANGE_DB)


_LAYER = re.compile(
    r"(?:^|[./])(audio_embedding_layer|conv2d|batch_normalization)(?:_(\d+))?[./](\w+)(?::0)?$"
)
_LEAVES = {
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
}
_FRONT_END = re.compile(r"^(?:speclayer\.|(?:model_weights[./])?(?:mel|)spectrogram)")


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors of any circulating file, named and shaped as in `L3`.

    Keras numbers layers on through a session (`conv2d_14/kernel`, or `conv2d/kernel` for the
    first), so they go by their order among their kind; its kernels are (kH, kW, in, out).
    torchopenl3 has names and shapes of `L3` already. Front ends that are stored are left out.
    """
    parts = {name: _LAYER.search(name) for name in tensors}
    numbers: dict[str, set[int]] = {"conv2d": set(), "batch_normalization": set()}
    for part in parts.values():
        if part and part[1] in numbers:
            numbers[part[1]].add(int(part[2] or 0))
    place = {
        kind: {number: rank for rank, number in enumerate(sorted(found), 1)}
        for kind, found in numbers.items()
    }
    found = {}
    for name, values in tensors.items():
        part = parts[name]
        if part is None:
            if not _FRONT_END.match(name):
                found[name] = values
            continue
        kind, number, leaf = part[1], int(part[2] or 0), part[3]
        layer = f"{kind}_{place[kind][number]}" if kind in place else kind
        turned = np.transpose(values, (3, 2, 0, 1)) if leaf == "kernel" else values
        found[f"{layer}.{_LEAVES.get(leaf, leaf)}"] = turned
    return found


def normed(norm: nn.Module, db_PMF: Tensor) -> Tensor:
    """(P, M, F) -> (P, 1, M, F) through the first normalisation.

    In float32 even where the network is not: near -80 dB the steps of bfloat16 are half a dB.
    """
    result: Tensor = norm(db_PMF[:, None].to(torch.float32))
    return result
