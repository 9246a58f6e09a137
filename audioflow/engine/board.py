"""TensorBoard: epoch records of one head as event files in its folder."""

import tempfile
from collections.abc import Mapping
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

    def _writer(self, name: str) -> SummaryWriter:
        if name not in self._writers:
            self._writers[name] = SummaryWriter(str(self._root / name), flush_secs=2)
        return self._writers[name]

    def add(self, name: str, step: int, scalars: Mapping[str, float]) -> None:
        """Scalars of a fold or trial, or of the only head ("")."""
        for key, value in scalars.items():
            self._writer(name).add_scalar(key, value, step)

    def settings(self, name: str, values: Mapping[str, Any]) -> None:
        """What a fold or trial was made with, as text."""
        text = "\n".join(f"    {key}: {value}" for key, value in values.items())
        self._writer(name).add_text("settings", text or "as written", 0)

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
