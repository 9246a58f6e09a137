"""`npz`: the clips of cached features; where they were computed, media is not needed any more.

The files hold arrays X, Y and IDS, a row per patch (see `audioflow.npz`): the form in which
sklearn-audio-transfer-learning keeps them. `embed.imports` makes their vectors an embeddings table.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from pydantic import Field, field_validator

from audioflow.clip import Clip
from audioflow.datasets.base import About, Resolve
from audioflow.errors import InputError, shown
from audioflow.npz import TARGETS, PatchFile, fetched
from audioflow.recipe_splits import SPLITS
from audioflow.redaction import masked
from audioflow.registry import Settings


class NpzSettings(Settings):
    """files: paths or urls, by split (`{train: a.npz, test: b.npz}`) or as a list.

    class_names: names of the classes 0, 1, ... of Y; by default the number is the name.
    """

    files: Any
    class_names: list[str] | None = Field(None, min_length=1)

    @field_validator("files")
    @classmethod
    def _named(cls, value: Any) -> Any:
        if isinstance(value, dict):
            wrong = [name for name in value if name not in SPLITS]
            if wrong:
                raise ValueError(
                    f"{', '.join(map(shown, wrong))} is no split; allowed: {', '.join(SPLITS)}, or "
                    "a list of files"
                )
        paths = list(value.values()) if isinstance(value, dict) else value
        if not isinstance(paths, list) or not paths:
            raise ValueError(
                f"{shown(value)} names no file; allowed: a list of files, or files by split like "
                "{train: a.npz, test: b.npz}"
            )
        odd = [path for path in paths if not isinstance(path, str) or not path]
        if odd:
            raise ValueError(f"{shown(odd[0])} is no file; allowed: a path or url")
        twice = next((path for path in paths if paths.count(path) > 1), None)
        if twice is not None:
            raise ValueError(f"{shown(twice)} stands twice; keep one of the two")
        return value

    @field_validator("class_names")
    @classmethod
    def _distinct(cls, value: list[str] | None) -> list[str] | None:
        twice = next(
            (name for name in value or () if not name or (value or []).count(name) > 1), None
        )
        if twice is not None:
            raise ValueError(f"{shown(twice)} stands twice or is empty; every class needs a name")
        return value

    @property
    def by_path(self) -> dict[str, str]:
        """File -> its split, "" where none is published."""
        if isinstance(self.files, dict):
            return {path: split for split, path in self.files.items()}
        return dict.fromkeys(self.files, "")


class NpzReader:
    """Clips from files of cached features, one per distinct id."""

    Settings = NpzSettings
    makes_media: ClassVar[bool] = False
    about: ClassVar[About] = About(
        recipe="manifest:\n"
        "  reader: npz\n"
        "  files: {train: train.npz, test: test.npz}\n"
        "  class_names: [dog, rain]\n"
        "  splits: {column: split, train: [train], val: 0.1, test: [test]}"
    )

    def __init__(self, settings: NpzSettings) -> None:
        self.settings = settings

    @property
    def source(self) -> str:
        return ", ".join(self.settings.by_path)

    def read(self, resolve: Resolve) -> Sequence[Clip]:
        """The clips of all files; columns are `split` (where published), `class`, `file`, `folder`.

        Raises `InputError` for arrays that cannot be, and for a clip in two files or classes.
        """
        found: dict[str, Clip] = {}
        for path, split in self.settings.by_path.items():
            for clip in self._clips(path, split, resolve):
                if clip.clip_id in found:
                    other = found[clip.clip_id]
                    raise InputError(
                        f"clip {clip.clip_id!r} stands in {other.place} ({_class(other)}) and in "
                        f"{clip.place} ({_class(clip)}); keep its patches in one file"
                    )
                found[clip.clip_id] = clip
        return list(found.values())

    def _clips(self, path: str, split: str, resolve: Resolve) -> Iterator[Clip]:
        place = resolve(path)
        url = masked(place.url, place.options.secrets)
        with fetched(place) as copy:
            file = PatchFile(copy, url)
            file.check_vectors()
            patches = file.clips(with_targets=True)
        for clip_id, clip in patches.items():
            label = self._label(clip.target or 0, clip_id, url)
            columns = {"class": label, "file": path, "folder": clip_id.rpartition("/")[0]}
            columns |= {"split": split} if split else {}
            yield Clip(clip_id, f"{url}#{clip_id}", (label,), columns=columns, place=url)

    def _label(self, target: int, clip_id: str, url: str) -> str:
        names = self.settings.class_names
        if names is None:
            return str(target)
        if not 0 <= target < len(names):
            raise InputError(
                f"{url}: clip {clip_id!r} has {TARGETS} {target}, but class_names has "
                f"{len(names)} names, for 0 to {len(names) - 1}"
            )
        return names[target]


def _class(clip: Clip) -> str:
    columns: Mapping[str, str] = clip.columns
    return f"class {columns['class']}"
