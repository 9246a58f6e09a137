"""A network made ready for inference, in float32, before it gets its precision.

Batch normalisation is worked into the convolution before it, or taken out; numbers too small for a
processor to be quick with become zero.
"""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold(module: nn.Module, pairs: Iterable[tuple[str, str]]) -> None:
    """Work normalisations into the convolutions that they follow; in place.

    pairs: names of a convolution and of the normalisation of what comes out of it, with nothing
    in between. The normalisation becomes an identity.
    """
    for convolution, norm in pairs:
        layers: tuple[Any, Any] = module.get_submodule(convolution), module.get_submodule(norm)
        module.set_submodule(convolution, fuse_conv_bn_eval(*(layer.eval() for layer in layers)))
        module.set_submodule(norm, nn.Identity())


def taken_out(module: nn.Module, name: str) -> nn.Module:
    """A submodule, with an identity left in its place: to be called in float32 by itself."""
    found = module.get_submodule(name)
    module.set_submodule(name, nn.Identity())
    return found.eval().requires_grad_(False)


def flush(module: nn.Module) -> None:
    """Make weights zero that are too small to be normal floating-point numbers; in place.

    Weight decay leaves many of them in filters that died in training (a fifth of MusiCNN's), and
    CPUs compute with them a hundred times as slowly: the network is 30 times as slow.
    """
    smallest = torch.finfo(torch.float32).tiny
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                tensor[tensor.abs() < smallest] = 0.0
