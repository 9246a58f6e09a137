"""The `space` of a recipe, read into parameters, and everything that is wrong with it.

    train.lr: {loguniform: [1.0e-4, 1.0e-1]}            # any number, every factor alike
    train.epochs: {int: [10, 60], step: 10}             # or `log: true`
    pooling.name: [mean, max]                           # a bare list is a choice
    head.name: {choice: [linear, mlp]}
    head.dropout: {uniform: [0.0, 0.6], steps: 7, when: {head.name: mlp}}

`when` says with which values of other parameters (one value, or a list of them) this one is there.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeGuard

from audioflow.errors import Fault, RecipeError, shown
from audioflow.registry import nearest
from audioflow.search.conditions import condition_faults, ordered
from audioflow.search.space import (
    Choice,
    Conditions,
    Integer,
    LogUniform,
    Parameter,
    Space,
    Uniform,
    canonical,
)

_OPTIONS = {
    "choice": ("when",),
    "uniform": ("steps", "when"),
    "loguniform": ("steps", "when"),
    "int": ("step", "log", "when"),
}
"""The kinds of parameters, and what may stand beside each."""
_KINDS = ", ".join(_OPTIONS)
_ALL_OPTIONS = {option for options in _OPTIONS.values() for option in options}

_MOST_STEPS = 10_000
_MOST_WHOLE = 2**53
"""Up to here every whole number is a float too."""


def read_space(given: Any) -> Space:
    """The parameters of the mapping that a recipe has under `space`.

    Raises `RecipeError` with all faults where there are any.
    """
    read, faults = _read(given)
    if faults:
        raise RecipeError("space", faults)
    return Space(ordered({key: parameter for key, parameter in read.items() if parameter}))


def space_faults(given: Any) -> list[Fault]:
    """Everything that is wrong with a recipe's `space`; keys begin with that word."""
    return _read(given)[1]


def _read(given: Any) -> tuple[dict[str, Parameter | None], list[Fault]]:
    """The parameters, None for those that are faulty, and all faults."""
    if not isinstance(given, Mapping) or not given:
        problem = "is empty" if given == {} else f"{shown(given)} is no mapping"
        allowed = "settings with their values, like train.lr: {loguniform: [1.0e-4, 0.1]}"
        return {}, [Fault("space", problem, given, allowed)]
    faults = _key_faults([str(key) for key in given])
    read = {}
    for key, value in given.items():
        reader = _Reader(str(key), [])
        parameter = reader.read(value)
        read[reader.key] = None if reader.faults else parameter
        faults += reader.faults
    return read, faults + condition_faults(read)


def _key_faults(keys: Sequence[str]) -> list[Fault]:
    faults = []
    for key in keys:
        if not all(key.split(".")):
            allowed = "names with points between them, like train.lr"
            faults.append(Fault(f"space.{key}", f"{key!r} is no setting", key, allowed))
        for other in keys:
            if other.startswith(f"{key}."):
                problem = f"is varied as a whole, and {other}, a part of it, by itself"
                allowed = f"one of the two, or {key}.name in place of {key}"
                faults.append(Fault(f"space.{key}", problem, key, allowed))
    return faults


