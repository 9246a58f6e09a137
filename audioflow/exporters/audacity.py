"""`audacity`: a label track per recording: begin, end and class of every stretch, between tabs."""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TextIO

from audioflow.exporters.base import Source, Written
from audioflow.exporters.tracks import Stretch, TrackSettings, write_tracks
from audioflow.registry import Settings


class Audacity:
    """Files for File > Import > Labels of Audacity."""

    Settings: ClassVar[type[Settings]] = TrackSettings

    def __init__(self, settings: TrackSettings) -> None:
        self._settings = settings

    def write(self, source: Source, out: Path) -> Written:
        return write_tracks(source, out, self._settings, ".txt", _write)


def _write(stream: TextIO, uri: str, stretches: Sequence[Stretch]) -> None:
    for one in stretches:
        label = " ".join(one.label.split())
        stream.write(f"{one.start_s:.6f}\t{one.end_s:.6f}\t{label}\n")
