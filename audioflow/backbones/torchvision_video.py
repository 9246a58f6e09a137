"""`video` (and `r2plus1d_18`, `s3d`, `mvit_v2_s`, `swin3d_t`): torchvision's networks for films.

Trained on Kinetics-400, 400 classes. A patch is as many frames, at the frame rate, as torchvision
tells with the accuracy of the weights. Frames are resized (r2plus1d and its kin to 128 x 171, s3d
to 256 x 256, both whatever shape they have; the others by their short side), cropped in the middle
and normalised as the weights were made for. The decoder brings the short side to the smaller of the
two; the rest is done on the device by the transforms that torchvision publishes with the weights.

Shapes: P patches, N frames of a patch, H and W their size.
"""

import re
from collections.abc import Mapping
from typing import Annotated, ClassVar, Self

import torch
from pydantic import AfterValidator, Field, model_validator
from torch import Tensor

from audioflow.backbones.network import Network
from audioflow.backbones.torchvision_models import (
    TorchvisionSettings,
    by_model,
    chosen,
    known_weights,
    network,
    only,
    refuse_unknown,
    widths,
)
from audioflow.media.parts import FramePatching, FrameSampling
from audioflow.weights import KnownWeights, WeightsName

WIDTHS = by_model(
    {
        512: "mc3_18 r2plus1d_18 r3d_18",
        768: "mvit_v1_b mvit_v2_s swin3d_s swin3d_t",
        1024: "s3d swin3d_b",
    }
)
_RECIPE = re.compile(r"`(frame_rate|clip_len)=([\d.]+)`")
S3D_FRAMES = 14
MVIT_FRAMES = 16


class VideoSettings(TorchvisionSettings):
    """fps: frames per second; frames_per_patch: as many in a row. As published if not given.

    hop_frames: distance of patches; as long as they are if not given. short_side: pixels that the
    decoder resizes frames to; what the weights were made for if not given. A larger one leaves the
    rest of the resizing to torchvision's interpolation, which takes more time.
    """

    model: Annotated[str, AfterValidator(lambda name: refuse_unknown(name, WIDTHS))] = "r2plus1d_18"
    weights: WeightsName = "R2Plus1D_18_Weights.KINETICS400_V1"
    fps: float | None = Field(None, gt=0, le=60)
    frames_per_patch: int | None = Field(None, ge=1, le=256)
    hop_frames: int | None = Field(None, ge=1, le=1024)
    short_side: int | None = Field(None, ge=16, le=1080)

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        frames = self.frames_per_patch
        if frames is not None and self.model == "s3d" and frames < S3D_FRAMES:
            raise ValueError(f"frames_per_patch: {frames}; s3d needs at least {S3D_FRAMES}")
        if frames is not None and self.model.startswith("mvit") and frames != MVIT_FRAMES:
            raise ValueError(f"frames_per_patch: {frames}; {self.model} takes {MVIT_FRAMES}")
        return self


class Video:
    """A network for films, on patches of several frames."""

    Settings: ClassVar[type[VideoSettings]] = VideoSettings
    revision = 1
    known: ClassVar[tuple[KnownWeights, ...]] = known_weights(WIDTHS)

    def __init__(self, settings: VideoSettings) -> None:
        self._settings = settings
        self._transforms = settings.published.transforms()
        recipe = dict(_RECIPE.findall(settings.published.meta["_docs"]))
        frames = settings.frames_per_patch or int(recipe["clip_len"])
        side = settings.short_side or min(self._transforms.resize_size)
        sampling = FrameSampling(None, side, settings.fps or float(recipe["frame_rate"]))
        self._patching = FramePatching(sampling, frames, settings.hop_frames or frames)

    @property
    def input(self) -> FramePatching:
        return self._patching

    @property
    def layers(self) -> Mapping[str, int]:
        return widths(self._settings, WIDTHS[self._settings.model])

    def to(self, device: torch.device) -> None:
        self._network = Network(network(self._settings), device, self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (P, N, H, W, 3) -> float32 (P, D) per layer."""
        films = self._transforms(batch.contiguous().permute(0, 1, 4, 2, 3))
        return chosen(self._network(films), self._settings)


R2Plus1D = only("r2plus1d_18", Video)
S3D = only("s3d", Video)
MViTv2S = only("mvit_v2_s", Video)
Swin3DT = only("swin3d_t", Video)
