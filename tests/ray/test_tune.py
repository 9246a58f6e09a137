"""The job `tune` on a real Ray: stacked and one by one, interrupted, and with trials that fail."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.division import CROSS_VALIDATED
from audioflow.embeddings import ClipEmbedding
from audioflow.engine import tune_ray
from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.storage import local_path
from audioflow.tables import Table
from audioflow.verify import verify
from tests.ray.vectors import (
    CLASSES,
    Corpus,
    bundle_of,
    heard,
    kill_when,
    make_run,
    most_apart,
    records_of,
    scored,
    weights_of,
    write_tables,
)

pytestmark = pytest.mark.usefixtures("ray_session")

TRAIN = {"epochs": 6, "lr": 0.01, "batch_size": 32, "cpus_per_worker": 0.5}


def sections(space: dict[str, Any], head: Any = "linear", **more: Any) -> dict[str, Any]:
    """A system `written` and a search `found` over it."""
    train = TRAIN | more.pop("train", {})
    base = {"backbone": "feats", "head": head, "train": train}
    return {
        "systems": {"written": base},
        "tune": {"found": {"system": "written", "space": space} | more},
        "score": {"splits": ["test"]},
    }


def tuned(folder: Path, corpus: Corpus, space: dict[str, Any], **more: Any) -> Run:
    run = make_run(folder, job="tune", **sections(space, **more))
    write_tables(run, corpus)
    run_job("tune", run)
    return run


def trials(run: Run) -> dict[int, dict[str, Any]]:
    rows = Table(run.search("found").folder).read().to_pylist()
    return {row["number"]: row | {"values": json.loads(row["values"])} for row in rows}


def chosen(run: Run) -> dict[str, int]:
    found: dict[str, int] = run.search("found").complete_header().stats["chosen"]
    return found


RATES = {
    "train.lr": {"loguniform": [1e-3, 1e-1]},
    "train.weight_decay": [0, 0.1],
    "train.label_smoothing": [0, 0.1],
    "head.hidden": [[8], [16]],
}


def test_a_random_search_trains_stacks_and_saves_the_best_head(tmp_path: Path) -> None:
    head = {"name": "mlp", "hidden": [8], "dropout": 0.0}
    run = tuned(tmp_path, Corpus(), RATES, head=head, trials=12, seed=3)
    rows = trials(run)
    assert sorted(rows) == list(range(12))
    assert rows[0]["values"] == {}
    header = run.search("found").complete_header()
    assert header.stats["mode"] == "stacked"
    best = max(rows, key=lambda number: (rows[number]["score"], -number))
    assert chosen(run) == {"": best}
    assert header.stats["best"]["score"] > header.stats["default_score"]
    spec = bundle_of(run, "found").spec
    assert spec.head["hidden"] == rows[best]["values"]["head.hidden"]
    assert spec.trained_on["train"]["lr"] == rows[best]["values"]["train.lr"]
    assert min(r["val_loss"] for r in records_of(run, "found")) == pytest.approx(
        -rows[best]["score"], abs=1e-4
    )

    run_job("train", run)
    run_job("score", run)
    assert len(scored(run, "found")) == 60
    assert not verify(run.folder).faults

    heard(run).clear()
    run_job("tune", run)
    assert [event.kind for event in heard(run)] == ["skip"]


@pytest.mark.slow
def test_one_by_one_and_stacked_give_the_same_scores(tmp_path: Path) -> None:
    space = {
        "head.name": ["linear", "mlp"],
        "head.hidden": {"choice": [[8]], "when": {"head.name": "mlp"}},
        "head.dropout": {"choice": [0.0], "when": {"head.name": "mlp"}},
        "train.lr": [0.001, 0.03],
    }
    ways: dict[str, Any] = {"auto": {}, "never": {"train": {"cpus_per_worker": 1}}}
    found = {
        way: tuned(tmp_path / way, Corpus(), space, search="grid", stacked=way, **more)
        for way, more in ways.items()
    }
    stacked, alone = (trials(found[way]) for way in ways)
    assert [row["values"] for row in stacked.values()] == [
        {"head.name": "linear", "train.lr": 0.001},
        {"head.name": "linear", "train.lr": 0.03},
        {"head.name": "mlp", "head.hidden": [8], "head.dropout": 0.0, "train.lr": 0.001},
        {"head.name": "mlp", "head.hidden": [8], "head.dropout": 0.0, "train.lr": 0.03},
    ]
    for number, row in stacked.items():
        assert row["values"] == alone[number]["values"]
        assert row["score"] == pytest.approx(alone[number]["score"], abs=1e-4)
        assert row["state"] == alone[number]["state"] == "finished"
        assert row["epochs"] == alone[number]["epochs"] == TRAIN["epochs"]
    modes = {way: run.search("found").complete_header().stats["mode"] for way, run in found.items()}
    assert modes == {"auto": "stacked", "never": "ray tune"}
    assert chosen(found["auto"]) == chosen(found["never"])


@pytest.mark.parametrize("stacked", ["auto", pytest.param("never", marks=pytest.mark.slow)])
def test_poor_trials_are_stopped_early(tmp_path: Path, stacked: str) -> None:
    space = {"train.lr": [0.03, 0.00002, 0.00001, 0.0], "train.weight_decay": [0.0, 0.01]}
    more = {"trials": 8, "stop_early": True, "grace_epochs": 2, "stop_factor": 2}
    train = {"epochs": 8, "lr": 0.03}
    run = tuned(tmp_path, Corpus(), space, search="grid", stacked=stacked, train=train, **more)
    rows = trials(run).values()
    assert len(rows) == 8
    good = [row for row in rows if row["values"]["train.lr"] == 0.03]
    assert max(row["epochs"] for row in good) == 8
    assert {row["state"] for row in good if row["epochs"] == 8} == {"finished"}
    poor = [row for row in rows if row["state"] == "stopped"]
    assert len(poor) >= 2
    assert all(2 <= row["epochs"] < 8 for row in poor)
    assert trials(run)[chosen(run)[""]]["values"]["train.lr"] == 0.03


@pytest.mark.slow
def test_what_ends_by_itself_was_not_stopped(tmp_path: Path) -> None:
    """Patience, and heads that scikit-learn fits in one go, beside trials of more epochs."""
    space = {"head.name": ["linear", "logistic_regression"], "train.epochs": [2, 9]}
    more = {"stop_early": True, "grace_epochs": 9, "train": {"epochs": 3}}
    run = tuned(tmp_path, Corpus(), space, search="grid", stacked="never", **more)
    rows = [(row["values"], row["epochs"], row["state"]) for row in trials(run).values()]
    assert rows == [
        ({"head.name": "linear", "train.epochs": 2}, 2, "finished"),
        ({"head.name": "linear", "train.epochs": 9}, 9, "finished"),
        ({"head.name": "logistic_regression", "train.epochs": 2}, 1, "finished"),
        ({"head.name": "logistic_regression", "train.epochs": 9}, 1, "finished"),
    ]


def test_optuna_goes_through_more_trials_than_there_are_cpus(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    space = {
        "train.lr": {"loguniform": [1e-4, 1e-1]},
        "head.name": ["linear", "mlp"],
        "head.dropout": {"uniform": [0.0, 0.5], "when": {"head.name": "mlp"}},
    }
    more = {"trials": 6, "search": "optuna", "stacked": "never", "max_concurrent": 5}
    train = {"epochs": 2, "cpus_per_worker": 1}
    run = tuned(tmp_path, Corpus(count=120), space, train=train, **more)
    assert capfd.readouterr().out == "", "Ray Tune has tables of its own"
    rows = trials(run)
    assert sorted(rows) == list(range(6))
    assert all(row["score"] is not None for row in rows.values())
    for row in rows.values():
        assert ("head.dropout" in row["values"]) == (row["values"].get("head.name") == "mlp")


@pytest.mark.parametrize("stacked", ["auto", pytest.param("never", marks=pytest.mark.slow)])
def test_trials_that_fail_are_rows_with_a_reason(tmp_path: Path, stacked: str) -> None:
    space = {
        "head.name": ["linear", "knn"],
        "head.pca": {"choice": [4, 200], "when": {"head.name": "knn"}},
        "layer": ["pool5", "conv6"],
    }
    run = tuned(tmp_path, Corpus(), space, search="grid", stacked=stacked)
    rows = list(trials(run).values())
    assert len(rows) == 6
    failed = {json.dumps(row["values"]): row["reason"] for row in rows if row["state"] == "failed"}
    assert len(failed) == 4
    assert all("conv6" in why for what, why in failed.items() if "conv6" in what)
    assert all(row["score"] is None for row in rows if row["state"] == "failed")
    (large,) = (why for what, why in failed.items() if "conv6" not in what)
    assert "200" in large
    assert not verify(run.folder).faults


def test_trials_that_break_or_are_killed_again_and_again_leave_the_others_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = tune_ray._trial

    def harmful(config: dict[str, Any]) -> None:
        if config["number"] == 1:
            raise MemoryError("no memory for this one")
        if config["number"] == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        plain(config)

    monkeypatch.setattr(tune_ray, "_trial", harmful)
    more = {"search": "grid", "stacked": "never", "train": {"epochs": 2}}
    rates = {"train.lr": [0.001, 0.003, 0.01, 0.03]}
    run = tuned(tmp_path, Corpus(count=60), rates, **more)
    rows = trials(run)
    assert {number: row["state"] for number, row in rows.items()} == {
        0: "finished",
        1: "failed",
        2: "failed",
        3: "finished",
    }
    assert rows[1]["reason"] == "MemoryError: no memory for this one"
    assert "died" in rows[2]["reason"]
    again = heard(run).of("retry")
    assert [event["trial"] for event in again].count(1) == 2
    for event in again:
        assert event["reason"] == rows[event["trial"]]["reason"]


def test_a_search_whose_trials_all_fail_says_why(tmp_path: Path) -> None:
    space = {"head.name": ["knn"], "head.pca": [100, 200]}
    with pytest.raises(
        InputError, match=r"found: none of 2 trials gave a head: .*(100|200).* \(1x"
    ):
        tuned(tmp_path, Corpus(), space, search="grid")


class Layered(Corpus):
    """The layer `pool1` tells classes apart in folds 1 and 2, `pool5` in folds 2 and 3; elsewhere
    they hold noise, another one for each `seed` in fold 3."""

    def embeddings(self) -> dict[str, ClipEmbedding]:
        useful = {"pool1": ("1", "2"), "pool5": ("2", "3")}
        noise = np.random.default_rng(9).normal(size=(self.count, 8)).astype(np.float32)
        other = np.random.default_rng([9, self.seed]).normal(size=(self.count, 8))
        found = {}
        for number, (clip_id, clip) in enumerate(super().embeddings().items()):
            fold = self.folds[number % 3]
            mine = other[None, number].astype(np.float32) if fold == "3" else noise[None, number]
            corner = 3 * np.eye(8, dtype=np.float32)[None, number // 3 % 3]
            layers = {
                name: mine + corner * (fold in folds and (fold != "3" or not self.seed))
                for name, folds in useful.items()
            }
            found[clip_id] = replace(clip, layers=layers)
        return found


def test_the_setting_of_a_fold_is_chosen_without_that_fold(tmp_path: Path) -> None:
    settings = sections(
        {"layer": ["pool1", "pool5"]}, search="grid", train={"select": "val_accuracy", "lr": 0.05}
    )
    runs = []
    for seed in (0, 1):  # of 1, nothing at all can be learned from fold 3
        run = make_run(tmp_path / str(seed), job="tune", **settings)
        labels = [[CLASSES[number // 3 % 3]] for number in range(120)]
        corpus = Layered(
            count=120,
            labels=labels,
            folds=("1", "2", "3"),
            splits=(CROSS_VALIDATED,),
            layers={"pool1": 8, "pool5": 8},
            seed=seed,
        )
        write_tables(run, corpus)
        run_job("tune", run)
        runs.append(run)
    # Fold 3 held out: judged on folds 1 and 2 alone, whatever is in fold 3.
    first, second = ([row["scores"][4:] for row in trials(run).values()] for run in runs)
    assert first == second
    assert chosen(runs[0])["3"] == chosen(runs[1])["3"] == 0
    assert chosen(runs[0])["1"] == 1
    assert [list(bundle_of(runs[0], "found", fold).spec.layers) for fold in ("1", "3")] == [
        ["pool5"],
        ["pool1"],
    ]
    assert all(len(row["scores"]) == 6 for row in trials(runs[0]).values())
    run_job("train", runs[0])
    run_job("score", runs[0])
    assert len(scored(runs[0], "found")) == 120


def test_an_interrupted_search_goes_on_and_chooses_the_same(tmp_path: Path) -> None:
    space = {"train.lr": [0.001, 0.003, 0.01, 0.03]}
    settings = sections(
        space, search="grid", stacked="never", max_concurrent=1, train={"epochs": 40}
    )
    whole = make_run(tmp_path / "whole", job="tune", **settings)
    write_tables(whole, Corpus())
    run_job("tune", whole)

    run = make_run(tmp_path / "killed", job="tune", **settings)
    write_tables(run, Corpus())
    kill_when(run, "tune", lambda kept: len(list(kept.glob("tune-found-*/told-*.json"))) >= 1)
    assert run.search("found").header() is None
    kept = Path(local_path(run.folder.url)) / "train"
    told = {int(path.stem.partition("-")[2]) for path in kept.glob("tune-found-*/told-*.json")}
    assert 1 <= len(told) < 4
    run_job("tune", run)
    assert {event["number"] for event in heard(run).of("trial")} == set(range(4)) - told
    assert heard(run).of("start", "found")[0]["done"] == len(told)
    expected = trials(whole)
    for number, row in trials(run).items():
        assert row["values"] == expected[number]["values"]
        assert row["score"] == pytest.approx(expected[number]["score"], abs=1e-6)
    assert chosen(run) == chosen(whole)
    assert most_apart(weights_of(run, "found"), weights_of(whole, "found")) < 1e-6
    assert not list(kept.glob("tune-*"))
