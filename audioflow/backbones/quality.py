"""`quality`: how much there is to hear in a patch of sound. For the fusion rule `gated`.

Per patch: RMS level and peak in dB of full scale, the share of 10 ms frames below -60 dB, the share
of samples within 2 % of full scale (resampling takes the tops off what was clipped, not much more),
and the mean, which should be 0, as a share of full scale.
"""

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from audioflow.frontend import to_float
from audioflow.media.patches import Patching, Short
from audioflow.registry import Settings

SAMPLE_RATE_HZ = 16_000
FRAME = 160
SILENT_DB = -60.0
CLIPPED = 0.98
TINY = 1e-10
"""Least power: digital silence is at -100 dB."""

NAMES = ("level_db", "peak_db", "silent_share", "clipped_share", "offset")


class QualitySettings(Settings):
    """patch_s, hop_s: length and distance of patches in seconds; short: rule for shorter clips."""

    patch_s: float = Field(1.0, ge=0.1, le=60)
    hop_s: float = Field(1.0, ge=0.01, le=60)
    short: Short = "repeat"


class Quality:
    """Level, silence and clipping of sound."""

    Settings = QualitySettings
    revision = 1
    patches_on_cpu = 64
    known = ()
    COLUMN_NAMES: ClassVar[Mapping[str, tuple[str, ...]]] = {"embedding": NAMES}
    QUALITY = NAMES[:4]

    def __init__(self, settings: QualitySettings) -> None:
        self._patching = Patching(SAMPLE_RATE_HZ, settings.patch_s, settings.hop_s, settings.short)

    @property
    def input(self) -> Patching:
        return self._patching

    @property
    def layers(self) -> Mapping[str, int]:
        return {"embedding": len(NAMES)}

    def to(self, device: torch.device) -> None:
        """Nothing to load."""

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """int16 (P, T) at 16 kHz -> {"embedding": float32 (P, 5)}, columns as in `NAMES`."""
        waveform_PT = to_float(batch)
        size_PT = waveform_PT.abs()
        frames_PFT = waveform_PT.unfold(1, FRAME, FRAME)
        silent_PF = _decibel(frames_PFT.square().mean(dim=2)) < SILENT_DB
        columns = [
            _decibel(waveform_PT.square().mean(dim=1)),
            _decibel(size_PT.amax(dim=1).square()),
            silent_PF.float().mean(dim=1),
            (size_PT >= CLIPPED).float().mean(dim=1),
            waveform_PT.mean(dim=1),
        ]
        return {"embedding": torch.stack(columns, dim=1)}


def _decibel(power: Tensor) -> Tensor:
    return 10 * power.clamp(min=TINY).log10()
