"""`csv`: a row per clip: id, split, labels, what was predicted, and a column per class."""

from pathlib import Path
from typing import ClassVar

import pyarrow.compute as pc

from audioflow.exporters.base import Source, Written, written
from audioflow.exporters.wide import wide_file
from audioflow.registry import Settings
from audioflow.scores import score_matrix

_COLUMNS = ("clip_id", "split", "labels", "predicted", "scores")
_BETWEEN_LABELS = ";"
_TEXTS = ("clip_id", "split", "labels", "predicted")


class CsvSettings(Settings):
    """Nothing to set."""


class Csv:
    """A wide table as text."""

    Settings: ClassVar[type[Settings]] = CsvSettings

    def __init__(self, settings: CsvSettings) -> None:
        pass

    def write(self, source: Source, out: Path) -> Written:
        header, clips = source.header(), 0
        with written(out) as path, wide_file(path, _TEXTS, header.classes) as write:
            for rows in source.shards(_COLUMNS):
                texts = [rows[name].combine_chunks() for name in _TEXTS if name != "labels"]
                labels = pc.binary_join(rows["labels"].combine_chunks(), _BETWEEN_LABELS)
                texts.insert(_TEXTS.index("labels"), labels)
                write(texts, score_matrix(rows))
                clips += rows.num_rows
        return Written(clips, 1)
