"""Samplers: which values to try next. What each proposes is decided by its seed and what was told.

An interrupted search goes on where it was: a fresh sampler that is given the trials so far by
`replay` proposes what the first one would have.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from audioflow.errors import Fault, RecipeError
from audioflow.search.space import (
    Choice,
    Integer,
    LogUniform,
    Parameter,
    Space,
    Values,
    active,
    canonical,
    points,
)

Outcome = tuple[Values, float | None]
"""What was tried, and the score it got (higher is better): NaN where it failed, None where it has
not ended."""

TRIES = 1000
"""Draws that all gave what was tried before, after which a space counts as used up."""


@dataclass(frozen=True)
class Trial:
    """What to try: `number` counts from 0; empty `values` mean the settings as written."""

    number: int
    values: dict[str, Any]


class Sampler(Protocol):
    """Proposes trials and learns their scores. Any number of trials may be open at a time."""

    def ask(self) -> Trial | None:
        """The next trial, or None where nothing new is left to try."""
        ...

    def tell(self, number: int, score: float) -> None:
        """The trial `number` ended with `score`: higher is better, NaN means that it failed.

        Raises `ValueError` for a trial that is not open.
        """
        ...

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        """Take up a search again: all its trials in the order of their numbers.

        Those without a score are handed out again, with the same values, before any new one.
        Raises `ValueError` where this sampler has handed out trials already.
        """
        ...


class Ledger:
    """The trials that were handed out, and which of them are open."""

    def __init__(self) -> None:
        self._seen: set[str] = set()
        self._open: set[int] = set()
        self._again: deque[Trial] = deque()
        self.count = 0

    def is_new(self, values: Values) -> bool:
        """Whether nothing with these values was handed out."""
        return canonical(values) not in self._seen

    def ask(self, propose: Callable[[int], Values | None]) -> Trial | None:
        """A trial to be handed out again, or the next number with what `propose` gives for it."""
        if self._again:
            return self._again.popleft()
        values = propose(self.count)
        return None if values is None else self.enter(values)

    def enter(self, values: Values) -> Trial:
        """Count a trial as handed out."""
        trial = Trial(self.count, deepcopy(dict(values)))
        self._seen.add(canonical(values))
        self._open.add(trial.number)
        self.count += 1
        return trial

    def tell(self, number: int) -> None:
        """Count a trial as ended."""
        if number not in self._open:
            state = "has ended already" if 0 <= number < self.count else "was never handed out"
            raise ValueError(f"trial {number} {state}; {self.count} were handed out, from 0")
        self._open.remove(number)

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        """Enter all trials so far."""
        if self.count:
            raise ValueError(f"replay comes first: {self.count} trials were handed out already")
        for values, score in outcomes:
            trial = self.enter(values)
            if score is None:
                self._again.append(trial)
            else:
                self.tell(trial.number)


class RandomSampler:
    """Values drawn independently (Bergstra and Bengio 2012); trial 0 is the settings as written.

    No values come twice: a space of few points ends when all were drawn.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed, self._ledger = space, seed, Ledger()

    def ask(self) -> Trial | None:
        return self._ledger.ask(self._propose)

    def tell(self, number: int, score: float) -> None:
        self._ledger.tell(number)

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        self._ledger.replay(outcomes)

    def _propose(self, number: int) -> Values | None:
        return drawn(self._space, self._ledger, self._seed, number) if number else {}


def drawn(space: Space, ledger: Ledger, seed: int, number: int) -> Values | None:
    """Random values for trial `number`, new to `ledger`; None where nothing new seems left."""
    rng = np.random.default_rng([seed, number])
    for _ in range(TRIES):
        values = space.filled(lambda parameter: _draw(parameter, rng))
        if ledger.is_new(values):
            return values
    return None


def _draw(parameter: Parameter, rng: np.random.Generator) -> Any:
    if isinstance(parameter, Integer) and parameter.log:
        # Every whole number stands for what is rounded to it.
        low, high = math.log(parameter.low - 0.5), math.log(parameter.high + 0.5)
        whole = round(math.exp(rng.uniform(low, high)))
        return min(max(whole, parameter.low), parameter.high)
    values = points(parameter)
    if values is not None:
        return values[int(rng.integers(len(values)))]
    assert not isinstance(parameter, Choice)
    share, (low, high) = rng.random(), (parameter.low, parameter.high)
    if isinstance(parameter, LogUniform):
        value = math.exp(math.log(low) * (1 - share) + math.log(high) * share)
    else:
        value = low * (1 - share) + high * share
    return min(max(value, low), high)


class GridSampler:
    """Every combination once, the parameter written first changing last.

    A parameter that is not active adds no combinations. size: how many there are.
    """

    def __init__(self, space: Space) -> None:
        """Raises `RecipeError` for parameters of which there are endlessly many values."""
        faults = grid_faults(space)
        if faults:
            raise RecipeError("space", faults)
        self.size = _count(space, 0, {})
        self._space, self._ledger = space, Ledger()
        self._rest = _combinations(space, 0, {})

    def ask(self) -> Trial | None:
        return self._ledger.ask(lambda number: next(self._rest, None))

    def tell(self, number: int, score: float) -> None:
        self._ledger.tell(number)

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        self._ledger.replay(outcomes)
        self._rest = islice(_combinations(self._space, 0, {}), self._ledger.count, None)


def grid_faults(space: Space) -> list[Fault]:
    """Parameters that a grid cannot go through."""
    faults = []
    for parameter in space.parameters:
        where = f"space.{parameter.key}"
        if points(parameter) is None and not isinstance(parameter, Choice):
            ends = [parameter.low, parameter.high]
            problem = "has endlessly many values, and a grid takes every one"
            allowed = "steps: 5 beside it for 5 values, or a choice"
            faults.append(Fault(where, problem, ends, allowed))
        elif isinstance(parameter, Integer) and parameter.log:
            problem = "has log: true, and a grid takes every whole number alike"
            allowed = "a choice of numbers, or int without log"
            faults.append(Fault(f"{where}.log", problem, True, allowed))
    return faults


def _count(space: Space, index: int, values: dict[str, Any]) -> int:
    """Combinations of the parameters from `index` on, without going through them all."""
    if index == len(space.parameters):
        return 1
    parameter = space.parameters[index]
    if not active(parameter, values):
        return _count(space, index + 1, values)
    options = points(parameter) or ()
    if not any(parameter.key in other.when for other in space.parameters):
        return len(options) * _count(space, index + 1, values)
    return sum(_count(space, index + 1, {**values, parameter.key: value}) for value in options)


def _combinations(space: Space, index: int, values: dict[str, Any]) -> Iterator[dict[str, Any]]:
    if index == len(space.parameters):
        yield values
        return
    parameter = space.parameters[index]
    if not active(parameter, values):
        yield from _combinations(space, index + 1, values)
        return
    for value in points(parameter) or ():
        yield from _combinations(space, index + 1, {**values, parameter.key: value})
