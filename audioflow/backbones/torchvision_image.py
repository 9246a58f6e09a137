"""`image` (and `resnet18`, `resnet50`, `convnext_tiny`, `vit_b_16`): torchvision's networks for
pictures, on sampled frames of a video.

Trained on ImageNet-1K, 1000 classes. Frames are resized by their short side, cropped in the middle
and normalised as the weights were made for. The decoder resizes them, bilinearly; what is left to
do is done on the device by the transforms that torchvision publishes with the weights.

Shapes: F frames, H and W their size.
"""

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

# Left out: SqueezeNet, which has no layer before its classes; GoogLeNet and Inception v3, which
# have side branches and an input scale of their own.
WIDTHS = by_model(
    {
        400: "regnet_x_400mf",
        440: "regnet_y_400mf",
        512: "maxvit_t resnet18 resnet34",
        672: "regnet_x_800mf",
        768: "convnext_small convnext_tiny swin_s swin_t swin_v2_s swin_v2_t vit_b_16 vit_b_32",
        784: "regnet_y_800mf",
        888: "regnet_y_1_6gf",
        912: "regnet_x_1_6gf",
        1008: "regnet_x_3_2gf",
        1024: "convnext_base densenet121 mobilenet_v3_small shufflenet_v2_x0_5 shufflenet_v2_x1_0"
        " shufflenet_v2_x1_5 swin_b swin_v2_b vit_l_16 vit_l_32",
        1280: "efficientnet_b0 efficientnet_b1 efficientnet_v2_l efficientnet_v2_m"
        " efficientnet_v2_s mnasnet0_5 mnasnet0_75 mnasnet1_0 mnasnet1_3 mobilenet_v2"
        " mobilenet_v3_large vit_h_14",
        1408: "efficientnet_b2",
        1512: "regnet_y_3_2gf",
        1536: "convnext_large efficientnet_b3",
        1664: "densenet169",
        1792: "efficientnet_b4",
        1920: "densenet201 regnet_x_8gf",
        2016: "regnet_y_8gf",
        2048: "efficientnet_b5 regnet_x_16gf resnet101 resnet152 resnet50 resnext101_32x8d"
        " resnext101_64x4d resnext50_32x4d shufflenet_v2_x2_0 wide_resnet101_2 wide_resnet50_2",
        2208: "densenet161",
        2304: "efficientnet_b6",
        2520: "regnet_x_32gf",
        2560: "efficientnet_b7",
        3024: "regnet_y_16gf",
        3712: "regnet_y_32gf",
        4096: "alexnet vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn",
        7392: "regnet_y_128gf",
    }
)
NUM_FRAMES = 8


class ImageSettings(TorchvisionSettings):
    """num_frames: frames per clip, at equal distances (8 where fps is not given either).

    fps: instead of that, frames per second. short_side: pixels that the decoder resizes them to;
    what the weights were made for if not given. A larger one leaves the rest of the resizing to
    torchvision's interpolation, which takes more time.
    """

    model: Annotated[str, AfterValidator(lambda name: refuse_unknown(name, WIDTHS))] = "resnet18"
    weights: WeightsName = "ResNet18_Weights.IMAGENET1K_V1"
    num_frames: int | None = Field(None, ge=1, le=512)
    fps: float | None = Field(None, gt=0, le=60)
    short_side: int | None = Field(None, ge=16, le=1080)

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if self.num_frames is not None and self.fps is not None:
            raise ValueError(
                f"num_frames ({self.num_frames}) and fps ({self.fps:g}) exclude each other: "
                "give one of them"
            )
        return self


class Image:
    """A network for pictures, on single frames."""

    Settings: ClassVar[type[ImageSettings]] = ImageSettings
    revision = 1
    patches_on_cpu = 16
    known: ClassVar[tuple[KnownWeights, ...]] = known_weights(WIDTHS)

    def __init__(self, settings: ImageSettings) -> None:
        self._settings = settings
        self._transforms = settings.published.transforms()
        side = settings.short_side or self._transforms.resize_size[0]
        num_frames = None if settings.fps else settings.num_frames or NUM_FRAMES
        self._sampling = FrameSampling(num_frames, side, settings.fps)

    @property
    def input(self) -> FramePatching:
        return FramePatching(self._sampling)

    @property
    def layers(self) -> Mapping[str, int]:
        return widths(self._settings, WIDTHS[self._settings.model])

    def to(self, device: torch.device) -> None:
        self._network = Network(network(self._settings), device, self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        """uint8 RGB (F, 1, H, W, 3) -> float32 (F, D) per layer."""
        pictures = self._transforms(batch[:, 0].permute(0, 3, 1, 2))
        return chosen(self._network(pictures), self._settings)


ResNet18 = only("resnet18", Image)
ResNet50 = only("resnet50", Image)
ConvNextTiny = only("convnext_tiny", Image)
VitB16 = only("vit_b_16", Image)
