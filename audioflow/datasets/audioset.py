"""`audioset`: AudioSet, spans of YouTube videos with one or more of 527 classes of sound.

    audioset/                             <- root: media, anywhere below it
      --PJHxphWEs_30000.wav               names: the id alone, Y and the id, or id and start, id,
      Y--aO5cdqSAg.wav                    start and end (in seconds or milliseconds)
    eval_segments.csv                     three lines of comments, then
                                          YTID, start_seconds, end_seconds, "mid,mid"
    audioset_train_strong.tsv             segment_id, start_time_seconds, end_time_seconds, label
    class_labels_indices.csv              index,mid,display_name
    mid_to_display_name.tsv               mid<TAB>name, for the strong labels

A list of segments gives a clip per segment. One of strong labels gives a clip per event: its span
in the segment, with all labels of that very span (or, with `unit: segment`, one per segment).
Columns: `youtube_id`, `segment_id`, and `split` where `annotations` say it. Clips of one video are
one group.
"""

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve, clip_id
from audioflow.datasets.lines import Line, read_lines, read_text
from audioflow.datasets.tree import Tree
from audioflow.errors import InputError, shown
from audioflow.recipe_splits import SPLITS
from audioflow.redaction import masked
from audioflow.registry import Settings
from audioflow.storage import Folder

_STRONG = ("segment_id", "start_time_seconds", "end_time_seconds", "label")
_WEAK = ("YTID", "start_seconds", "end_seconds", "positive_labels")
_SEGMENT_S = 10.0


class AudioSetSettings(Settings):
    """root: folder or url with the media. annotations: a list, several, or by split.

    names: file with the names of classes; without, labels are their mids. media: whether a file is
    the segment alone or the whole video. unit: whether strong labels give a clip per event or per
    segment. longest_s: of longer events the middle is taken. missing: whether clips whose medium is
    not there are kept, and fail, or dropped.
    """

    root: str = Field(min_length=1)
    annotations: Any
    names: str | None = Field(None, min_length=1)
    media: Literal["segments", "videos"] = "segments"
    unit: Literal["event", "segment"] = "event"
    longest_s: float | None = Field(None, gt=0)
    missing: Literal["keep", "drop"] = "keep"

    @field_validator("annotations")
    @classmethod
    def _paths(cls, value: Any) -> Any:
        by_split = isinstance(value, dict)
        wrong = [name for name in value if name not in SPLITS] if by_split else []
        paths = list(value.values()) if by_split else [value] if isinstance(value, str) else value
        if wrong or not isinstance(paths, list) or not paths or not all(map(_is_path, paths)):
            raise ValueError(
                f"{shown(value)} is no list of segments or events; allowed: a path, a list of "
                "paths, or paths by split like {train: a.csv, test: b.csv}"
            )
        return value

    @property
    def paths(self) -> list[tuple[str, str]]:
        """Paths with the split each is of, "" where none is told."""
        if isinstance(self.annotations, dict):
            return [(path, split) for split, path in self.annotations.items()]
        given = self.annotations
        return [(path, "") for path in ([given] if isinstance(given, str) else given)]


