"""`OptunaSampler`: the tree-structured Parzen estimator of optuna, by ask and tell."""

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial

from audioflow.search.sampling import Ledger, Outcome, Trial, drawn
from audioflow.search.space import (
    Choice,
    Integer,
    LogUniform,
    Parameter,
    Space,
    Values,
    canonical,
    points,
)

PROPOSALS = 20
"""Proposals that were all tried before, after which a trial's values are drawn at random."""


class OptunaSampler:
    """Values that resemble those with the best scores (TPE, Bergstra et al. 2011).

    Trial 0 is the settings as written, which optuna does not learn from; the first ten after it are
    random. Open trials keep others away from where they are; a failed one counts as the worst.
    """

    def __init__(self, space: Space, seed: int) -> None:
        self._space, self._seed, self._ledger = space, seed, Ledger()
        self._distributions = {each.key: _distribution(each) for each in space.parameters}
        self._learnt: dict[int, int] = {}  # number of a trial -> its number in optuna's study
        with _quiet():
            self._study = optuna.create_study(direction="maximize")

    def ask(self) -> Trial | None:
        before = self._ledger.count
        trial = self._ledger.ask(self._propose)
        if trial is not None and trial.number == before:
            self._enter(trial.number, trial.values)
        return trial

    def tell(self, number: int, score: float) -> None:
        self._ledger.tell(number)
        self._learn(number, score)

    def replay(self, outcomes: Iterable[Outcome]) -> None:
        known = list(outcomes)
        self._ledger.replay(known)
        for number, (values, score) in enumerate(known):
            self._enter(number, values)
            if score is not None:
                self._learn(number, score)

    def _propose(self, number: int) -> Values | None:
        if number == 0:
            return {}
        for attempt in range(PROPOSALS):
            values = self._proposal(number, attempt)
            if self._ledger.is_new(values):
                return values
        return drawn(self._space, self._ledger, self._seed, number)

    def _proposal(self, number: int, attempt: int) -> Values:
        """What optuna would try, whether that is new or not.

        The trial it makes for that is thrown away, and the sampler is fresh every time: so the
        proposal depends on nothing but seed, number, attempt, and the trials that were entered.
        """
        seeds = np.random.SeedSequence([self._seed, number, attempt]).generate_state(1)
        self._study.sampler = optuna.samplers.TPESampler(seed=int(seeds[0]))
        proposed = self._study.ask()
        values = self._space.filled(lambda parameter: _suggested(parameter, proposed))
        self._study.tell(proposed, state=TrialState.FAIL)
        return values

    def _enter(self, number: int, values: Values) -> None:
        """Make an open trial of optuna's study; nothing varied is nothing to learn from."""
        if not values:
            return
        varied = [each for each in self._space.parameters if each.key in values]
        self._study.add_trial(
            create_trial(
                state=TrialState.RUNNING,
                params={each.key: _encoded(each, values[each.key]) for each in varied},
                distributions={each.key: self._distributions[each.key] for each in varied},
            )
        )
        self._learnt[number] = len(self._study.get_trials(deepcopy=False)) - 1

    def _learn(self, number: int, score: float) -> None:
        if number not in self._learnt:
            return
        if math.isnan(score):  # pruned without any value: ranked behind all that have one
            self._study.tell(self._learnt[number], state=TrialState.PRUNED)
        else:
            self._study.tell(self._learnt[number], score)


def _distribution(parameter: Parameter) -> BaseDistribution:
    """Of what optuna sees: the index of an option or of a counted value, or the number itself.

    The same as `_suggested` asks for.
    """
    if isinstance(parameter, Choice):
        return CategoricalDistribution(range(len(parameter.options)))
    if isinstance(parameter, Integer):
        return IntDistribution(parameter.low, parameter.high, parameter.log, parameter.step)
    if parameter.steps is not None:
        return IntDistribution(0, parameter.steps - 1)
    return FloatDistribution(parameter.low, parameter.high, isinstance(parameter, LogUniform))


def _suggested(parameter: Parameter, trial: optuna.Trial) -> Any:
    key = parameter.key
    if isinstance(parameter, Choice):
        return parameter.options[trial.suggest_categorical(key, range(len(parameter.options)))]
    if isinstance(parameter, Integer):
        step, log = parameter.step, parameter.log
        return trial.suggest_int(key, parameter.low, parameter.high, step=step, log=log)
    values = points(parameter)
    if values is not None:
        return values[trial.suggest_int(key, 0, len(values) - 1)]
    log = isinstance(parameter, LogUniform)
    return trial.suggest_float(key, parameter.low, parameter.high, log=log)


def _encoded(parameter: Parameter, value: Any) -> Any:
    values = None if isinstance(parameter, Integer) else points(parameter)
    return value if values is None else list(map(canonical, values)).index(canonical(value))


@contextmanager
def _quiet() -> Iterator[None]:
    """Without optuna's line on standard error about every study."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield
    finally:
        optuna.logging.set_verbosity(before)
