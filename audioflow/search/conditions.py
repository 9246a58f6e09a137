"""Which parameters hang on which: what is wrong with their conditions, and an order for them."""

from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import Any

from audioflow.errors import Fault, shown
from audioflow.registry import nearest
from audioflow.search.space import Choice, Integer, Parameter, canonical, points

_MOST_TOLD = 12


def condition_faults(read: Mapping[str, Parameter | None]) -> list[Fault]:
    """Conditions on what is no parameter, on a value that it never has, or in a circle.

    read: the parameters by key; None for one that was told to be faulty already.
    """
    found = {key: parameter for key, parameter in read.items() if parameter is not None}
    faults = []
    for key, parameter in found.items():
        for other, wanted in parameter.when.items():
            where, holder = f"space.{key}.when.{other}", read.get(other)
            if other not in read:
                known = [name for name in read if name != key]
                allowed = ", ".join(known) or "(there is no other key)"
                problem = f"{other!r} is not in the space"
                faults.append(Fault(where, problem, other, allowed, nearest(other, known)))
            elif holder is not None:
                faults += _value_faults(where, holder, wanted)
    return faults + _circle_faults(found)


def ordered(found: Mapping[str, Parameter]) -> tuple[Parameter, ...]:
    """The parameters as written, but each after those that its conditions name."""
    placed: dict[str, Parameter] = {}
    while len(placed) < len(found):
        key = next(key for key in found if key not in placed and {*found[key].when} <= {*placed})
        placed[key] = found[key]
    return tuple(placed.values())


def _value_faults(where: str, holder: Parameter, wanted: Sequence[Any]) -> list[Fault]:
    if not isinstance(holder, Choice | Integer):
        problem = f"{holder.key} is any number of a range, and no condition can hang on that"
        return [Fault(where, problem, list(wanted), "keys with a choice or an int")]
    values = points(holder) or ()
    if isinstance(holder, Choice):
        known = set(map(canonical, values))
        strange = [value for value in wanted if canonical(value) not in known]
    else:  # `in` is quick on a range of any length, but takes true for 1
        strange = [value for value in wanted if isinstance(value, bool) or value not in values]
    allowed = ", ".join(map(shown, values[:_MOST_TOLD]))
    allowed += ", ..." if len(values) > _MOST_TOLD else ""
    names = [value for value in values[:_MOST_TOLD] if isinstance(value, str)]
    return [
        Fault(where, f"{holder.key} is never {shown(value)}", value, allowed, _like(value, names))
        for value in strange
    ]


def _like(value: Any, names: Sequence[str]) -> str:
    return nearest(value, names) if isinstance(value, str) else ""


def _circle_faults(found: Mapping[str, Parameter]) -> list[Fault]:
    parents = {
        key: [other for other in parameter.when if other in found]
        for key, parameter in found.items()
    }
    faults = []
    while circle := _circle(parents):
        problem = f"hangs on itself: {' when '.join([*circle, circle[0]])}"
        faults.append(Fault(f"space.{circle[0]}.when", problem, circle, "no circle of conditions"))
        for key in circle:  # broken open, so that the next circle is found
            parents[key] = []
    return faults


def _circle(parents: Mapping[str, Sequence[str]]) -> list[str]:
    """A circle of keys, each before one of its parents, the first as written in front; or none."""
    try:
        TopologicalSorter(parents).prepare()
    except CycleError as error:
        circle = list(reversed(error.args[1]))[:-1]
        first = circle.index(next(key for key in parents if key in circle))
        return circle[first:] + circle[:first]
    return []
