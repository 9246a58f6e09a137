"""`mfcc_bof`: bag of frames, the share of every word of a codebook among a clip's MFCC.

The audio baseline of CMU 11-775 (after openSMILE, k-means and a histogram): each 10 ms frame is 39
numbers (`frontend/mfcc.py`), becomes the nearest of 50 cluster centres, and a clip is the histogram
of these, divided by the number of its frames.

Shapes: P patches, T samples of a patch, L frames, K clusters.
"""

from collections.abc import Mapping
from typing import Literal, Self

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from audioflow.backbones.network import fill
from audioflow.frontend.mfcc import SAMPLE_RATE_HZ, WIDTH, WINDOW, mfcc_0_d_a
from audioflow.media.patches import Patching, Short
from audioflow.registry import Settings
from audioflow.weights import WeightsName

_FRAMES_AT_ONCE = 65_536


class MfccBofSettings(Settings):
    """codebook: file with the cluster centres, as `audioflow weights codebook` writes it.

    A codebook belongs to a data set, so there is no public one. clusters: how many centres it has.
    output: `bag` gives the histogram as layer `embedding`; `frames` needs no codebook and gives the
    39 numbers of every frame as layer `frames`. short: what clips get that are shorter than one
    frame (25 ms). seed: of the centres, where codebook is `random`.
    """

    codebook: WeightsName | None = None
    clusters: int = Field(50, ge=2, le=65_536)
    output: Literal["bag", "frames"] = "bag"
    short: Short = "pad"
    seed: int = Field(0, ge=0, lt=2**32)

    @model_validator(mode="after")
    def _codebook_where_needed(self) -> Self:
        if self.output == "bag" and self.codebook is None:
            raise ValueError(
                "codebook is missing, and a bag of frames counts its words: make one with "
                "`audioflow weights codebook RECIPE --out codebook.safetensors` and name that "
                "file, or give output: frames for the MFCC themselves"
            )
        if self.output == "frames" and self.codebook is not None:
            raise ValueError(
                f"codebook ({self.codebook}) says nothing with output: frames: leave it out, or "
                "give output: bag"
            )
        return self


class MfccBof:
    """Histograms of quantised MFCC, or the MFCC."""

    Settings = MfccBofSettings
    revision = 1
    known = ()

    def __init__(self, settings: MfccBofSettings) -> None:
        self._settings = settings
        self._centres: Tensor | None = None

    @property
    def input(self) -> Patching:
        least_s = WINDOW / SAMPLE_RATE_HZ
        return Patching(SAMPLE_RATE_HZ, least_s, least_s, self._settings.short, whole=True)

    @property
    def layers(self) -> Mapping[str, int]:
        if self._settings.output == "frames":
            return {"frames": WIDTH}
        return {"embedding": self._settings.clusters}

    def to(self, device: torch.device) -> None:
        """Load the codebook, if there is one.

        Raises `WeightsError` where its centres are not (clusters, 39).
        """
        settings = self._settings
        if settings.codebook is not None:
            module = Centres(settings.clusters)
            fill(module, settings.codebook, settings.seed)
            self._centres = module.centres.to(device)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) at 16 kHz -> {"embedding": float32 (P, K)} or {"frames": (P, L, 39)}."""
        frames_PLC = mfcc_0_d_a(batch)
        if self._settings.output == "frames":
            return {"frames": frames_PLC.float()}
        assert self._centres is not None, "to() comes first"
        return {"embedding": bags(frames_PLC, self._centres)}


class Centres(nn.Module):
    """The tensors of a codebook file."""

    centres: Tensor

    def __init__(self, clusters: int) -> None:
        super().__init__()
        self.register_buffer("centres", torch.zeros(clusters, WIDTH, dtype=torch.float64))


def bags(frames_PLC: Tensor, centres_KC: Tensor) -> Tensor:
    """float64 frames and centres -> float32 (P, K): the share of frames nearest to each centre."""
    count, length, _ = frames_PLC.shape
    # Without the frame's own square, which is the same for all centres.
    squares_K = centres_KC.square().sum(dim=1)
    words = [
        (squares_K - 2 * (part @ centres_KC.T)).argmin(dim=1)
        for part in torch.split(frames_PLC.flatten(0, 1), _FRAMES_AT_ONCE)
    ]
    words_PL = torch.cat(words).reshape(count, length)
    bags_PK = torch.zeros(count, len(centres_KC), device=frames_PLC.device)
    bags_PK.scatter_add_(1, words_PL, torch.ones_like(words_PL, dtype=torch.float32))
    return bags_PK / length
