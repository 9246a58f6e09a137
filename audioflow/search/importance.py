"""How much each parameter of a search mattered, told from its trials.

Shapes: N trials, P parameters.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import RandomForestRegressor
from sklearn.inspection import permutation_importance
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder

from audioflow.search.sampling import Outcome
from audioflow.search.space import (
    Choice,
    Integer,
    LogUniform,
    Parameter,
    Space,
    Values,
    active,
    canonical,
)

LEAST_TRIALS = 8
_TREES = 64
_REPEATS = 8


def importance(space: Space, trials: Sequence[Outcome]) -> list[tuple[str, float]]:
    """How much of what the score varies by comes with each parameter: (key, share), largest first.

    Permutation importance (Breiman 2001): a random forest learns the score from the values, and a
    parameter counts for how much worse the forest tells the scores when that parameter's values
    change places among the trials. What two parameters do together counts for both; the shares are
    scaled to sum to 1. Of few trials, a parameter that does nothing gets a small share too.

    Trials without a finite score, and those that leave an active parameter as written, are passed
    over. Empty for fewer than `LEAST_TRIALS` others, and where their scores are all the same.
    """
    usable = [
        (values, score)
        for values, score in trials
        if score is not None and math.isfinite(score) and _says_all(space, values)
    ]
    if len(usable) < LEAST_TRIALS:
        return []
    scores_N = np.array([score for _, score in usable], np.float64)
    codes_NP = np.array(
        [[_code(each, values) for each in space.parameters] for values, _ in usable]
    )
    losses_P = np.maximum(_losses(space, _completed(codes_NP), scores_N), 0)
    total = losses_P.sum()
    if not total > 0:
        return []
    shares = zip(space.keys, (losses_P / total).tolist(), strict=True)
    return sorted(shares, key=lambda share: -share[1])


def _says_all(space: Space, values: Values) -> bool:
    return all(each.key in values for each in space.parameters if active(each, values))


def _code(parameter: Parameter, values: Values) -> float:
    """A value as a number: its logarithm where factors count, an option's index, NaN for none."""
    if parameter.key not in values:
        return math.nan
    value = values[parameter.key]
    if isinstance(parameter, Choice):
        return list(map(canonical, parameter.options)).index(canonical(value))
    is_log = isinstance(parameter, LogUniform) or (isinstance(parameter, Integer) and parameter.log)
    return math.log(value) if is_log else float(value)


def _completed(codes_NP: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, P) with what is not active drawn from other trials' values.

    So trees can tell the absence of a parameter by what it hangs on, and by nothing else: that a
    part of a plug-in is not there is the doing of the plug-in's name.
    """
    rng = np.random.default_rng(0)
    completed_NP = codes_NP.copy()
    for column_N in completed_NP.T:
        absent_N = np.isnan(column_N)
        there = column_N[~absent_N] if not absent_N.all() else np.zeros(1)
        column_N[absent_N] = rng.choice(there, absent_N.sum())
    return completed_NP


def _losses(
    space: Space, codes_NP: NDArray[np.float64], scores_N: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(P,) by how much the mean squared error rises when a parameter's values change places."""
    options = {
        index: range(len(each.options))
        for index, each in enumerate(space.parameters)
        if isinstance(each, Choice)
    }
    encoder = OneHotEncoder(categories=list(options.values()))
    columns = ColumnTransformer([("choice", encoder, [*options])], remainder="passthrough")
    forest = make_pipeline(columns, RandomForestRegressor(_TREES, random_state=0))
    forest.fit(codes_NP, scores_N)
    found: Any = permutation_importance(
        forest,
        codes_NP,
        scores_N,
        scoring="neg_mean_squared_error",
        n_repeats=_REPEATS,
        random_state=0,
    )
    return found.importances_mean
