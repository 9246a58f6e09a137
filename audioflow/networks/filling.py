"""Weights into a module: from a file, or from a seed."""

import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from audioflow.weights import RANDOM, WeightsError, read_tensors
from audioflow.weights.faults import some


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
    put(module, renamed(read_tensors(weights)), weights)


def put(module: nn.Module, tensors: Mapping[str, NDArray[Any]], path: str) -> None:
    """Put tensors into a module that has exactly those; path: of the file they are from, for the
    `WeightsError` where it has others."""
    wanted = module.state_dict()
    refuse_misfits({name: tuple(tensor.shape) for name, tensor in wanted.items()}, tensors, path)
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
