"""Values of the patches of a clip, which may overlap, on one axis of time.

Shapes: P patches, F frames of a patch, M bands, T frames of the clip.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from audioflow.backbones.base import Spectrum


@dataclass(frozen=True)
class Cells:
    """Rectangles of a clip: in which one every frame of every patch is (P, F), counted in time, and
    every band (M,), counted in frequency; and how many there are of both."""

    times_PF: Tensor
    bands_M: Tensor
    counts: tuple[int, int]


@dataclass(frozen=True)
class ClipGrid:
    """Where every frame of every patch lies in the clip.

    places_PF: the frame of the clip that each is. start_s, hop_s: the middle of the clip's first
    frame and the distance of frames, in seconds. bands_hz: (M,) the middle of every band.
    """

    places_PF: NDArray[np.int64]
    start_s: float
    hop_s: float
    bands_hz: tuple[float, ...]

    @classmethod
    def of(cls, patch_start_s: NDArray[np.float64], num_frames: int, axes: Spectrum) -> "ClipGrid":
        """Frames that lie less than half a frame apart are one."""
        times_PF = patch_start_s[:, None] + axes.first_s + axes.frame_s * np.arange(num_frames)
        start_s = float(times_PF.min())
        places = np.rint((times_PF - start_s) / axes.frame_s).astype(np.int64)
        return cls(places, start_s, axes.frame_s, axes.bands_hz)

    @property
    def num_frames(self) -> int:
        """T."""
        return int(self.places_PF.max()) + 1

    def summed(self, values_PFM: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, M): what all patches have at a time, together; the sum of all stays what it was."""
        found = np.zeros((self.num_frames, values_PFM.shape[2]), np.float64)
        np.add.at(found, self.places_PF, values_PFM)
        return found.astype(np.float32)

    def averaged(self, values_PFM: NDArray[np.float32]) -> NDArray[np.float32]:
        """(T, M): the mean of what patches have at a time; NaN where there is none."""
        count = np.bincount(self.places_PF.ravel(), minlength=self.num_frames).astype(np.float32)
        total = self.summed(values_PFM)
        gap = np.full_like(total, np.nan)
        return np.divide(total, count[:, None], out=gap, where=count[:, None] > 0)

    def cells(self, span_frames: int, span_bands: int) -> "Cells":
        """The clip divided into rectangles of so many frames and bands."""
        counts = -(-self.num_frames // span_frames), -(-len(self.bands_hz) // span_bands)
        times_PF = torch.from_numpy(self.places_PF // span_frames)
        return Cells(times_PF, torch.arange(len(self.bands_hz)) // span_bands, counts)