@dataclass
class _Reader:
    """Reads one parameter; what it gives counts only where `faults` stays empty."""

    key: str
    faults: list[Fault]

    def read(self, given: Any) -> Parameter | None:
        if isinstance(given, list):
            return self._choice("", given, {})
        if not isinstance(given, Mapping):
            problem = f"{shown(given)} is no list of values"
            self._fault("", problem, given, f"a list, or a mapping with one of {_KINDS}")
            return None
        kind = self._kind(given)
        if kind is None:
            return None
        self._check_options(kind, given)
        when = self._when(given.get("when", {}))
        if kind == "choice":
            return self._choice(kind, given[kind], when)
        if kind == "int":
            return self._integer(given, when)
        return self._continuous(kind, given, when)

    def _kind(self, given: Mapping[str, Any]) -> str | None:
        """The one kind that `given` says, or None with a fault."""
        kinds = [kind for kind in _OPTIONS if kind in given]
        unknown = [name for name in given if name not in _OPTIONS and name not in _ALL_OPTIONS]
        if len(kinds) == 1:
            return kinds[0]
        if kinds:
            self._fault("", f"has {len(kinds)} kinds: {', '.join(kinds)}", dict(given), "one")
        elif not unknown:
            self._fault("", f"{shown(given)} has no kind", dict(given), f"one of {_KINDS}")
        for name in unknown:
            problem = f"unknown kind, with the value {shown(given[name])}"
            self._fault(name, problem, given[name], _KINDS, nearest(name, _OPTIONS))
        return None

    def _check_options(self, kind: str, given: Mapping[str, Any]) -> None:
        own = _OPTIONS[kind]
        for name in given:
            if name not in (kind, *own):
                problem = f"unknown key, with the value {shown(given[name])}"
                if name in _ALL_OPTIONS:
                    problem = f"{shown(given[name])} does not go with {kind}"
                self._fault(name, problem, given[name], ", ".join(own), nearest(name, own))

    def _when(self, given: Any) -> Conditions:
        if not isinstance(given, Mapping):
            allowed = "another key of the space with its values, like {head.name: mlp}"
            self._fault("when", f"{shown(given)} is no mapping", given, allowed)
            return {}
        when = {}
        for key, wanted in given.items():
            values = when[str(key)] = tuple(wanted) if isinstance(wanted, list) else (wanted,)
            if not values:
                problem = "is an empty list: the parameter would never be there"
                self._fault(f"when.{key}", problem, wanted, "a value, or a list of them")
            for value in values:
                self._check_plain(f"when.{key}", value)
        return when

    def _choice(self, at: str, given: Any, when: Conditions) -> Choice | None:
        if not isinstance(given, list) or not given:
            problem = f"{shown(given)} is {'empty' if given == [] else 'no list'}"
            self._fault(at, problem, given, "a list with one value or more")
            return None
        seen: set[str] = set()
        for index, option in enumerate(given):
            place = f"{at}.{index}" if at else str(index)
            if not self._check_plain(place, option):
                continue
            if canonical(option) in seen:
                problem = f"{shown(option)} stands there already"
                self._fault(place, problem, option, "each value once")
            seen.add(canonical(option))
        return Choice(self.key, tuple(given), when)

    def _continuous(
        self, kind: str, given: Mapping[str, Any], when: Conditions
    ) -> Uniform | LogUniform | None:
        steps = given.get("steps")
        if "steps" in given and not (_is_whole(steps) and 2 <= steps <= _MOST_STEPS):
            problem = f"{shown(steps)} is no number of values"
            self._fault("steps", problem, steps, f"a whole number from 2 to {_MOST_STEPS}")
        ends = self._ends(kind, given[kind], "a finite number", log=kind == "loguniform")
        if ends is None:
            return None
        low, high = map(float, ends)
        if kind == "uniform":
            return Uniform(self.key, low, high, steps, when)
        return LogUniform(self.key, low, high, steps, when)

    def _integer(self, given: Mapping[str, Any], when: Conditions) -> Integer | None:
        step, log = given.get("step", 1), given.get("log", False)
        if not isinstance(log, bool):
            self._fault("log", f"{shown(log)} is no truth value", log, "true, false")
        ends = self._ends("int", given["int"], "a whole number", log is True)
        if not _is_whole(step) or step < 1:
            self._fault("step", f"{shown(step)} is no step", step, "a whole number, 1 or more")
        elif log is True and step != 1:
            problem = f"{step} does not go with log: true, where steps are not even"
            self._fault("step", problem, step, "one of the two")
        elif ends is not None and (ends[1] - ends[0]) % step:
            self._step_fault(ends, step)
        return None if ends is None else Integer(self.key, *ends, step, log, when)

    def _step_fault(self, ends: tuple[int, int], step: int) -> None:
        low, span = ends[0], ends[1] - ends[0]
        problem = f"{step} does not divide {ends[1]} - {low} = {span}"
        allowed = f"a divisor of {span}"
        allowed += f", or int: [{low}, {low + span // step * step}]" if span > step else ""
        self._fault("step", problem, step, allowed)

    def _ends(self, at: str, given: Any, wanted: str, log: bool) -> tuple[Any, Any] | None:
        """The two ends of a range, or None with a fault."""
        before = len(self.faults)
        if not isinstance(given, list) or len(given) != 2:
            self._fault(at, f"{shown(given)} is no list of two numbers", given, "[low, high]")
            return None
        is_wanted = _is_whole if wanted == "a whole number" else _is_number
        for index, end in enumerate(given):
            if isinstance(end, int) and abs(end) > _MOST_WHOLE:
                allowed = f"-{_MOST_WHOLE} to {_MOST_WHOLE}"
                self._fault(f"{at}.{index}", f"{shown(end)} is out of range", end, allowed)
            elif not is_wanted(end):
                self._fault(f"{at}.{index}", f"{shown(end)} is not {wanted}", end, wanted)
        if len(self.faults) > before:
            return None
        low, high = given
        if low >= high:
            problem = f"its low end {shown(low)} is not below its high end {shown(high)}"
            self._fault(at, problem, given, "[low, high]")
        if log and low <= 0:
            problem = f"its low end {shown(low)} has no logarithm"
            self._fault(at, problem, given, "a low end above 0")
        if not math.isfinite(float(high) - float(low)):
            self._fault(at, f"{shown(given)} is too wide", given, "a width that is a finite number")
        return None if len(self.faults) > before else (low, high)

    def _check_plain(self, at: str, value: Any) -> bool:
        plain = _is_plain(value)
        if not plain:
            allowed = "finite numbers, texts, true, false, null, and lists of them"
            self._fault(at, f"{shown(value)} cannot be a value", value, allowed)
        return plain

    def _fault(self, at: str, problem: str, value: Any, allowed: str, hint: str = "") -> None:
        key = ".".join(part for part in ("space", self.key, at) if part)
        self.faults.append(Fault(key, problem, value, allowed, hint))


def _is_whole(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return _is_whole(value) or (isinstance(value, float) and math.isfinite(value))


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, str | bool) or _is_number(value)
