"""What backbones share that are networks: settings, weights into a module, precision.

A module is built without weights, filled from a file or from a seed, and called through `Network`.
"""

import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Any, ClassVar, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BeforeValidator, Field, model_validator
from torch import Tensor, nn

from audioflow.errors import AudioflowError
from audioflow.registry import Settings
from audioflow.weights import RANDOM, WeightsError, read_tensors
from audioflow.weights.faults import some

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


@contextmanager
def unfilled() -> Iterator[None]:
    """Modules made meanwhile are not given initial weights: for those that `fill` fills at once.

    To draw them takes as long as to read others from a file.
    """
    drawing = [name for name in vars(nn.init) if name.endswith(("uniform_", "normal_"))]
    kept = {name: getattr(nn.init, name) for name in drawing}
    try:
        for name in drawing:
            setattr(nn.init, name, lambda tensor, *_, **__: tensor)
        yield
    finally:
        for name, function in kept.items():
            setattr(nn.init, name, function)


def fill(
    module: nn.Module,
    weights: str,
    seed: int = 0,
    renamed: Callable[[dict[str, NDArray[Any]]], dict[str, NDArray[Any]]] = lambda tensors: tensors,
) -> None:
    """Put the weights of a file into a module, or random ones.

    weights: `random`, or a local path. renamed: turns the names and shapes of the file's tensors
    into those of the module. Raises `WeightsError` naming what is missing, what is too much and
    which shapes differ.
    """
    if weights == RANDOM:
        fill_random(module, seed)
        return
    tensors = renamed(read_tensors(weights))
    wanted = module.state_dict()
    refuse_misfits({name: tuple(tensor.shape) for name, tensor in wanted.items()}, tensors, weights)
    with torch.no_grad():
        for name, tensor in wanted.items():
            if name in tensors:
                given = torch.from_numpy(np.array(tensors[name]))
                tensor.copy_(given.reshape(tensor.shape))


def refuse_misfits(
    wanted: Mapping[str, tuple[int, ...]], tensors: Mapping[str, NDArray[Any]], path: str
) -> None:
    """Raises `WeightsError` unless a file has exactly the tensors a network wants.

    Counters of batches seen in training need not be there. Values have to be finite.
    """
    needed = {name for name in wanted if not name.endswith("num_batches_tracked")}
    missing = sorted(needed - tensors.keys())
    surplus = sorted(tensors.keys() - wanted.keys())
    broken = [
        f"{name} has {count} value{'s that are' if count > 1 else ' that is'} NaN or infinite"
        for name in sorted(wanted.keys() & tensors.keys())
        if (count := int((~np.isfinite(tensors[name])).sum()))
    ]
    differ = [
        f"{name} is {tensors[name].shape}, expected {shape}"
        for name, shape in sorted(wanted.items())
        if name in tensors and tensors[name].shape != shape
    ]
    problems = []
    if missing:
        problems.append(f"{len(missing)} of {len(needed)} tensors are missing: {some(missing)}")
    if differ:
        problems.append(f"{len(differ)} have another shape: {some(differ)}")
    if surplus:
        problems.append(f"{len(surplus)} belong to another network: {some(surplus)}")
    problems += [some(broken)] if broken else []
    if problems:
        raise WeightsError(f"{path} does not fit this network: {'; '.join(problems)}")


def fill_random(module: nn.Module, seed: int) -> None:
    """Random weights that keep the scale of what flows through; the same on every machine."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if not tensor.is_floating_point():
                continue
            if tensor.dtype == torch.float32 and tensor.is_contiguous():
                _draw(tensor.numpy(), name, seed)
            else:
                tensor.copy_(torch.from_numpy(random_tensor(name, tuple(tensor.shape), seed)))


def random_tensor(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    """The random weights of one tensor: drawn by NumPy from its name and the seed.

    Matrices and kernels are normal with variance 2 / fan-in (He et al. 2015); vectors are near one
    where they scale (`weight`, `running_var`), else near zero.
    """
    drawn = np.empty(shape, np.float32)
    _draw(drawn, name, seed)
    return drawn


def _draw(values: NDArray[np.float32], name: str, seed: int) -> None:
    """In place: memory that is touched for the first time takes longer than the numbers."""
    generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
    generator.standard_normal(dtype=np.float32, out=values)
    if values.ndim >= 2:
        fan_in = int(np.prod(values.shape[1:]))
        values *= np.float32(np.sqrt(2.0 / fan_in))
    elif name.endswith(("weight", "gamma")):
        values *= np.float32(0.1)
        values += np.float32(1.0)
    else:
        values *= np.float32(0.1) if name.endswith("running_var") else np.float32(0.05)
        if name.endswith("running_var"):
            np.exp(values, out=values)
