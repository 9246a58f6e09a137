"""Trials of small heads of equal shapes, many at a time: each division of the clips is a task."""

from collections.abc import Sequence
from dataclasses import replace

import ray
from ray.exceptions import RayError, RayTaskError

from audioflow.engine.lost import RETRIES
from audioflow.engine.room import room_of
from audioflow.engine.tune_search import JOB, Search
from audioflow.engine.tune_workers import REFUSALS, Outcome, fit_stack
from audioflow.errors import cause_of
from audioflow.planning.machines import Need
from audioflow.search.halving import Halving

MOST_AT_ONCE = 256
"""Heads of a stack, whose parameters and gradients lie in memory together."""


def run_stacks(search: Search, stacks: Sequence[Sequence[int]]) -> None:
    """Run these trials, in groups of equal shapes; told as each group ends."""
    cpus = search.system.train.cpus_per_worker
    remote = ray.remote(num_cpus=cpus, max_retries=RETRIES)(fit_stack)
    need = Need(f"tune.{search.name}", "a stack of trials", {"CPU": cpus})
    room = room_of(search.run, JOB, [need], search.name)
    pending = []
    for stack in stacks:
        for start in range(0, len(stack), MOST_AT_ONCE):
            numbers = list(stack[start : start + MOST_AT_ONCE])
            tasks = [search.task_for(number) for number in numbers]
            longest = tasks[0].section.train.epochs
            refs = [
                remote.remote(
                    [replace(task, fold=where.fold, val_fold=where.val_fold) for task in tasks],
                    numbers,
                    halving_for(search, longest),
                )
                for where in search.divisions(tasks[0], stacked=True)
            ]
            pending.append((numbers, refs))
    for numbers, refs in pending:
        try:
            parts: list[list[Outcome]] = room.get(refs)
        except RayError as error:
            cause = error.cause if isinstance(error, RayTaskError) else error
            if not isinstance(cause, REFUSALS):
                raise cause_of(error) from error
            for number in numbers:
                search.tell(Outcome.failed(number, cause))
            continue
        for place, number in enumerate(numbers):
            search.tell(_joined(number, [part[place] for part in parts]))


def halving_for(search: Search, longest: int) -> Halving | None:
    """Who goes on, where poor trials are stopped early."""
    if not search.section.stop_early:
        return None
    grace = min(search.section.grace_epochs, longest)
    return Halving(grace, search.section.stop_factor, longest=longest)


def _joined(number: int, parts: Sequence[Outcome]) -> Outcome:
    """How a trial ended, from how it did on each division."""
    stopped = any(part.state == "stopped" for part in parts)
    return Outcome(
        number,
        [part.scores[0] for part in parts],
        max(part.epochs for part in parts),
        sum(part.seconds for part in parts),
        "stopped" if stopped else "finished",
    )
