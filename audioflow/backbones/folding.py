"""A network made ready for inference, in float32, before it gets its precision.

Batch normalisation is worked into the convolution before it, or taken out; numbers too small for a
processor to be quick with, or to mean anything, become zero.
"""

from collections.abc import Iterable
from typing import Any

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
