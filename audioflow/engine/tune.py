"""The job `tune`: settings of a system are searched, and its best head becomes a system.

Small heads of equal shapes are trained many at a time in tasks of Ray, all others as trials of Ray
Tune. Every trial is noted when it is proposed and when it ends, so that an interrupted search goes
on; what is proposed depends on the seed and on what ended alone.
"""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from audioflow.engine.loggers import Logged, check_loggers, loggers_of
from audioflow.engine.nodes import watched_nodes
from audioflow.engine.run import Run, Watch
from audioflow.engine.train import (
    fit_alone_on_ray,
    head_fingerprint,
    train_task,
)
from audioflow.engine.train_calibrate import calibrate
from audioflow.engine.train_data import check_splits, folds_of
from audioflow.engine.train_place import placed
from audioflow.engine.train_save import Trained, save_heads
from audioflow.engine.tune_ray import run_trials
from audioflow.engine.tune_search import JOB, Journal, Search
from audioflow.engine.tune_stacked import run_stacks
from audioflow.engine.tune_workers import stack_key
from audioflow.errors import InputError
from audioflow.recipe import SystemSection
from audioflow.recipe_tune import TuneSection
from audioflow.schemas import TRIALS_SCHEMA
from audioflow.search import make_sampler
from audioflow.search.importance import importance
from audioflow.search.reading import read_space
from audioflow.tables import SCHEMA_VERSION, Header, fingerprint, package_versions

_OPTUNA_ROUND = 8
"""Stacked trials that are proposed before the first of them has ended."""


def tune(run: Run) -> list[Header]:
    """Write `tune/<name>/` and `heads/<name>/` for every search of the recipe."""
    check_loggers(run)
    found = []
    for name, section in run.recipe.tune.items():
        found.append(_tune_system(run, name, section))
        calibrate(run, name, run.recipe.systems[section.system], JOB)
    return found


def _tune_system(run: Run, name: str, section: TuneSection) -> Header:
    system = run.recipe.systems[section.system]
    base, parents = head_fingerprint(run, section.system, system)
    key = fingerprint("tune", SCHEMA_VERSION, base, section.model_dump(mode="json"))
    table, head = run.search(name), run.head(name)
    old, made = table.header(), head.header()
    if old is not None and made is not None and old.fingerprint == made.fingerprint == key:
        run.tell(JOB, "skip", name, rows=old.rows, failures=old.failures)
        return old
    watch = Watch()
    search = _begun(run, name, section, system, key)
    settings = section.model_dump(mode="json") | {"base": system.of_head}
    logged = Logged(JOB, name, table.folder, settings)
    with watched_nodes(run, JOB), loggers_of(run, logged) as search.loggers:
        mode = _search(search)
    if search.best is None:
        raise InputError(f"{name}: {_why_none(search)}")
    chosen = _save_best(search, key, parents, watch)
    header = _save_trials(search, key, parents, watch, {"mode": mode, "chosen": chosen})
    search.journal.remove()
    run.finished(JOB, name, header)
    return header


def _begun(run: Run, name: str, section: TuneSection, system: SystemSection, key: str) -> Search:
    system = placed(run, JOB, section.system, system, 1)
    task = train_task(run, name, system)
    folds = folds_of(run.manifest().read(["fold"])["fold"].unique().to_pylist())
    check_splits(task, folds)
    sampler = make_sampler(section.search, read_space(section.space), section.seed)
    journal = Journal(run.folder / "train" / f"tune-{name}-{key[:12]}")
    search = Search(run, name, section, system, task, folds, sampler, journal)
    search.resume()
    total = min(section.trials, getattr(sampler, "size", section.trials))
    told = {"select": system.train.select, "default": search.as_written}
    run.tell(JOB, "start", name, total=total, done=len(search.ended), **told)
    return search


