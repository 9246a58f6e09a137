"""`raven`: a selection table per recording, for Raven Pro and Lite.

The columns are those that Raven itself writes, and, as in the tables of BirdNET-Analyzer, what was
heard, how sure that is, and of which file.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar, TextIO

from pydantic import Field

from audioflow.exporters.base import Source, Written
from audioflow.exporters.tracks import Stretch, TrackSettings, write_tracks
from audioflow.registry import Settings

_COLUMNS = (
    "Selection",
    "View",
    "Channel",
    "Begin Time (s)",
    "End Time (s)",
    "Low Freq (Hz)",
    "High Freq (Hz)",
    "Common Name",
    "Confidence",
    "Begin Path",
    "File Offset (s)",
)


class RavenSettings(TrackSettings):
    """high_hz: the upper edge of the boxes that Raven draws; a score is of no band."""

    high_hz: float = Field(12_000.0, gt=0)


class Raven:
    """Selection tables."""

    Settings: ClassVar[type[Settings]] = RavenSettings

    def __init__(self, settings: RavenSettings) -> None:
        self._settings = settings

    def write(self, source: Source, out: Path) -> Written:
        return write_tracks(source, out, self._settings, ".selections.txt", self._write)

    def _write(self, stream: TextIO, uri: str, stretches: Sequence[Stretch]) -> None:
        stream.write("\t".join(_COLUMNS) + "\n")
        for number, one in enumerate(stretches, start=1):
            times = [f"{one.start_s:.6f}", f"{one.end_s:.6f}"]
            band = ["0", f"{self._settings.high_hz:g}"]
            label, path = (" ".join(text.split()) for text in (one.label, uri))
            told = [label, f"{one.score:.4f}", path, times[0]]
            cells = [str(number), "Spectrogram 1", "1", *times, *band, *told]
            stream.write("\t".join(cells) + "\n")
