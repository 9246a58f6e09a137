"""Who is told of training beside the run's own files: TensorBoard, MLflow, Weights & Biases.

A logger gets scalars by name, epoch by epoch, of one run per head (and fold) or trial.
"""

import contextlib
import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from audioflow.engine.board import Board
from audioflow.engine.run import Run
from audioflow.errors import Fault, RecipeError
from audioflow.storage import Folder, is_local, local_path

_LONGEST_PARAM, _MOST_PARAMS = 500, 100
"""What MLflow takes of a parameter, and of parameters at once."""


class Logger(Protocol):
    """Takes scalars of runs that are told apart by a name ("" where there is only one)."""

    def add(self, name: str, step: int, scalars: Mapping[str, float]) -> None: ...

    def settings(self, name: str, values: Mapping[str, Any]) -> None:
        """What a run was made with."""
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Logged:
    """What is logged: a head or a search by its name, the job, where its table is, its settings."""

    job: str
    name: str
    table: Folder
    settings: Mapping[str, Any]


@contextlib.contextmanager
def loggers_of(run: Run, logged: Logged) -> Iterator[list[Logger]]:
    """The loggers of the recipe; closed at the end, whatever happens."""
    with contextlib.ExitStack() as stack:
        found: list[Logger] = []
        for name in run.recipe.tracking.loggers:
            logger = _Guarded(name, run, logged)
            stack.callback(logger.close)
            found.append(logger)
        yield found


class _Guarded:
    """A logger that is left out, with a word, once it fails: training goes on without it."""

    def __init__(self, name: str, run: Run, logged: Logged) -> None:
        self._name, self._run, self._logged = name, run, logged
        self._logger: Logger | None = None
        with self._told_once():
            self._logger = _made(name, run, logged)

    @contextlib.contextmanager
    def _told_once(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # noqa: BLE001 - whatever a tracking server or its client raises
            self._logger = None
            why = " ".join(str(error).split())[:300] or type(error).__name__
            text = f"nothing more is logged to {self._name}: {why}"
            self._run.tell(self._logged.job, "note", self._logged.name, text=text)

    def add(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        if self._logger is not None:
            with self._told_once():
                self._logger.add(name, step, scalars)

    def settings(self, name: str, values: Mapping[str, Any]) -> None:
        if self._logger is not None:
            with self._told_once():
                self._logger.settings(name, values)

    def close(self) -> None:
        if self._logger is not None:
            with self._told_once():
                self._logger.close()


def scalars_of(record: Mapping[str, Any]) -> dict[str, float]:
    """What is shown of an epoch's record."""
    found = {"loss/train": record["train_loss"], "lr": record["lr"]}
    if record["val_loss"] is not None:
        found["loss/val"] = record["val_loss"]
    metrics: Mapping[str, float] = record["metrics"]
    return found | {f"val/{key.removeprefix('val_')}": value for key, value in metrics.items()}


def check_loggers(run: Run) -> None:
    """Raise `RecipeError` where the package of a logger is not installed."""
    for place, name in enumerate(run.recipe.tracking.loggers):
        try:
            if name == "mlflow":
                import mlflow  # noqa: F401
            elif name == "wandb":
                import wandb  # noqa: F401
        except ModuleNotFoundError as error:
            problem = f"{name!r} needs the package {error.name!r}, which is not installed"
            key = f"tracking.loggers.{place}"
            fault = Fault(key, problem, name, "pip install 'audioflow[tracking]', or tensorboard")
            raise RecipeError("recipe", [fault]) from error


def _made(name: str, run: Run, logged: Logged) -> Logger:
    tracking = run.recipe.tracking
    if name == "tensorboard":
        return Board(logged.table)
    if name == "mlflow":
        return Mlflow(tracking.mlflow_uri or run.folder.url, tracking.project, logged)
    return Wandb(run.folder, tracking.project, logged, offline=tracking.wandb_mode == "offline")


class Mlflow:
    """Runs of an MLflow experiment, on a server or in a folder (its `file:` store)."""

    def __init__(self, uri: str, project: str, logged: Logged) -> None:
        # MLflow wants to be told that a folder, which needs no database, is meant.
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        from mlflow import MlflowClient

        if "://" not in uri or uri.startswith("file:"):
            uri = f"file:{local_path(uri)}/mlruns"
        self._client = MlflowClient(tracking_uri=uri)
        experiment = self._client.get_experiment_by_name(project)
        self._experiment = (
            experiment.experiment_id if experiment else self._client.create_experiment(project)
        )
        self._logged = logged
        self._runs: dict[str, str] = {}

    def _run(self, name: str) -> str:
        from mlflow.entities import Param

        if name not in self._runs:
            shown = f"{self._logged.name} {name}".strip()
            made = self._client.create_run(self._experiment, run_name=shown)
            self._runs[name] = made.info.run_id
            given = _flat(self._logged.settings).items()
            params = [Param(key, str(value)[:_LONGEST_PARAM]) for key, value in given][
                :_MOST_PARAMS
            ]
            self._client.log_batch(made.info.run_id, params=params)
        return self._runs[name]

    def add(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        from mlflow.entities import Metric

        now_ms = int(time.time() * 1000)
        metrics = [Metric(_plain(key), value, now_ms, step) for key, value in scalars.items()]
        self._client.log_batch(self._run(name), metrics=metrics)

    def settings(self, name: str, values: Mapping[str, Any]) -> None:
        run_id = self._run(name)
        for key, value in values.items():
            self._client.set_tag(run_id, key, str(value)[:5000])

    def close(self) -> None:
        for run_id in self._runs.values():
            self._client.set_terminated(run_id)


class Wandb:
    """Runs of a Weights & Biases project; a run per head, its folds and trials side by side."""

    def __init__(self, folder: Folder, project: str, logged: Logged, *, offline: bool) -> None:
        import wandb

        place = local_path(folder.url) if is_local(folder.url) else None
        if place is not None:
            os.makedirs(place, exist_ok=True)
        self._run = wandb.init(
            project=project,
            name=logged.name,
            config=dict(logged.settings),
            dir=place,
            mode="offline" if offline else "online",
            reinit="create_new",  # others are trained side by side
            settings=wandb.Settings(silent=True, console="off"),
        )

    def add(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        inner = f"{name}/" if name else ""
        shown: dict[str, float] = {f"{inner}{key}": value for key, value in scalars.items()}
        self._run.log(shown | {f"{inner}epoch": step})

    def settings(self, name: str, values: Mapping[str, Any]) -> None:
        self._run.config.update({f"{name}/{key}": value for key, value in values.items()})

    def close(self) -> None:
        self._run.finish()


def _plain(key: str) -> str:
    """A metric's name in the letters that MLflow takes."""
    return key.replace("[", ".").replace("]", "")  # a folder and a file of one name cannot be


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{above}{key}"
        if isinstance(value, Mapping):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = value
    return found
