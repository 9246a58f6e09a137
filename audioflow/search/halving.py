"""Successive halving: most trials are stopped early, so that the best get most of the epochs.

Shapes: T trials that are trained side by side.
"""

import math

import numpy as np
from numpy.typing import NDArray


class Halving:
    """Rungs, and who goes on at each (Jamieson and Talwalkar 2016; ASHA: Li et al. 2018).

    `decide` is asked trial by trial, in any order, and compares with the trials that came to a rung
    before; `survivors` is asked for all at once and keeps no state.
    """

    def __init__(self, grace: int, factor: int = 3, *, longest: int) -> None:
        """Raises `ValueError` for numbers that make no rungs.

        grace: epochs before the first decision, 1 or more.
        factor: one in so many goes on at a rung, and the next is so many times as far; 2 or more.
        longest: the most epochs that a trial gets, not fewer than `grace`.
        """
        if grace < 1:
            raise ValueError(f"grace is {grace}; allowed: 1 or more")
        if factor < 2:
            raise ValueError(f"factor is {factor}; allowed: 2 or more")
        if longest < grace:
            raise ValueError(f"longest is {longest}; allowed: grace, which is {grace}, or more")
        self.grace, self.factor, self.longest = grace, factor, longest
        self._stopped: set[int] = set()
        self._scores: dict[int, dict[int, float]] = {rung: {} for rung in self.rungs}

    @property
    def rungs(self) -> tuple[int, ...]:
        """The epochs after which it is decided who goes on: grace * factor**k below `longest`."""
        found, rung = [], self.grace
        while rung < self.longest:
            found.append(rung)
            rung *= self.factor
        return tuple(found)

    def decide(self, number: int, epoch: int, score: float) -> bool:
        """Whether trial `number`, with `score` (higher is better) after `epoch` epochs, goes on.

        A rung counts once, at the first epoch told at or behind it: a trial goes on if it is among
        the best 1/factor (at least one) of those that came there so far; with the last of these it
        may tie. It stops for good with a NaN score, and at `longest`.
        """
        if math.isnan(score):
            self._stopped.add(number)
            score = -math.inf
        for rung, scores in self._scores.items():
            if rung <= epoch and number not in scores:
                scores[number] = score
                better = sum(other > score for other in scores.values())
                if better >= max(1, len(scores) // self.factor):
                    self._stopped.add(number)
        return epoch < self.longest and number not in self._stopped

    def survivors(self, scores_T: NDArray[np.floating], epoch: int) -> NDArray[np.bool_]:
        """(T,) which trials go on after `epoch`, by their scores (T,), NaN for one that is over.

        At a rung these are the best 1/factor of the others (at least one; of equals the earlier),
        elsewhere all others.
        """
        alive_T = ~np.isnan(scores_T)
        if epoch not in self.rungs:
            return alive_T
        kept = max(1, int(alive_T.sum()) // self.factor)
        best_first = np.lexsort((-scores_T, ~alive_T))
        chosen_T = np.zeros(len(scores_T), np.bool_)
        chosen_T[best_first[:kept]] = True
        return chosen_T & alive_T
