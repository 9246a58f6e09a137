"""One search: what is varied, what was proposed and how it ended, kept so that it can go on."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from audioflow.engine.loggers import Logger
from audioflow.engine.run import Run
from audioflow.engine.train import train_task
from audioflow.engine.train_task import TrainTask
from audioflow.engine.tune_workers import REFUSALS, Outcome, divisions, section_of
from audioflow.recipe import SystemSection
from audioflow.recipe_tune import TuneSection
from audioflow.search.sampling import Sampler, Trial
from audioflow.search.space import applied
from audioflow.storage import Folder

JOB = "tune"

_INNER_STACKED, _INNER_ALONE = 4, 1
"""On how many other folds a setting is judged, where the recipe does not say."""


class Journal:
    """Trials as they were proposed and as they ended, a small file each."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def asked(self, trial: Trial) -> None:
        self._folder.write(f"asked-{trial.number}.json", json.dumps(trial.values).encode())

    def told(self, outcome: Outcome) -> None:
        self._folder.write(f"told-{outcome.number}.json", outcome.to_json().encode())

    def read(self, trials: int) -> tuple[dict[int, dict[str, Any]], dict[int, Outcome]]:
        """What was proposed and what ended, by number."""
        names = [f"{kind}-{n}.json" for kind in ("asked", "told") for n in range(trials)]
        asked, told = {}, {}
        for name, data in self._folder.read_many(names).items():
            kind, _, number = name.removesuffix(".json").partition("-")
            if kind == "asked":
                asked[int(number)] = json.loads(data)
            else:
                told[int(number)] = Outcome(**json.loads(data))
        return asked, {number: one for number, one in told.items() if number in asked}

    def remove(self) -> None:
        self._folder.remove_all()


@dataclass
class Search:
    """One search: what is varied, what was proposed and how it ended."""

    run: Run
    name: str
    section: TuneSection
    system: SystemSection
    task: TrainTask
    folds: list[str]
    sampler: Sampler
    journal: Journal
    proposed: dict[int, dict[str, Any]] = field(default_factory=dict)
    running: set[int] = field(default_factory=set)
    ended: dict[int, Outcome] = field(default_factory=dict)
    best: tuple[int, float] | None = None
    loggers: Sequence[Logger] = ()

    def ask(self) -> Trial | None:
        """The next trial, noted before it begins; None where the search is over."""
        if len(self.ended) + len(self.running) >= self.section.trials:
            return None
        trial = self.sampler.ask()
        if trial is not None and trial.number not in self.proposed:
            self.journal.asked(trial)
        if trial is not None:
            self.proposed[trial.number] = trial.values
            self.running.add(trial.number)
        return trial

    def tell(self, outcome: Outcome) -> None:
        """A trial has ended."""
        if outcome.state != "failed" and outcome.score is None:
            why = "its score is not a number: training diverged"
            outcome = replace(outcome, scores=[], state="failed", reason=why)
        self.journal.told(outcome)
        self._take(outcome)
        score = outcome.score
        self.sampler.tell(outcome.number, float("nan") if score is None else score)
        best = None if self.best is None else {"number": self.best[0], "score": self.best[1]}
        told = {"number": outcome.number, "score": score, "best": best, "state": outcome.state}
        told |= {"values": self.proposed[outcome.number], "seconds": outcome.seconds}
        self.run.tell(JOB, "trial", self.name, **told, reason=outcome.reason)
        for logger in self.loggers:
            name = f"trial-{outcome.number}"
            logger.settings(name, self.proposed[outcome.number])
            if score is not None:
                logger.add(name, outcome.epochs, {"score": score, "seconds": outcome.seconds})

    def _take(self, outcome: Outcome) -> None:
        self.ended[outcome.number] = outcome
        self.running.discard(outcome.number)
        score = outcome.score
        if score is not None and (self.best is None or score > self.best[1]):
            self.best = (outcome.number, score)

    def resume(self) -> None:
        """Take up what an interrupted search got to."""
        self.proposed, told = self.journal.read(self.section.trials)
        numbers = sorted(self.proposed)
        outcomes = []
        for number in numbers:
            outcome = told.get(number)
            score = None if outcome is None else outcome.score
            if outcome is not None:
                self._take(outcome)
                score = float("nan") if score is None else score
            outcomes.append((self.proposed[number], score))
        self.sampler.replay(outcomes)

    @property
    def as_written(self) -> dict[str, Any]:
        """What the system itself has for the keys that are varied."""
        written, found = self.system.model_dump(mode="json"), {}
        for key in self.section.space:
            value: Any = written
            for name in key.split("."):
                value = value.get(name) if isinstance(value, dict) else None
            if value is not None:
                found[key] = value
        return found

    def section_for(self, number: int) -> SystemSection:
        """The system with the values of a trial."""
        written = self.system.model_dump(mode="json", exclude_unset=True)
        return section_of(json.dumps(applied(written, self.proposed[number])))

    def task_for(self, number: int) -> TrainTask:
        """What a trial trains."""
        section, written = self.section_for(number).train, self.system.train
        same = (section.fine, section.task) == (written.fine, written.task)
        classes = self.task.classes if same else None
        return train_task(self.run, self.name, self.section_for(number), classes)

    def ready(self, number: int) -> TrainTask | None:
        """As `task_for`; None for settings that cannot be, which ends the trial."""
        try:
            return self.task_for(number)
        except REFUSALS as error:
            self.tell(Outcome.failed(number, error))
            return None

    def divisions(self, task: TrainTask, *, stacked: bool) -> list[TrainTask]:
        """Where a trial is judged."""
        usual = _INNER_STACKED if stacked else _INNER_ALONE
        return divisions(task, self.folds, self.section.inner_folds or usual)
