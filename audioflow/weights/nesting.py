"""From nested dictionaries, as checkpoints hold them, to tensors by name."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from audioflow.weights.faults import WeightsError, refuse_too_large, some

HOLDERS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "net",
    "network",
    "module",
    "params",
    "weights",
    "weight",
)
"""Keys under which training scripts keep the network's tensors, beside those of the optimiser."""

PREFIXES = ("module.", "_orig_mod.")
"""What wrappers put before every name: DataParallel, torch.compile."""

_DEEPEST = 32
_MOST_ITEMS = 1_000_000


class _Web(Exception):
    """References without end."""


def tensors_in(found: Any, path: str) -> dict[str, NDArray[np.generic]]:
    """The arrays of a nested dictionary by name, joined by '.'.

    Where a known key (`HOLDERS`) holds the network, only what is below it; a prefix that a wrapper
    put before all names is taken off. What is no array (numbers, texts) is left out. Raises
    `WeightsError` where there is no array.
    """
    if isinstance(found, np.ndarray):
        found = {"array": found}
    try:
        leaves = list(_leaves(_unwrapped(found), (), [0]))
    except _Web:
        raise WeightsError(
            f"{path} is nested deeper than {_DEEPEST}, or holds more than {_MOST_ITEMS} items; "
            "expected a dictionary of tensors"
        ) from None
    tensors = dict(leaves)
    if len(tensors) < len(leaves):
        raise WeightsError(f"{path} holds two tensors of one name among {some(tensors)}")
    refuse_too_large(path, sum(array.nbytes for array in tensors.values()))
    if not tensors:
        raise WeightsError(f"{path} holds no tensors, expected a state dict; {_described(found)}")
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in tensors):
            tensors = {name.removeprefix(prefix): array for name, array in tensors.items()}
    return tensors


def _unwrapped(found: Any) -> Any:
    for _ in range(_DEEPEST):
        if not isinstance(found, Mapping):
            return found
        inner = (found[key] for key in HOLDERS if isinstance(found.get(key), Mapping))
        held = next((each for each in inner if _has_arrays(each)), None)
        if held is None:
            return found
        found = held
    return found


def _has_arrays(found: Any) -> bool:
    return next(_leaves(found, (), [0]), None) is not None


def _leaves(
    found: Any, above: tuple[str, ...], count: list[int]
) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Every array below; count: of what was looked at, shared, as references may form a web."""
    count[0] += 1
    if len(above) > _DEEPEST or count[0] > _MOST_ITEMS:
        raise _Web
    if isinstance(found, np.ndarray):
        yield ".".join(above), found
    elif isinstance(found, Mapping):
        for key, value in found.items():
            yield from _leaves(value, (*above, _text(key)), count)
    elif isinstance(found, list | tuple):
        for number, value in enumerate(found):
            yield from _leaves(value, (*above, str(number)), count)


def _text(key: Any) -> str:
    return key.decode("latin1") if isinstance(key, bytes) else str(key)


def _described(found: Any) -> str:
    if isinstance(found, Mapping):
        return f"found the keys {some(map(_text, found))}" if found else "found an empty dictionary"
    return f"found a {type(found).__name__}"


def widened(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16, given as its bits, as float32: it has the upper half of the same bits."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)
