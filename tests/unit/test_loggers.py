"""Who is told of training: TensorBoard, MLflow in a folder, Weights & Biases offline."""

import sys
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from audioflow.engine.loggers import Logged, check_loggers, loggers_of, scalars_of
from audioflow.engine.run import Run
from audioflow.errors import RecipeError
from audioflow.events import Event
from audioflow.recipe import Recipe

RECORD: dict[str, Any] = {
    "epoch": 1,
    "train_loss": 1.5,
    "val_loss": 1.25,
    "metrics": {"val_accuracy": 0.5, "val_accuracy[pool5]": 0.25},
    "lr": 0.1,
}


def run_of(folder: Path, events: list[Event], **tracking: Any) -> Run:
    data = {"run_dir": str(folder), "manifest": {"reader": "demo"}, "tracking": tracking}
    return Run(Recipe.model_validate(data), events.append)


def log(run: Run) -> None:
    """Two folds of a head, two epochs each."""
    logged = Logged("train", "audio", run.head("audio").folder, {"train": {"lr": 0.1}})
    with loggers_of(run, logged) as loggers:
        for logger in loggers:
            for fold in ("fold-1", "fold-2"):
                for epoch in (1, 2):
                    logger.add(fold, epoch, scalars_of(RECORD))


def test_a_record_has_losses_rate_and_metrics():
    assert scalars_of(RECORD) == {
        "loss/train": 1.5,
        "loss/val": 1.25,
        "lr": 0.1,
        "val/accuracy": 0.5,
        "val/accuracy[pool5]": 0.25,
    }
    assert "loss/val" not in scalars_of(RECORD | {"val_loss": None})


def test_tensorboard_has_a_folder_per_fold(tmp_path):
    events: list[Event] = []
    log(run_of(tmp_path, events))
    assert events == []
    for fold in ("fold-1", "fold-2"):
        read = EventAccumulator(str(tmp_path / "heads/audio/tensorboard" / fold))
        read.Reload()
        assert [(one.step, one.value) for one in read.Scalars("loss/val")] == [(1, 1.25), (2, 1.25)]


def test_mlflow_has_a_run_per_fold_with_metrics_and_settings(tmp_path):
    mlflow = pytest.importorskip("mlflow")
    events: list[Event] = []
    log(run_of(tmp_path, events, loggers=["mlflow"], project="dogs"))
    assert events == []
    client = mlflow.MlflowClient(tracking_uri=f"file:{tmp_path}/mlruns")
    experiment = client.get_experiment_by_name("dogs")
    runs = client.search_runs([experiment.experiment_id])
    assert sorted(one.info.run_name for one in runs) == ["audio fold-1", "audio fold-2"]
    for one in runs:
        assert one.info.status == "FINISHED"
        assert one.data.params == {"train.lr": "0.1"}
        history = client.get_metric_history(one.info.run_id, "val/accuracy.pool5")
        assert [(point.step, point.value) for point in history] == [(1, 0.25), (2, 0.25)]


def test_weights_and_biases_offline_keeps_its_run_in_the_run_dir(tmp_path):
    pytest.importorskip("wandb")
    events: list[Event] = []
    log(run_of(tmp_path, events, loggers=["wandb"], wandb_mode="offline"))
    assert events == []
    (kept,) = (tmp_path / "wandb").glob("offline-run-*/run-*.wandb")
    assert b"fold-2/val/accuracy[pool5]" in kept.read_bytes()


def test_a_server_that_does_not_answer_is_told_once_and_training_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    events: list[Event] = []
    uri = "http://127.0.0.1:9"
    log(run_of(tmp_path, events, loggers=["mlflow", "tensorboard"], mlflow_uri=uri))
    (told,) = events
    assert (told.kind, told.name) == ("note", "audio")
    assert told.data["text"].startswith("nothing more is logged to mlflow: ")
    assert list((tmp_path / "heads/audio/tensorboard").iterdir())


def test_a_logger_whose_package_is_missing_is_a_fault_of_the_recipe(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    run = run_of(tmp_path, [], loggers=["tensorboard", "wandb"])
    with pytest.raises(RecipeError, match=r"tracking\.loggers\.1: 'wandb' needs the package"):
        check_loggers(run)
