"""TensorBoard: epoch records of one head as event files in its folder."""

import tempfile
from pathlib import Path
from typing import Any

from tensorboardX import SummaryWriter

from audioflow.storage import Folder, is_local, local_path

FOLDER = "tensorboard"


class Board:
    """Writes scalars as they come; for a bucket, into a temporary folder, uploaded at the end."""

    def __init__(self, head: Folder) -> None:
        self._target = head / FOLDER
        self._temporary = None if is_local(head.url) else tempfile.TemporaryDirectory()
        self._root = Path(self._temporary.name if self._temporary else local_path(self._target.url))
        self._writers: dict[str, SummaryWriter] = {}

    def add(self, record: dict[str, Any]) -> None:
        """One epoch's record, with its `fold` where there is one."""
        fold = record.get("fold")
        name = "" if fold is None else f"fold-{fold}"
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self._root / name), flush_secs=2)
        scalars = {"loss/train": record["train_loss"], "lr": record["lr"]}
        if record["val_loss"] is not None:
            scalars["loss/val"] = record["val_loss"]
        scalars |= {
            f"val/{key.removeprefix('val_')}": value for key, value in record["metrics"].items()
        }
        for key, value in scalars.items():
            self._writers[name].add_scalar(key, value, record["epoch"])

    def close(self) -> None:
        """Finish the files, and upload them where the run lies in a bucket."""
        for writer in self._writers.values():
            writer.close()
        if self._temporary is None:
            return
        for path in sorted(self._root.rglob("*")):
            if path.is_file():
                relative = path.relative_to(self._root)
                folder = self._target
                for part in relative.parts[:-1]:
                    folder = folder / part
                folder.write(relative.name, path.read_bytes())
        self._temporary.cleanup()
