"""YAMNet's network, a MobileNet v1, and the names its weights have in the files that circulate.

Shapes: P patches, C channels, F frames (96), M mel bands (64), D width. A batch norm is folded into
the convolution before it, since it does nothing else in inference.
"""

import re
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioflow.backbones.network import fill, refuse_misfits
from audioflow.backbones.tflite import constants

NUM_CLASSES = 521
WIDTH = 1024
BATCH_NORM_EPSILON = 1e-4
_FIRST = 32
_SEPARABLE = (
    (1, 64),
    (2, 128),
    (1, 128),
    (2, 256),
    (1, 256),
    (2, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (1, 512),
    (2, 1024),
    (1, 1024),
)
"""Stride of the depthwise convolution and channels after the pointwise one, layers 2 to 14."""


class YAMNetNetwork(nn.Module):
    """(P, 1, 96, 64) -> embedding (P, 1024) and logits (P, 521).

    highest: what activations are clipped at. The published Keras code has none; the network that
    Google's TFLite files were made from has 6.
    """

    def __init__(self) -> None:
        super().__init__()
        self.highest: float | None = None
        self.layer1 = nn.ModuleDict({"conv": nn.Conv2d(1, _FIRST, 3, stride=2)})
        before = _FIRST
        for place, (stride, channels) in enumerate(_SEPARABLE, start=2):
            depthwise = nn.Conv2d(
                before, before, 3, stride, padding=int(stride == 1), groups=before
            )
            pointwise = nn.Conv2d(before, channels, 1)
            block = nn.ModuleDict({"depthwise": depthwise, "pointwise": pointwise})
            self.add_module(f"layer{place}", block)
            before = channels
        self.logits = nn.Linear(WIDTH, NUM_CLASSES)

    def forward(self, patches_P1FM: Tensor) -> tuple[Tensor, Tensor]:
        values = patches_P1FM
        for block in self.children():
            if isinstance(block, nn.ModuleDict):
                for convolution in block.values():
                    values = self._activated(convolution(_padded(values, convolution)))
        embedding = values.mean(dim=(2, 3))
        return embedding, self.logits(embedding)

    def _activated(self, values: Tensor) -> Tensor:
        return values.relu_() if self.highest is None else values.clamp_(0.0, self.highest)


def _padded(values: Tensor, convolution: nn.Module) -> Tensor:
    """TensorFlow's `same` at stride 2: with even lengths, one zero at the end and none in front."""
    if getattr(convolution, "stride", None) == (2, 2):
        return torch.nn.functional.pad(values, (0, 1, 0, 1))
    return values


def filled(weights: str, seed: int) -> YAMNetNetwork:
    """The network with the weights of a file: Keras, the PyTorch port's, or TFLite; or random.

    Raises `WeightsError` naming what does not fit.
    """
    network = YAMNetNetwork()
    if not weights.endswith(".tflite"):
        fill(network, weights, seed, renamed)
        return network
    network.highest = 6.0
    tensors = of_tflite(constants(weights, "yamnet"))
    wanted = network.state_dict()
    refuse_misfits({name: tuple(tensor.shape) for name, tensor in wanted.items()}, tensors, weights)
    network.load_state_dict({name: torch.from_numpy(array) for name, array in tensors.items()})
    return network


def renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The network's tensors from those of `yamnet.h5` or of w-hc/torch_audioset's `yamnet.pth`.

    What is not recognised keeps its name.
    """
    if "logits.weight" in tensors and "layer1.conv.weight" in tensors:
        return tensors
    keras = not any(name.endswith("running_var") for name in tensors)
    plain = dict((_keras if keras else _of_port)(name, array) for name, array in tensors.items())
    found = {name: array for name, array in plain.items() if ".norm." not in name}
    for name in [name for name in found if _CONVOLUTION.fullmatch(name)]:
        norm = name.removesuffix("weight") + "norm."
        if f"{norm}variance" not in plain or f"{norm}mean" not in plain:
            continue
        scale = 1 / np.sqrt(plain[f"{norm}variance"] + BATCH_NORM_EPSILON)
        scale = scale * plain.get(f"{norm}gamma", 1.0)
        shift = plain.get(f"{norm}beta", 0.0)
        found[name] = (found[name] * scale[:, None, None, None]).astype(np.float32)
        bias = (shift - plain[f"{norm}mean"] * scale).astype(np.float32)
        found[name.replace("weight", "bias")] = bias
    return found


_CONVOLUTION = re.compile(r"layer\d+\.(conv|depthwise|pointwise)\.weight")
_KERAS = re.compile(
    r"(?:.*[./])?(layer\d+)[./](conv|depthwise_conv|pointwise_conv)([./]bn)?[./](\w+)"
)
_KERAS_NORM = {"moving_mean": "mean", "moving_variance": "variance", "beta": "beta"}


def _keras(name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """E.g. `layer2/depthwise_conv/bn/layer2/depthwise_conv/bn/beta:0`, kernels (h, w, in, out).

    The last layer is `logits` in the first version of the code, later `dense`.
    """
    plain = name.removesuffix(":0")
    found = _KERAS.fullmatch(plain)
    if found:
        layer, part, norm, variable = found.groups()
        place = f"{layer}.{part.removesuffix('_conv')}"
        if norm:
            return f"{place}.norm.{_KERAS_NORM.get(variable, variable)}", array
        # A depthwise kernel is (h, w, channels, 1).
        axes = (2, 3, 0, 1) if part == "depthwise_conv" else (3, 2, 0, 1)
        return f"{place}.weight", array.transpose(axes) if array.ndim == 4 else array
    if re.search(r"(^|[./])(logits|dense(_\d+)?)[./](kernel|bias)$", plain):
        kernel = plain.endswith("kernel")
        return ("logits.weight", array.T) if kernel else ("logits.bias", array)
    return name, array


_PORT_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "mean",
    "running_var": "variance",
    "num_batches_tracked": "count",
}


def _of_port(name: str, array: NDArray[Any]) -> tuple[str, NDArray[Any]]:
    """E.g. `layer1.fused.conv.weight`, `layer2.depthwise_conv.bn.running_mean`, `classifier.bias`.

    (github.com/w-hc/torch_audioset, `yamnet/model.py`)
    """
    found = re.fullmatch(
        r"(layer\d+)\.(fused|depthwise_conv|pointwise_conv)\.(conv|bn)\.(\w+)", name
    )
    if not found:
        return name.replace("classifier.", "logits."), array
    layer, part, kind, variable = found.groups()
    place = f"{layer}.{part.removesuffix('_conv').replace('fused', 'conv')}"
    if kind == "bn":
        return f"{place}.norm.{_PORT_NORM.get(variable, variable)}", array
    return f"{place}.{variable}", array


def of_tflite(tensors: dict[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """The network's tensors from those of a TFLite file of YAMNet.

    There layers are counted by convolution: 1 is the first, 2 and 3 are the depthwise and the
    pointwise one of Keras' layer 2; 29 is the last.
    """
    found = {}
    for name, array in tensors.items():
        first = name.split(";", maxsplit=1)[0]
        match = re.match(r"(?:tower0/)?network/layer(\d+)/(conv|sepconv|fc)/", first)
        if not match:
            continue
        number, kind = int(match[1]), match[2]
        vector = array.ndim == 1
        if kind == "fc":
            found["logits.bias" if vector else "logits.weight"] = array
            continue
        place = f"layer{number // 2 + 1}."
        if kind == "sepconv":
            place += "depthwise."
            axes = (3, 0, 1, 2)
        else:
            place += "conv." if number == 1 else "pointwise."
            axes = (0, 3, 1, 2)
        found[place + ("bias" if vector else "weight")] = (
            array if vector else np.ascontiguousarray(array.transpose(axes))
        )
    return found
