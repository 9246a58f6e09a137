"""`verify` on heads of every kind and on searches: what is whole passes, what is not is named."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.failures import summarise
from audioflow.heads import HEADS, estimators
from audioflow.schemas import TRIALS_SCHEMA
from audioflow.storage import Folder
from audioflow.systems import bundle
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.tables import Table
from audioflow.verify import heads, verify
from audioflow.verify.text import verification_lines
from tests.unit.small_run import (
    CLASSES,
    edit_header,
    found,
    header,
    make_head,
    make_scores,
    of_kind,
    recommit,
)

HEAD = "heads/tuned"
SEARCH = "tune/tuned"


def make_fitted_head(run: Folder, name: str, parent: str) -> None:
    """A head that scikit-learn fitted, as `train` writes it."""
    make_head(run, name, parent)
    table = Table(run / "heads" / name)
    made = HEADS.build("logistic_regression", {}).estimator(0)
    values_ND = np.random.default_rng(0).normal(size=(20, 2)).astype(np.float32)
    estimators.fit(made, values_ND, np.arange(20) % 2)
    spec = HeadSpec(**json.loads(table.folder.read(heads.HEAD)))
    spec = replace(spec, head={"name": "logistic_regression"}, normalised=False)
    table.folder.remove(heads.WEIGHTS)
    files = HeadBundle(spec, estimators.save(made)).save(table.folder, [{"epoch": 1}])
    edit_header(run, f"heads/{name}", stats={"files": files})


def trial(number: int, /, **values: object) -> dict:
    score = -1.0 + number / 10
    row = {
        "number": number,
        "values": json.dumps({} if number == 0 else {"train.lr": number / 100}),
        "score": score,
        "scores": [score - 0.1, score + 0.1],
        "epochs": 30,
        "seconds": 0.5,
        "state": "finished",
        "reason": None,
    }
    return row | values


TRIALS = [
    trial(0),
    trial(1, state="stopped", epochs=5),
    trial(2, state="failed", score=None, scores=[], reason="head knn has k 9"),
    trial(3, score=None, scores=[float("nan"), -1.0]),  # it diverged
    trial(4),
]


def trial_rows(*trials: dict) -> pa.Table:
    return pa.Table.from_pylist(list(trials), schema=TRIALS_SCHEMA)


def make_search(run: Folder, folds: tuple[str, ...] = ()) -> None:
    """A search with its trials and its head, as `tune` writes them."""
    make_head(run, "tuned", "acoustic", folds)
    table = Table(run / "tune" / "tuned")
    receipt = table.commit("trials-0", trial_rows(*TRIALS))
    chosen = dict.fromkeys(folds or ("",), 4)
    stats = {"chosen": chosen, "best": {"number": 4, "score": -0.6}}
    more = {"stats": stats, "settings": {"system": "audio"}, "classes": CLASSES}
    made = header(run, SEARCH, [receipt], ["manifest", "embeddings/acoustic"], **more)
    table.finish(made)
    edit_header(run, HEAD, fingerprint=made.fingerprint, stats={"tuned": True})


def test_the_names_and_the_version_are_those_of_a_bundle() -> None:
    names = (bundle.HEAD, bundle.WEIGHTS, bundle.ESTIMATOR, bundle.EPOCHS, bundle.BUNDLE_VERSION)
    told = (heads.HEAD, heads.WEIGHTS, heads.ESTIMATOR, heads.EPOCHS, heads.BUNDLE_VERSION)
    assert told == names


# Heads


def test_a_head_that_scikit_learn_fitted_passes(run: Folder) -> None:
    make_fitted_head(run, "fitted", "acoustic")
    assert verify(run).faults == ()
    edit_header(run, "heads/fitted", stats={})  # without hashes, what is there decides
    assert verify(run).faults == ()


@pytest.mark.parametrize("hashes", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.8, 1.0])
def test_a_damaged_estimator_is_found(run: Folder, share: float, hashes: bool) -> None:
    make_fitted_head(run, "fitted", "acoustic")
    if not hashes:
        edit_header(run, "heads/fitted", stats={})
    data = (run / "heads/fitted").read(heads.ESTIMATOR)
    cut = data[: int(share * (len(data) - 1))]
    (run / "heads/fitted").write(heads.ESTIMATOR, cut)
    (fault,) = verify(run).faults
    where = ("heads/fitted", "damaged_file", heads.ESTIMATOR)
    assert (fault.table, fault.kind, fault.where) == where
    told = "its bytes are not those" if hashes else "it cannot be read ("
    assert fault.what.startswith(told)


def test_an_estimator_that_is_gone_is_found(run: Folder) -> None:
    make_fitted_head(run, "fitted", "acoustic")
    (run / "heads/fitted").remove(heads.ESTIMATOR)
    assert found(run) == [("heads/fitted", "missing_file", heads.ESTIMATOR)]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"version": 1}, "it has version 1, this audioflow reads 2"),
        ({"fold": "2"}, "it is the head of fold 2, expected 1"),
        ({"fold": None}, "it is the head of no fold, expected 1"),
        ({"layers": {}}, "it does not say which layers it reads"),
        (
            {"layers": {"pool": 3}},
            "it reads the layer 'pool' of width 3, the embeddings have width 2",
        ),
        (
            {"layers": {"pool": 2, "conv9": 8}},
            "it reads the layer 'conv9' of width 8, the embeddings have no such layer",
        ),
    ],
)
def test_a_head_of_another_fold_or_on_other_layers_is_found(
    run: Folder, changes: dict, told: str
) -> None:
    folder = run / "heads/video/fold-1"
    folder.write(heads.HEAD, json.dumps(json.loads(folder.read(heads.HEAD)) | changes).encode())
    (fault,) = verify(run).faults
    assert (fault.kind, fault.where, fault.what) == ("damaged_file", "fold-1/head.json", told)


# Searches


@pytest.mark.parametrize("folds", [(), ("1", "2")])
def test_a_search_passes_and_its_trials_are_counted(run: Folder, folds: tuple[str, ...]) -> None:
    make_search(run, folds)
    make_scores(run, "tuned", "acoustic", {"clip07": "no_audio", "clip05": "truncated"})
    result = verify(run)
    assert result.faults == ()
    (check,) = [check for check in result.tables if check.table == SEARCH]
    assert (check.complete, check.rows, check.failures, check.shards) == (True, 5, 0, 1)
    lines = [" ".join(line.split()) for line in verification_lines(result, "runs/x")]
    assert any(line.startswith("tune/tuned 5 trials [green]ok") for line in lines)


def test_failures_of_a_run_with_a_search_are_those_of_its_clips(run: Folder) -> None:
    before = [one.table for one in summarise(run)]
    make_search(run)
    assert [one.table for one in summarise(run)] == before


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        (trial(4, number=1), "trial 1 stands more than once"),
        (trial(4, values="[]"), "trial 4 has the values '[]', expected a mapping as JSON"),
        (trial(4, values="{"), "trial 4 has the values '{', expected a mapping as JSON"),
        (trial(4, state="done"), "trial 4 is 'done', expected finished, stopped, failed"),
        (trial(4, state="failed"), "trial 4 failed, but has the score -0.6"),
        (trial(4, score=-0.5), "trial 4 has the score -0.5, but -0.6 in the mean of where it was"),
        (trial(4, scores=[]), "trial 4 has the score -0.6, but [] where it was judged"),
        (trial(4, score=None, scores=[0.5]), "trial 4 has no score, but [0.5] where it was judged"),
        (trial(4, score=float("inf")), "trial 4 has the score inf, expected a finite number"),
    ],
)
def test_trials_that_cannot_be_are_found(run: Folder, changed: dict, told: str) -> None:
    make_search(run)
    recommit(run, SEARCH, "trials-0", trial_rows(*TRIALS[:4], trial(5), changed))
    edit_header(run, SEARCH, stats={"chosen": {"": 5}})
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == (SEARCH, "value", "trials-0.parquet")
    assert fault.what.startswith(told)
    assert fault.way_out.endswith("run `audioflow tune RECIPE` again")


Damage = Callable[[Folder], None]


@pytest.mark.parametrize(
    ("damage", "kind", "where", "told"),
    [
        (
            lambda run: (run / SEARCH).remove("trials-0.parquet"),
            "missing_file",
            "trials-0.parquet",
            "the file is gone, and with it 5 rows",
        ),
        (
            lambda run: (run / SEARCH).write("trials-0.parquet", b"PAR1"),
            "damaged_file",
            "trials-0.parquet",
            "its bytes are not those of its receipt (4 instead of",
        ),
        (
            lambda run: edit_header(run, SEARCH, rows=6),
            "counts",
            "_header.json",
            "the header counts 6 rows, its receipts make 5 and its files hold 5",
        ),
        (
            lambda run: edit_header(run, SEARCH, stats={"chosen": {"": 9}}),
            "value",
            "_header.json",
            "the head is of trial 9, which is not in the rows",
        ),
        (
            lambda run: edit_header(run, SEARCH, stats={}),
            "header",
            "_header.json",
            "tune/tuned: stats.chosen is None, expected the number of a trial for each fold",
        ),
        (
            lambda run: edit_header(run, HEAD, fingerprint="0" * 32),
            "parent",
            HEAD,
            "heads/tuned is not the head that this search chose",
        ),
        (
            lambda run: (run / HEAD).remove_all(),
            "missing_file",
            HEAD,
            "its best head, heads/tuned, is not there",
        ),
        (
            lambda run: recommit(
                run, SEARCH, "trials-0", trial_rows(*TRIALS).drop_columns(["epochs"])
            ),
            "schema",
            "trials-0.parquet",
            "it has no column epochs",
        ),
        (
            lambda run: edit_header(run, SEARCH, parents={}),
            "parent",
            "_header.json",
            "tune/tuned names no parent embeddings/",
        ),
    ],
)
def test_a_damaged_search_is_found(
    run: Folder, damage: Damage, kind: str, where: str, told: str
) -> None:
    make_search(run)
    damage(run)
    (fault,) = verify(run).faults
    assert (fault.table, fault.kind, fault.where) == (SEARCH, kind, where)
    assert fault.what.startswith(told)
    assert "`audioflow tune RECIPE`" in fault.way_out


def test_a_tuned_head_that_is_damaged_is_made_again_by_its_search(run: Folder) -> None:
    make_search(run, ("1", "2"))
    (run / HEAD / "fold-2").remove(heads.WEIGHTS)
    (fault,) = verify(run).faults
    assert (fault.table, fault.where) == (HEAD, "fold-2/weights.safetensors")
    assert fault.way_out == "remove heads/tuned/_header.json and run `audioflow tune RECIPE` again"


def test_a_search_that_was_interrupted_is_told_with_what_goes_on(
    run: Folder, tmp_path: Path
) -> None:
    make_search(run)
    for table in (HEAD, SEARCH):
        (run / table).remove("_header.json")
    told = {fault.table: fault.way_out for fault in of_kind(run, "incomplete")}
    assert told == {
        HEAD: "run `audioflow train RECIPE` (or tune, for a tuned head) to its end",
        SEARCH: "run `audioflow tune RECIPE` to its end",
    }


def test_scores_of_a_tuned_head_that_is_gone_lead_to_its_search(run: Folder) -> None:
    make_search(run)
    make_scores(run, "tuned", "acoustic", {"clip07": "no_audio", "clip05": "truncated"})
    (run / HEAD).remove_all()
    (fault,) = [one for one in of_kind(run, "parent") if one.table == "scores/tuned"]
    assert fault.way_out == "run `audioflow tune RECIPE`, then run `audioflow score RECIPE` again"


def test_a_manifest_without_its_sources_is_found(run: Folder) -> None:
    rows = Table(run / "manifest").read_shard("m-0")
    recommit(run, "manifest", "m-0", rows.drop_columns(["source", "fine_labels"]))
    (fault,) = of_kind(run, "schema")
    assert fault.what.startswith("it has no column source")
