"""Weights saved by Keras as HDF5: `.h5` of Keras 1 to 3, `.weights.h5` of Keras 3.

Names are `<layer>/<weight>`, as in `conv2d_1/kernel`: without the `:0` of TensorFlow, without a
layer's name twice, without the numbers that a name scope got (`conv2d_1_2/kernel:0` of the layer
`conv2d_1` is `conv2d_1/kernel`), without the model's name in front. Layers inside a layer keep
their path: `model_1/conv2d/kernel`. `.weights.h5` of Keras 3 has numbers for names: `conv2d/0`.
"""

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError, refuse_too_large

_NOT_OF_LAYERS = ("optimizer/", "metrics/", "_optimizer/")
_NUMBERED = re.compile(r":\d+$")


def keras_tensors(path: Any, told: str) -> dict[str, NDArray[np.generic]]:
    """The tensors of a Keras file by name; path: a path or an open file; told: in messages.

    Raises `WeightsError` where it is damaged, holds no numbers or leads to other files.
    """
    import h5py

    try:
        with h5py.File(path, "r") as file:
            root = file.get("model_weights", file)
            named = list(_of_layers(root) if "layer_names" in root.attrs else _of_tree(root))
            refuse_too_large(told, sum(dataset.nbytes for _, dataset in named))
            tensors = {}
            for name, dataset in named:
                _refuse_elsewhere(dataset, file, told)
                tensors[name] = np.asarray(dataset[()])
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, UnicodeError) as error:
        raise WeightsError(
            f"{told} is no Keras file, or is damaged: {error}; expected HDF5 with the weights of "
            "layers, as `model.save_weights(path)` writes them"
        ) from error
    if not tensors:
        raise WeightsError(f"{told} is HDF5 without any numbers in it; expected weights of layers")
    return tensors


def _of_layers(root: Any) -> Iterator[tuple[str, Any]]:
    """The datasets of a file that lists its layers."""
    for layer in map(_text, _listed(root, "layer_names")):
        group = root[layer]
        names = [_text(name) for name in _listed(group, "weight_names")]
        short = [layer_and_weight(layer, name) for name in names]
        if len(set(short)) < len(short):
            short = [f"{layer}/{_NUMBERED.sub('', name)}" for name in names]
        for name, full in zip(short, names, strict=True):
            yield name, group[full]


def _listed(group: Any, attribute: str) -> list[Any]:
    """A list that stands in an attribute; a long one is cut into `weight_names0`, `...1`, ..."""
    if attribute in group.attrs:
        return list(group.attrs[attribute])
    parts: list[Any] = []
    number = 0
    while f"{attribute}{number}" in group.attrs:
        parts += list(group.attrs[f"{attribute}{number}"])
        number += 1
    return parts


def layer_and_weight(layer: str, weight: str) -> str:
    """`conv2d_1`, `conv2d_1/kernel:0` -> `conv2d_1/kernel`; see the top of this file."""
    parts = _NUMBERED.sub("", weight).split("/")
    scope = re.compile(re.escape(layer) + r"(_\d+)?")
    start = next((at for at, part in enumerate(parts[:-1]) if scope.fullmatch(part)), None)
    if start is not None:
        parts = parts[start + 1 :]
        while len(parts) > 1 and parts[0] == layer:
            parts = parts[1:]
    return "/".join([layer, *parts])


def _of_tree(root: Any) -> Iterator[tuple[str, Any]]:
    """Every dataset of a file without a list of layers, by its path."""
    import h5py

    found: list[tuple[str, Any]] = []

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "biufc":
            parts = [part for part in name.split("/") if part not in ("layers", "vars")]
            found.append(("/".join(parts), item))

    root.visititems(visit)
    trained = [pair for pair in found if not pair[0].startswith(_NOT_OF_LAYERS)]
    names = [name for name, _ in trained]
    if len(set(names)) < len(names):
        return iter([(dataset.name.strip("/"), dataset) for _, dataset in trained])
    return iter(trained)


def _refuse_elsewhere(dataset: Any, file: Any, told: str) -> None:
    """HDF5 can lead to any other file of this machine, which no weight file needs."""
    if dataset.external or dataset.is_virtual or dataset.file.filename != file.filename:
        raise WeightsError(f"{told} leads to other files at {dataset.name}, which is refused")
    if dataset.dtype.kind not in "biufc":
        raise WeightsError(f"{told} holds {dataset.dtype} at {dataset.name}; expected numbers")


def _text(name: Any) -> str:
    return name.decode("utf-8") if isinstance(name, bytes) else str(name)
