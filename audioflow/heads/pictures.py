"""What heads share that look at a patch's spectrogram as a picture.

Shapes: N patches, V frames, D mel bands.
"""

from torch import Tensor, nn


def as_map(frames_NVD: Tensor) -> Tensor:
    """Frames of mel bands -> one-channel maps (N, 1, D, V), mel x time."""
    return frames_NVD.transpose(1, 2)[:, None]


def start_convolutions(module: nn.Module) -> None:
    """Draw every convolution anew: normal, variance 2 / fan-out (He et al. 2015); biases zero."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
