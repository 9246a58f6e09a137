"""Trials one by one, by Ray Tune: a trial is a plain function that trains on its own cores."""

import logging
import math
import os
import pickle
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune import Callback, FailureConfig, RunConfig, TuneConfig, Tuner
from ray.tune.schedulers import ASHAScheduler, FIFOScheduler
from ray.tune.search import Searcher

from audioflow.engine.lost import LOST, RETRIES, causes_of, ours_in
from audioflow.engine.room import Room, room_of
from audioflow.engine.tune_search import JOB, Search
from audioflow.engine.tune_workers import REFUSALS, Outcome, steps_of_trial
from audioflow.planning.machines import Need
from audioflow.search.reading import read_space
from audioflow.search.space import points

_NOTHING = -1e9
"""Stands for no score, where Ray Tune wants a number."""


def run_trials(search: Search, numbers: Sequence[int]) -> None:
    """Run trials that were proposed, and propose more as they end; told as each ends."""
    section, train = search.section, search.system.train
    resources = {"cpu": train.cpus_per_worker}
    if train.gpus:
        resources["gpu"] = train.gpus
    proposer = _Proposer(search, list(numbers))
    takes = {name.upper(): amount for name, amount in resources.items()}
    need = Need(f"tune.{search.name}", "a trial", takes)
    room = room_of(search.run, JOB, [need], search.name)
    trainable: Any = tune.with_resources(_trial, resources)
    logging.getLogger("ray.tune").setLevel(logging.ERROR)
    os.environ["RAY_AIR_NEW_OUTPUT"] = "0"  # the other one prints tables whatever `verbose` says
    with tempfile.TemporaryDirectory(prefix="audioflow-tune-") as folder:
        tuner = Tuner(
            trainable,
            tune_config=TuneConfig(
                search_alg=proposer,
                scheduler=_scheduler(search),
                num_samples=-1,
                metric="score",
                mode="max",
                max_concurrent_trials=section.max_concurrent or _room(resources),
                reuse_actors=True,  # a new process takes seconds to import torch
            ),
            run_config=RunConfig(
                name=search.name,
                storage_path=folder,
                verbose=0,
                callbacks=[_Listener(proposer, room)],
                failure_config=FailureConfig(max_failures=min(2, RETRIES)),
            ),
        )
        tuner.fit()


def _room(resources: dict[str, float]) -> int:
    """How many trials the cluster has room for, one at least."""
    has = {name.lower(): amount for name, amount in ray.cluster_resources().items()}
    rooms = [int(has.get(name, 0.0) / wanted) for name, wanted in resources.items() if wanted]
    return max(1, min(rooms))


def _scheduler(search: Search) -> Any:
    if not search.section.stop_early:
        return FIFOScheduler()
    longest = _most_epochs(search)
    return ASHAScheduler(
        time_attr="epoch",
        max_t=longest,
        grace_period=min(search.section.grace_epochs, longest),
        reduction_factor=search.section.stop_factor,
    )


def _most_epochs(search: Search) -> int:
    """The most that a trial may have."""
    found = [search.system.train.epochs]
    for parameter in read_space(search.section.space).parameters:
        if parameter.key == "train.epochs":
            found += [int(value) for value in points(parameter) or ()]
    return max(found)


def _trial(config: dict[str, Any]) -> None:
    """What a trial of Ray Tune runs. Settings that cannot be are told, for trying again is vain."""
    started = time.perf_counter()
    try:
        for epoch, scores, over in steps_of_trial(ray.get(config["tasks"])):
            score = sum(scores) / len(scores)
            tune.report(
                {
                    "epoch": epoch,
                    "score": _NOTHING if math.isnan(score) else score,
                    "scores": list(scores),
                    "seconds": time.perf_counter() - started,
                    "over": over,
                }
            )
    except REFUSALS as error:
        reason = Outcome.failed(config["number"], error).reason
        tune.report({"epoch": 0, "score": _NOTHING, "reason": reason})


class _Proposer(Searcher):
    """Hands out what the search proposes."""

    def __init__(self, search: Search, numbers: list[int]) -> None:
        super().__init__(metric="score", mode="max")
        self._search = search
        self._waiting = numbers
        self._running: dict[str, int] = {}
        self._last: dict[str, dict[str, Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        """Ray Tune keeps a copy to restore from; here nothing is ever restored from it."""
        return {}

    def suggest(self, trial_id: str) -> Any:
        task = None
        while task is None:
            if not self._waiting:
                trial = self._search.ask()
                if trial is None:
                    return Searcher.FINISHED
                self._waiting.append(trial.number)
            number = self._waiting.pop(0)
            task = self._search.ready(number)
        self._running[trial_id] = number
        # By reference: Ray Tune writes a trial's config into files, and tasks may hold secrets.
        tasks = ray.put(self._search.divisions(task, stacked=False))
        return {"number": number, "tasks": tasks}

    def note(self, trial_id: str, result: dict[str, Any]) -> None:
        """An epoch of a trial."""
        self._last[trial_id] = result

    def begun_again(self, trial_id: str, tries: int, reason: str) -> None:
        """A trial was lost, with its node or alone, and begins from its first epoch."""
        number = self._running[trial_id]
        self._search.run.tell(
            JOB, "retry", self._search.name, trial=number, tries=tries, reason=reason
        )

    def ended(self, trial_id: str, reason: str | None) -> None:
        """A trial has ended, for a reason where it failed."""
        if trial_id not in self._running:
            return
        number, last = self._running.pop(trial_id), self._last.pop(trial_id, None)
        if last is None or reason is not None or "reason" in last:
            told = reason or (last or {}).get("reason") or "it gave no result"
            self._search.tell(Outcome(number, [], 0, 0.0, "failed", told))
            return
        state = "finished" if last["over"] else "stopped"
        self._search.tell(
            Outcome(number, list(last["scores"]), last["epoch"], last["seconds"], state)
        )

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Told by the listener, who knows why a trial failed."""

    def save(self, checkpoint_path: str) -> None:
        """Nothing: the search keeps a journal of its own."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing, as above."""


class _Listener(Callback):
    """Tells the proposer how trials go, and ends a search whose nodes are all lost."""

    def __init__(self, proposer: _Proposer, room: Room) -> None:
        self._proposer = proposer
        self._room = room

    def __getstate__(self) -> dict[str, Any]:
        """As for the proposer."""
        return {}

    def on_step_begin(self, iteration: int, trials: list[Any], **info: Any) -> None:
        self._room.check()

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        self._proposer.note(trial.trial_id, result)

    def on_trial_recover(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._proposer.begun_again(trial.trial_id, trial.num_failures, _reason(trial))

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._proposer.ended(trial.trial_id, None)

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._proposer.ended(trial.trial_id, _reason(trial))


def _reason(trial: Any) -> str:
    """Why a trial has failed, or is begun again.

    Ray's own `get_error` has the text alone, and looks where Ray will not have copied it yet.
    """
    try:
        error: Exception = pickle.loads(Path(trial.pickled_error_file).read_bytes())  # noqa: S301
    except Exception:  # noqa: BLE001 - of a class that cannot be made again, or there is none
        return _last_line(trial.error_file)
    if (ours := ours_in(error)) is not None:
        return str(ours)
    for cause in causes_of(error):
        if isinstance(cause, LOST):
            return str(cause).strip().splitlines()[0]
    return str(error).strip().splitlines()[-1]


def _last_line(path: str | None) -> str:
    lines = Path(path).read_text(encoding="utf-8").split("\n") if path else []
    told = [line.strip() for line in lines if line.strip()]
    return told[-1] if told else "its worker or node was lost"
