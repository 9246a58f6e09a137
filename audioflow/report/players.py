"""Clips on the page: each with its name and, for as many as a page may carry, sound and picture."""

import base64
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from markupsafe import Markup

from audioflow.report.data import ReportData
from audioflow.report.excerpts import Excerpt, Excerpts
from audioflow.report.figures import Figures
from audioflow.report.formats import decimal
from audioflow.report.svg import tag, void_tag
from audioflow.report.words import best_system


def clips_to_play(data: ReportData, figures: Figures, most: int) -> list[str]:
    """Ids of the clips that get a player: from every list in turn, its first ones first.

    The lists of the best system come before those of the others, which only take what is left.
    """
    best = best_system(figures)
    lists: list[list[str]] = [
        [clip_id for row in table.rows for clip_id in row.clips] for table in data.clip_tables
    ]
    others: list[list[str]] = []
    for system in figures.evaluated:
        own = [[clip.clip_id for clip in clips] for _, clips in system.clip_lists]
        if system is best:
            lists = own + lists
        else:
            others += own
    in_turn = [clip_id for clip_id in (*_in_turn(lists), *_in_turn(others)) if clip_id]
    return list(dict.fromkeys(in_turn))[:most]


def _in_turn(lists: Sequence[Sequence[str]]) -> Iterator[str]:
    for some in zip_longest(*lists, fillvalue=""):
        yield from some


class Players:
    """Gives every clip its cell; what a clip sounds and looks like is in the page once."""

    def __init__(self, excerpts: Excerpts) -> None:
        self._excerpts = excerpts
        self._ids = {clip_id: f"clip-{number}" for number, clip_id in enumerate(excerpts)}
        self._placed: set[str] = set()

    def __bool__(self) -> bool:
        return any(excerpt.sound or excerpt.picture for excerpt in self._excerpts.values())

    def cell(self, clip_id: str, uri: str) -> Markup:
        """Picture, name and player of a clip, or why it has none."""
        excerpt = self._excerpts.get(clip_id)
        name = [tag("b", clip_id), tag("small", uri)]
        if excerpt is None:
            return tag("div", *name, class_="clip-name", title=uri)
        first = clip_id not in self._placed
        self._placed.add(clip_id)
        parts = [tag("div", *name, class_="clip-name", title=uri)]
        parts += self._sound(clip_id, excerpt, first)
        if excerpt.note:
            parts.append(tag("small", excerpt.note, class_="clip-note"))
        picture = self._picture(clip_id, excerpt, first)
        return tag("div", *picture, tag("div", *parts), class_="clip")

    def _sound(self, clip_id: str, excerpt: Excerpt, first: bool) -> list[Markup]:
        if not excerpt.sound:
            return []
        id_ = self._ids[clip_id]
        if not first:  # the page's script takes it from there
            return [tag("audio", data_same=id_, hidden="", controls="", preload="none")]
        label = f"{clip_id}, {decimal(excerpt.seconds)} s"
        source = _data_url(excerpt.sound, excerpt.sound_type)
        return [tag("audio", id=id_, src=source, controls="", preload="none", aria_label=label)]

    def _picture(self, clip_id: str, excerpt: Excerpt, first: bool) -> list[Markup]:
        if not excerpt.picture:
            return []
        id_ = f"{self._ids[clip_id]}-picture"
        if not first:
            return [void_tag("img", data_same=id_, hidden="", alt="")]
        return [void_tag("img", id=id_, src=_data_url(excerpt.picture, "image/jpeg"), alt="")]


def _data_url(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