def _search(search: Search) -> str:
    """Run all trials that are left; how that was done."""
    modes: Counter[str] = Counter()
    while True:
        asked = _asked(search)
        if not asked:
            break
        stacks: dict[str, list[int]] = {}
        alone = []
        for number in asked:
            task = search.ready(number)
            if task is None:
                continue
            stack = stack_key(task.section, task) if search.section.stacked == "auto" else None
            if stack is None:
                alone.append(number)
            else:
                stacks.setdefault(stack, []).append(number)
        modes["stacked"] += sum(map(len, stacks.values()))
        modes["ray tune"] += len(alone)
        run_stacks(search, list(stacks.values()))
        if alone:
            run_trials(search, alone)
    return ", ".join(mode for mode, count in modes.items() if count) or "resumed"


def _asked(search: Search) -> list[int]:
    """The next trials: all that are left, or a round of those that learn from what ended.

    Rounds begin at the same numbers after an interruption, so that the proposals are the same.
    """
    rounds = search.section.search == "optuna" and search.section.stacked == "auto"
    asked: list[int] = []
    while (trial := search.ask()) is not None:
        asked.append(trial.number)
        if rounds and (trial.number + 1) % _OPTUNA_ROUND == 0:
            break
    return asked


def _why_none(search: Search) -> str:
    reasons = Counter(outcome.reason or "no score" for outcome in search.ended.values())
    told = "; ".join(f"{reason} ({count}x)" for reason, count in reasons.most_common(3))
    return f"none of {len(search.ended)} trials gave a head: {told}"


def _save_best(
    search: Search, key: str, parents: Mapping[str, str], watch: Watch
) -> dict[str, int]:
    """Train the best setting, with folds the best for each by the others, and save the heads."""
    chosen = {fold: _best_for(search, fold) for fold in search.folds or [""]}
    tasks = [replace(search.task_for(number), fold=fold or None) for fold, number in chosen.items()]
    search.run.head(search.name).folder.remove_all()
    results = fit_alone_on_ray(search.run, search.name, tasks, key)
    trained = Trained(
        tasks[0].section, tasks, results, search.folds, key, dict(parents), {"tuned": True}
    )
    save_heads(search.run, search.name, trained, watch)
    return chosen


def _best_for(search: Search, fold: str) -> int:
    """The trial with the best score on the divisions that hold out this fold, of equals the first:
    what others scored may have been judged on this fold."""
    scored = []
    for number, outcome in sorted(search.ended.items()):
        if outcome.score is None:
            continue
        mine = outcome.scores
        if fold:
            share = len(outcome.scores) // len(search.folds)
            place = search.folds.index(fold)
            mine = outcome.scores[place * share : (place + 1) * share]
        scored.append((sum(mine) / len(mine), -number))
    return -max(scored)[1]


def _save_trials(
    search: Search,
    key: str,
    parents: Mapping[str, str],
    watch: Watch,
    stats: Mapping[str, Any],
) -> Header:
    assert search.best is not None
    rows = [
        {
            "number": number,
            "values": json.dumps(search.proposed[number]),
            "score": outcome.score,
            "scores": outcome.scores,
            "epochs": outcome.epochs,
            "seconds": outcome.seconds,
            "state": outcome.state,
            "reason": outcome.reason,
        }
        for number, outcome in sorted(search.ended.items())
    ]
    table = search.run.search(search.name)
    name = f"trials-{key[:12]}"
    table.open_for([name])
    receipt = table.commit(name, pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA))
    space = read_space(search.section.space)
    tried = [
        (search.proposed[number], outcome.score)
        for number, outcome in search.ended.items()
        if outcome.score is not None
    ]
    default = search.ended.get(0)
    as_written = default.score if default is not None and not search.proposed[0] else None
    header = Header(
        kind="tune",
        name=search.name,
        fingerprint=key,
        parents=dict(parents),
        settings=search.section.model_dump(mode="json")
        | {"base": search.system.of_head, "folds": search.folds},
        rows=len(rows),
        failures=0,
        shards=[receipt],
        classes=list(search.task.classes.names),
        stats=watch.stats(len(rows))
        | {"best": {"number": search.best[0], "score": search.best[1]}, "default_score": as_written}
        | {"importance": [list(one) for one in importance(space, tried)]}
        | dict(stats),
        versions=package_versions(),
    )
    return table.finish(header)
