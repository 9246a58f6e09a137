"""Checkpoints of heads that train in a task of Ray alone: one file each, written whole."""

import io
import pickle
from dataclasses import asdict

import torch

from audioflow.errors import TableError
from audioflow.events import EpochRecord
from audioflow.storage import Folder
from audioflow.training import FitState


class Checkpoints:
    """The last state of one head (of a fold, where there are folds) in a folder."""

    def __init__(self, folder: Folder, fold: str | None) -> None:
        self._folder = folder
        self._name = "checkpoint.pt" if fold is None else f"checkpoint-{fold}.pt"

    def save(self, state: FitState) -> None:
        """Keep a state in place of the last one."""
        stream = io.BytesIO()
        torch.save(
            {
                "model": state.model,
                "optimizer": state.optimizer,
                "best": state.best,
                "best_epoch": state.best_epoch,
                "records": [asdict(record) for record in state.records],
            },
            stream,
        )
        self._folder.write(self._name, stream.getvalue())

    def load(self) -> FitState | None:
        """The last state that was kept, if there is one. Raises `TableError` for damage."""
        try:
            data = self._folder.read(self._name)
        except FileNotFoundError:
            return None
        try:
            kept = torch.load(io.BytesIO(data), weights_only=True, map_location="cpu")
            records = [EpochRecord(**record) for record in kept.pop("records")]
            return FitState(**kept, records=records)
        except (RuntimeError, EOFError, pickle.UnpicklingError, TypeError, KeyError) as error:
            raise TableError(
                f"{self._folder.file(self._name)} is a damaged checkpoint: "
                f"{' '.join(str(error).split())}; remove it and run the job train again"
            ) from error
