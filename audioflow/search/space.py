"""What a search varies: parameters with their values and conditions, and settings with them set.

A parameter's key is that of a setting, dotted (`head.dropout`). Values are JSON: numbers, texts,
true, false, null, and lists of them.
"""

import copy
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from audioflow.errors import Fault, RecipeError, shown

Values = Mapping[str, Any]
"""Values of a trial by key: every parameter that is active, and no other. None at all means the
settings as written."""
Conditions = Mapping[str, tuple[Any, ...]]
"""Key of another parameter -> the values of it with which this one is active; all keys count."""

_DIGITS = 12


@dataclass(frozen=True)
class Choice:
    """One of `options`, which have no order."""

    key: str
    options: tuple[Any, ...]
    when: Conditions = field(default_factory=dict)


@dataclass(frozen=True)
class Uniform:
    """A number from `low` to `high`, or one of `steps` numbers evenly apart, both ends included."""

    key: str
    low: float
    high: float
    steps: int | None = None
    when: Conditions = field(default_factory=dict)


@dataclass(frozen=True)
class LogUniform:
    """Like `Uniform`, with every factor as likely as another; both ends are above 0."""

    key: str
    low: float
    high: float
    steps: int | None = None
    when: Conditions = field(default_factory=dict)


@dataclass(frozen=True)
class Integer:
    """A whole number `low`, `low + step`, ... `high`; `log` (with step 1): like `LogUniform`."""

    key: str
    low: int
    high: int
    step: int = 1
    log: bool = False
    when: Conditions = field(default_factory=dict)


Parameter = Choice | Uniform | LogUniform | Integer


@dataclass(frozen=True)
class Space:
    """All parameters of a search, each after those that its conditions name."""

    parameters: tuple[Parameter, ...]

    @property
    def keys(self) -> tuple[str, ...]:
        """The parameters' keys in the same order."""
        return tuple(parameter.key for parameter in self.parameters)

    def filled(self, pick: Callable[[Parameter], Any]) -> dict[str, Any]:
        """The values of one trial: `pick` is asked for each parameter that turns out active."""
        values: dict[str, Any] = {}
        for parameter in self.parameters:
            if active(parameter, values):
                values[parameter.key] = copy.deepcopy(pick(parameter))
        return values


def active(parameter: Parameter, values: Values) -> bool:
    """Whether the conditions of `parameter` hold: never where one names an inactive parameter."""
    return all(
        key in values and canonical(values[key]) in map(canonical, wanted)
        for key, wanted in parameter.when.items()
    )


def points(parameter: Parameter) -> Sequence[Any] | None:
    """All values of `parameter` in their order, or None where they are not counted."""
    if isinstance(parameter, Choice):
        return parameter.options
    if isinstance(parameter, Integer):
        return range(parameter.low, parameter.high + 1, parameter.step)
    if parameter.steps is None:
        return None
    space = np.geomspace if isinstance(parameter, LogUniform) else np.linspace
    inner = space(parameter.low, parameter.high, parameter.steps)[1:-1].tolist()
    # Rounded: 0.3 reads better than 0.30000000000000004 in a table of trials.
    return [parameter.low, *(float(f"{value:.{_DIGITS}g}") for value in inner), parameter.high]


def canonical(value: Any) -> str:
    """The same text for the same value: 1 and 1.0 are, 1 and true are not."""

    def plain(item: Any) -> Any:
        if isinstance(item, list | tuple):
            return [plain(each) for each in item]
        if isinstance(item, Mapping):
            return {key: plain(each) for key, each in item.items()}
        return int(item) if isinstance(item, float) and item.is_integer() else item

    return json.dumps(plain(value), sort_keys=True)


def applied(settings: Mapping[str, Any], values: Values) -> dict[str, Any]:
    """A copy of `settings` with the dotted keys of `values` set; mappings are made where missing.

    A plug-in given as a bare name (`head: linear`) becomes a mapping with that name. Where one gets
    another name, the settings beside the old name go, but for those that `values` sets.

    Raises `RecipeError` where something else than a mapping stands above a key.
    """
    result = copy.deepcopy(dict(settings))
    # Names first, outer ones before inner ones: they clear what stands beside them.
    for key in sorted(values, key=lambda key: (not _names(key), key.count("."))):
        *above, last = key.split(".")
        holder = _holder(result, above, key)
        if above and last == "name" and holder.get("name", values[key]) != values[key]:
            holder.clear()
        holder[last] = copy.deepcopy(values[key])
    return result


def _names(key: str) -> bool:
    return key.rpartition(".")[2] == "name"


def _holder(settings: dict[str, Any], above: Sequence[str], key: str) -> dict[str, Any]:
    """The mapping at `above`, made or made of a bare name where need be."""
    holder = settings
    for depth, part in enumerate(above, 1):
        found = holder.get(part)
        if found is None or isinstance(found, str):
            holder[part] = {} if found is None else {"name": found}
        elif not isinstance(found, dict):
            place = ".".join(above[:depth])
            problem = f"cannot be set: {place} is {shown(found)}, no mapping"
            raise RecipeError("space", [Fault(f"space.{key}", problem, found, "other keys")])
        holder = holder[part]
    return holder
