"""Calibration on a real Ray: fitted after training, applied by `score`, fitted anew by itself."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from audioflow.calibration import SystemCalibration, judge
from audioflow.division import CROSS_VALIDATED
from audioflow.engine.flow import run_job
from audioflow.engine.run import Run
from audioflow.errors import InputError
from audioflow.scores import score_matrix
from audioflow.verify import verify
from tests.ray.vectors import CLASSES, Corpus, heard, make_run, write_tables

pytestmark = pytest.mark.usefixtures("ray_session")

TRAIN = {"epochs": 20, "lr": 0.05, "batch_size": 64, "cpus_per_worker": 2.0, "temperature": 0.3}
"""A temperature that makes scores far too sure; one worker, which serves every task."""


def sections(calibration: Any) -> dict[str, Any]:
    system = {"backbone": "feats", "head": "linear", "train": TRAIN}
    system |= {} if calibration is None else {"calibration": calibration}
    return {"systems": {"audio": system}, "score": {"splits": ["val", "test"]}}


def jobs(run: Run, *names: str) -> Run:
    for name in names:
        run_job(name, run)
    return run


def calibration_of(run: Run) -> SystemCalibration:
    found = SystemCalibration.load(run.head("audio").folder)
    assert found is not None
    return found


def judged(run: Run, column: str, splits: Sequence[str] = ("test",)) -> dict[str, float]:
    rows = run.scores("audio").read()
    mine = np.array([split in splits for split in rows["split"].to_pylist()])
    targets = np.array([CLASSES.index(labels[0]) for labels in rows["labels"].to_pylist()])
    return judge(score_matrix(rows, column)[mine], targets[mine])


def notes(run: Run) -> list[str]:
    return [data["text"] for data in heard(run).of("note", "audio")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, ray_session: None) -> Path:
    """A run without calibration: its tables, and its head."""
    folder = tmp_path_factory.mktemp("calibrated")
    run = make_run(folder, **sections(None))
    write_tables(run, Corpus(count=900, spread=2.0))
    jobs(run, "train")
    return folder


def test_scores_are_calibrated_without_training_again(done: Path) -> None:
    before = make_run(done, **sections(None)).head("audio").complete_header()
    asked = {"method": "temperature", "thresholds": {"precision": 0.6}}
    run = jobs(make_run(done, **sections(asked)), "train", "score")
    header = run.head("audio").complete_header()
    assert header.fingerprint == before.fingerprint
    assert header.stats["results"] == before.stats["results"]
    assert heard(run).of("epoch") == []
    told = header.stats["calibration"]
    assert told["method"] == "temperature"
    assert told["clips"] == 225
    assert told["after"]["ece"] < told["before"]["ece"] / 2
    assert any(text.startswith("temperature calibration on 225 clips: ECE") for text in notes(run))
    raw, after = judged(run, "raw_scores"), judged(run, "scores")
    assert after["ece"] < raw["ece"] / 2
    assert after["nll"] < raw["nll"]
    limits = {name: one.value for name, one in calibration_of(run).thresholds().items()}
    assert all(limits.values())
    for row in run.scores("audio").read().to_pylist():
        limit = limits[row["predicted"]]
        assert limit is not None
        assert row["above_threshold"] == ([row["predicted"]] if row["score"] >= limit else [])
    assert verify(run.folder).ok

    other = jobs(make_run(done, **sections("isotonic")), "train", "score")
    assert other.head("audio").complete_header().fingerprint == before.fingerprint
    assert calibration_of(other).method == "isotonic"
    rows = other.scores("audio").read()
    assert "above_threshold" not in rows.column_names
    assert verify(other.folder).ok
    again = jobs(make_run(done, **sections("isotonic")), "train", "score")
    assert notes(again) == []
    assert heard(again).of("skip", "audio")

    (other.head("audio").folder).remove("calibration.json")
    (fault,) = verify(other.folder).faults
    assert (fault.table, fault.kind, fault.where) == (
        "heads/audio",
        "missing_file",
        "calibration.json",
    )
    jobs(make_run(done, **sections("isotonic")), "train")
    assert verify(other.folder).ok

    none = jobs(make_run(done, **sections(None)), "train")
    assert SystemCalibration.load(none.head("audio").folder) is None
    (fault,) = verify(none.folder).faults
    assert (fault.table, fault.kind) == ("scores/audio", "parent")
    assert "has the calibration none" in fault.what


def test_with_folds_every_clip_is_calibrated_by_what_never_saw_it(tmp_path: Path) -> None:
    splits = [*[CROSS_VALIDATED] * 9, "test"]
    corpus = Corpus(count=600, spread=2.0, splits=splits, folds=[*["1", "2", "3"] * 3, None])
    asked = sections({"method": "vector", "thresholds": {"f1": "best"}})
    run = make_run(tmp_path, **asked)
    write_tables(run, corpus)
    jobs(run, "train", "score")
    found = calibration_of(run)
    assert set(found.folds) == {"1", "2", "3"}
    assert found.fitted["how"].startswith("cross-fitted: folds in 3 blocks")
    rows = run.scores("audio").read().to_pylist()
    folds = dict(zip(corpus.ids, corpus.folds * 60, strict=True))
    raw = np.array([row["raw_scores"] for row in rows], np.float32)
    wanted = found.apply(raw, [folds[row["clip_id"]] for row in rows])
    np.testing.assert_array_equal(np.array([row["scores"] for row in rows], np.float32), wanted)
    assert judged(run, "scores", ["val"])["nll"] == pytest.approx(found.fitted["after"]["nll"])
    assert judged(run, "scores", ["test"])["nll"] < judged(run, "raw_scores", ["test"])["nll"]
    assert verify(run.folder).ok


def test_nothing_to_calibrate_on_is_told_before_anything_is_trained(tmp_path: Path) -> None:
    system = {"backbone": "feats", "head": "logistic_regression", "calibration": "platt"}
    run = make_run(tmp_path, systems={"audio": system})
    write_tables(run, Corpus(count=60, splits=["train", "test"]))
    with pytest.raises(InputError, match="no clip of the split val has an embedding"):
        run_job("train", run)
    assert heard(run).of("epoch") == []
