"""`kinetics`: Kinetics-400, -600 or -700, videos of 10 s of what people do, from YouTube.

    k600/                                                   <- root
      train/abseiling/0347ZoDXyP0_000095_000105.mp4         or v_0347ZoDXyP0_000095_000105.mp4
      val/abseiling/...
      test/...

By default the folders tell split and class. With `annotations`, the lists of the publisher do (with
a header: label,youtube_id,time_start,time_end,split; test lists have no label), and the videos lie
anywhere below the root: named by id and seconds as above, or by id alone (`0347ZoDXyP0.mp4`, the
whole video, of which the clip is a span). Columns: `split`, `class`, `youtube_id`. Clips of one
video are one group.
"""

import re
from collections.abc import Iterator
from typing import ClassVar, Literal

from pydantic import Field

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.datasets.lines import Line, read_lines
from audioflow.datasets.tree import Tree
from audioflow.downloads import local_file
from audioflow.errors import InputError
from audioflow.id_lists import read_classes
from audioflow.matching import stem
from audioflow.redaction import masked
from audioflow.registry import Settings, nearest

SPLITS = ("train", "val", "validate", "test")
_COLUMNS = ("youtube_id", "time_start", "time_end", "split")
_NAME = re.compile(r"(?:v_)?([\w-]{11})_\d{6}_\d{6}")
_EXPECTED = "{train,val,test}/<class>/<video>.mp4"


class KineticsSettings(Settings):
    """root: folder or url with the videos. annotations: the publisher's lists, paths or urls.

    label_list: a file that names the classes (`id<TAB>class_name`); `_` and blanks are one there.
    missing: whether clips of the lists whose video is not there are kept, and fail, or dropped.
    """

    root: str = Field(min_length=1)
    annotations: list[str] | None = Field(None, min_length=1)
    label_list: str | None = Field(None, min_length=1)
    missing: Literal["keep", "drop"] = "keep"


class KineticsReader:
    """Clips of Kinetics."""

    Settings = KineticsSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: kinetics\n"
        "  root: k600\n"
        "  splits: {column: split, train: [train], val: 0.1, test: [val]}",
        get=(
            "git clone https://github.com/cvdfoundation/kinetics-dataset && cd kinetics-dataset",
            "bash ./k600_downloader.sh && bash ./k600_extractor.sh",
            "# or single videos of a list, the span alone:",
            "yt-dlp -f mp4 --download-sections '*95-105' -o 0347ZoDXyP0_000095_000105.mp4"
            " https://www.youtube.com/watch?v=0347ZoDXyP0",
        ),
        home="https://github.com/cvdfoundation/kinetics-dataset",
        licence="lists CC BY 4.0; videos as their authors say",
        size="Kinetics-600: about 650 GB",
    )

    def __init__(self, settings: KineticsSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return self.settings.root

    def read(self, resolve: Resolve) -> Iterator[Clip]:
        """One clip per video of the folders, or per line of the lists.

        Raises `InputError` for a root without splits and classes, for classes that the label list
        does not name, and where none of the videos of the lists is there.
        """
        settings = self.settings
        tree = Tree.at(resolve(settings.root), _EXPECTED)
        names = _ClassNames(settings.label_list, resolve)
        if settings.annotations is None:
            return _by_folder(tree, names)
        clips = tree.some(self._annotated(tree, names, resolve), ", ".join(settings.annotations))
        keep = settings.missing == "keep"
        return (clip for clip in clips if keep or clip.size_bytes is not None)

    def _annotated(self, tree: Tree, names: "_ClassNames", resolve: Resolve) -> Iterator[Clip]:
        for path in self.settings.annotations or ():
            place = resolve(path)
            try:
                lines = read_lines(place, _COLUMNS)
            except FileNotFoundError:
                url = masked(place.url, place.options.secrets)
                raise InputError(f"{url} does not exist (manifest.annotations)") from None
            yield from (_annotated(tree, line, names) for line in lines)


class _ClassNames:
    """Classes as the label list spells them; without one as they come."""

    def __init__(self, path: str | None, resolve: Resolve) -> None:
        self._path = path
        self._names: dict[str, str] = {}
        if path is not None:
            place = resolve(path)
            with local_file(place.url, place.options) as file:
                self._names = {_spelt(name): name for name in read_classes(file)}

    def named(self, name: str, place: str) -> str:
        if self._path is None:
            return name
        if _spelt(name) not in self._names:
            hint = nearest(name, self._names.values())
            raise InputError(
                f"{place}: the class {name!r} is none of the {len(self._names)} in {self._path}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        return self._names[_spelt(name)]


def _spelt(name: str) -> str:
    return name.replace("_", " ").casefold()


def _by_folder(tree: Tree, names: _ClassNames) -> Iterator[Clip]:
    count = 0
    for file in tree.media:
        split, *between = file.relative.split("/")[:-1] or [""]
        if split not in SPLITS or not between:
            continue
        if len(between) > 1:
            raise InputError(f"{tree.url}: {file.relative} lies too deep; expected {_EXPECTED}")
        label = names.named(between[0], f"{tree.url}/{file.relative}")
        found = _NAME.fullmatch(stem(file.relative))
        columns = {"split": split, "class": label, "youtube_id": found.group(1) if found else ""}
        group = f"youtube/{found.group(1)}" if found else ""
        count += 1
        yield tree.clip(file.relative, [label], columns=columns, group=group)
    if not count:
        raise InputError(
            f"{tree.url} has no video in a folder of a class in a folder of a split; expected "
            f"{_EXPECTED}"
        )


def _annotated(tree: Tree, line: Line, names: _ClassNames) -> Clip:
    video = line.text("youtube_id")
    start_s, duration_s = line.span("time_start", "time_end")
    label = line.cells.get("label", "")
    label = names.named(label, line.place) if label else ""
    cut = f"{video}_{int(start_s):06d}_{int(start_s + duration_s):06d}"
    path = tree.named(cut, f"v_{cut}", video)
    whole = path is not None and stem(path) == video
    span = {"start_s": start_s, "duration_s": duration_s} if whole else {}
    split = line.text("split")
    return tree.clip(
        path or "/".join(part for part in (split, label, f"{cut}.mp4") if part),
        [label] if label else [],
        line.place,
        {"split": split, "class": label, "youtube_id": video},
        clip_id=cut,
        group=f"youtube/{video}",
        **span,
    )