def _is_path(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


class AudioSetReader:
    """Clips of AudioSet."""

    Settings = AudioSetSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: audioset\n"
        "  root: audioset\n"
        "  annotations: {train: balanced_train_segments.csv, test: eval_segments.csv}\n"
        "  names: class_labels_indices.csv\n"
        "  splits: {column: split, train: [train], val: 0.1, test: [test]}",
        get=(
            "for list in balanced_train_segments eval_segments class_labels_indices; do curl -LO"
            " http://storage.googleapis.com/us_audioset/youtube_corpus/v1/csv/$list.csv; done",
            "for list in audioset_train_strong audioset_eval_strong mid_to_display_name; do curl"
            " -LO http://storage.googleapis.com/us_audioset/youtube_corpus/strong/$list.tsv; done",
            "# each segment by itself; many videos are gone:",
            "grep -v '^#' eval_segments.csv | while IFS=', ' read -r id start end labels; do"
            ' yt-dlp -x --audio-format wav --download-sections "*$start-$end"'
            ' -o "audioset/%(id)s.%(ext)s" "https://www.youtube.com/watch?v=$id" < /dev/null; done',
        ),
        home="https://research.google.com/audioset/download.html",
        licence="lists CC BY 4.0, ontology CC BY-SA 4.0; media as their authors say",
        size="10 s as 16 kHz mono wav are 0.3 MB; there are 2.1 million",
    )

    def __init__(self, settings: AudioSetSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """The clips of all lists.

        Raises `InputError` for lists that are neither form, mids without a name, and where none of
        the media is there.
        """
        settings = self.settings
        tree = Tree.at(resolve(settings.root), "media named by YouTube ids")
        names = _names(resolve(settings.names)) if settings.names else None
        parts: dict[str, _Part] = {}
        for path, split in settings.paths:
            for part in _parts(resolve(path), split, settings):
                label = part.labels if names is None else _known(part, names, settings.names or "")
                # One object per label, not one per line of the list.
                label = tuple(map(sys.intern, label))
                same = parts.get(part.clip_id)
                labels = label if same is None else (*same.labels, *label)
                parts[part.clip_id] = replace(same or part, labels=labels)
        found = (_clip(tree, part, settings) for part in parts.values())
        clips = tree.some(found, ", ".join(path for path, _ in settings.paths))
        keep = settings.missing == "keep"
        return (clip for clip in clips if keep or clip.size_bytes is not None)


@dataclass(frozen=True, slots=True)
class _Part:
    """A segment, or an event in it: where the segment lies in its video, and the event in that."""

    segment_id: str
    video: str
    segment_start_s: float
    segment_end_s: float
    start_s: float | None
    duration_s: float | None
    labels: tuple[str, ...]
    split: str
    place: str

    @property
    def clip_id(self) -> str:
        return clip_id(self.segment_id, self.start_s, self.duration_s)

    @property
    def stems(self) -> tuple[str, ...]:
        """Names that downloaders give to a file with it."""
        start_s, end_s = self.segment_start_s, self.segment_end_s
        marks = (
            f"{start_s * 1000:.0f}",
            f"{start_s * 1000:.0f}_{end_s * 1000:.0f}",
            f"{start_s:.0f}_{end_s:.0f}",
            f"{start_s:.3f}_{end_s:.3f}",
            f"{start_s:.0f}",
        )
        cut = [f"{self.video}_{mark}" for mark in marks]
        return (*cut, *(f"Y{name}" for name in cut), self.video, f"Y{self.video}")


def _parts(place: Folder, split: str, settings: AudioSetSettings) -> Iterator[_Part]:
    try:
        folder, name = place.split()
        if _STRONG[0].encode() in folder.read(name, end=64):
            for line in read_lines(place, _STRONG, delimiter="\t"):
                yield _event(line, split, settings)
        else:
            for line in read_lines(place, _WEAK, header=False, comment="#"):
                yield _segment(line, split)
    except FileNotFoundError:
        raise InputError(f"{_told(place)} does not exist (manifest.annotations)") from None


def _segment(line: Line, split: str) -> _Part:
    start_s, duration_s = line.span("start_seconds", "end_seconds")
    video = line.text("YTID")
    mids = tuple(mid.strip() for mid in line.text("positive_labels").split(","))
    name, end_s = f"{video}_{start_s * 1000:.0f}", start_s + duration_s
    return _Part(name, video, start_s, end_s, None, None, mids, split, line.place)


def _event(line: Line, split: str, settings: AudioSetSettings) -> _Part:
    segment = line.text("segment_id")
    video, _, start_ms = segment.rpartition("_")
    if not video or not start_ms.isdigit():
        raise InputError(
            f"{line.place}: segment_id is {segment!r}; expected a YouTube id, _ and milliseconds"
        )
    from_s = int(start_ms) / 1000
    label = (line.text("label"),)
    part = _Part(segment, video, from_s, from_s + _SEGMENT_S, None, None, label, split, line.place)
    if settings.unit == "segment":
        return part
    start_s, duration_s = line.span("start_time_seconds", "end_time_seconds")
    longest_s = settings.longest_s or duration_s
    if duration_s > longest_s:
        start_s, duration_s = round(start_s + (duration_s - longest_s) / 2, 6), longest_s
    return replace(part, start_s=start_s, duration_s=duration_s)


def _clip(tree: Tree, part: _Part, settings: AudioSetSettings) -> Clip:
    span: dict[str, Any] = {"start_s": part.start_s, "duration_s": part.duration_s}
    if settings.media == "videos":
        span["start_s"] = part.segment_start_s + (part.start_s or 0.0)
        if part.duration_s is None:
            span["duration_s"] = round(part.segment_end_s - part.segment_start_s, 6)
    split = {"split": part.split} if part.split else {}
    return tree.clip(
        tree.named(*part.stems) or f"{part.video}.wav",
        part.labels,
        part.place,
        {"youtube_id": part.video, "segment_id": part.segment_id, **split},
        clip_id=part.clip_id,
        group=f"youtube/{part.video}",
        **span,
    )


def _names(place: Folder) -> dict[str, str]:
    """Names by mid, of class_labels_indices.csv or mid_to_display_name.tsv."""
    try:
        if read_text(place).startswith("index,"):
            lines = read_lines(place, ("index", "mid", "display_name"))
        else:
            lines = read_lines(place, ("mid", "display_name"), delimiter="\t", header=False)
    except FileNotFoundError:
        raise InputError(f"{_told(place)} does not exist (manifest.names)") from None
    return {line.text("mid"): line.text("display_name") for line in lines}


def _known(part: _Part, names: Mapping[str, str], source: str) -> tuple[str, ...]:
    unknown = next((mid for mid in part.labels if mid not in names), None)
    if unknown is not None:
        raise InputError(f"{part.place}: {source} has no name of the class {unknown!r}")
    return tuple(names[mid] for mid in part.labels)


def _told(place: Folder) -> str:
    return masked(place.url, place.options.secrets)
