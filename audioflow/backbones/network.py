"""What backbones share that are networks: settings, weights into a module, precision.

A module is built without weights, filled from a file or from a seed, and called through `Network`.
"""

import os
import shutil
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, Self

import torch
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from audioflow.errors import AudioflowError
from audioflow.networks.filling import fill, fill_random, random_tensor, refuse_misfits, unfilled
from audioflow.registry import Settings

__all__ = (
    "AS_TUPLE",
    "Network",
    "NetworkSettings",
    "Precision",
    "dtype_for",
    "fill",
    "fill_random",
    "flush",
    "random_tensor",
    "refuse_misfits",
    "unfilled",
)

Precision = Literal["float32", "bfloat16", "auto"]
AS_TUPLE = BeforeValidator(lambda value: tuple(value) if isinstance(value, list) else value)
"""For settings that are tuples: where a recipe is checked strictly, they come as lists."""

TINY = 1e-30
_PIECE = 2**18


class NetworkSettings(Settings):
    """seed: of the weights where they are `random`.

    precision: what the network computes in; `auto` is bfloat16 on a GPU, float32 elsewhere.
    batch_size: patches at once; `auto` is 4 to 64 on a CPU, measured on a GPU. compile: through
    torch.compile, which takes up to a minute at the first start on a machine and needs a C++
    compiler there.
    """

    WITHOUT_EFFECT: ClassVar[frozenset[str]] = frozenset({"batch_size", "compile"})
    """Settings that change the speed and not the vectors."""

    seed: int = Field(0, ge=0, lt=2**32)
    precision: Precision = "auto"
    batch_size: Annotated[int, Field(ge=1, le=65_536)] | Literal["auto"] = "auto"
    compile: bool = False

    @model_validator(mode="after")
    def _layers_once(self) -> Self:
        layers: tuple[str, ...] = getattr(self, "layers", ())
        if len(set(layers)) != len(layers):
            raise ValueError(f"layers ({', '.join(layers)}) names one twice: name each once")
        return self


def dtype_for(precision: Precision, device: torch.device) -> torch.dtype:
    """What a network of this precision computes in on this device."""
    if precision == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    return torch.bfloat16 if precision == "bfloat16" else torch.float32


class Network:
    """A module for inference on a device, in its precision: float32 tensors in and out."""

    def __init__(self, module: nn.Module, device: torch.device, settings: NetworkSettings) -> None:
        self._dtype = dtype_for(settings.precision, device)
        if device.type == "cuda" and self._dtype == torch.float32:
            # Else convolutions round to 10 bits of mantissa, and float32 is not what is computed.
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        module = module.eval().requires_grad_(False)
        flush(module)
        module = module.to(device, self._dtype)
        if all(parameter.ndim < 5 for parameter in module.parameters()):
            module = module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._call: Callable[..., Any] = _compiled(module) if settings.compile else module

    def __call__(self, *inputs: Tensor) -> Any:
        """The module's outputs, every floating tensor in them as float32."""
        return _as_float32(self._call(*(self._given(tensor) for tensor in inputs)))

    def _given(self, tensor: Tensor) -> Tensor:
        if tensor.is_floating_point():
            tensor = tensor.to(self._dtype)
        if tensor.ndim == 4:
            tensor = tensor.contiguous(memory_format=torch.channels_last)
        return tensor


def _compiled(module: nn.Module) -> Callable[..., Any]:
    compilers = [os.environ.get("CXX", ""), "g++", "clang++"]
    if not any(map(shutil.which, filter(None, compilers))):
        raise AudioflowError(
            "compile: true needs a C++ compiler, and there is none on this machine: install g++ "
            "(or set CXX), or leave compile out"
        )
    return torch.compile(module)


def flush(module: nn.Module) -> None:
    """Make weights zero that are smaller than 1e-30; in place.

    Weight decay leaves such numbers in filters that died in training (a fifth of MusiCNN's). With
    those below 1.2e-38 CPUs compute so slowly that the network takes 30 times as long; a little
    above that, a dead filter gives columns of 1e-38 instead of zeros, which no scaler can divide.
    """
    with torch.no_grad():
        for tensor in module.state_dict().values():
            if tensor.is_floating_point():
                # In pieces that stay in the cache: a mask of all takes longer than to load them.
                for piece in tensor.reshape(-1).split(_PIECE):
                    piece[piece.abs() < TINY] = 0.0


def _as_float32(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float() if output.is_floating_point() else output
    if isinstance(output, Mapping):
        return {key: _as_float32(value) for key, value in output.items()}
    if isinstance(output, list | tuple):
        return type(output)(_as_float32(value) for value in output)
    return output
