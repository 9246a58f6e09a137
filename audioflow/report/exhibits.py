"""What a report shows beside its figures: tables of clips to look at, pictures, groups of failures.

Plain values that the engine, or whoever finds such things, hands over.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class ClipRow:
    """One line of a `ClipTable`: its clips (id -> uri; two where a pair is meant), and its cells,
    one per column: a text, a number, or None where there is nothing to say.
    """

    clips: dict[str, str]
    cells: tuple[str | float | None, ...]


@dataclass(frozen=True)
class ClipTable:
    """Clips that someone should look at and listen to: probable label errors, leaks.

    `id` is a word of its own in the page. `lead` says what the list is and what to do about it.
    `columns` are headings, `numeric` those of them whose cells are numbers. `rows` may be capped,
    then `num_rows` is larger than their number; the most important ones come first. `alarm` is the
    line that the summary shows; none where it is empty.
    """

    id: str
    title: str
    lead: str
    columns: tuple[str, ...]
    rows: tuple[ClipRow, ...]
    num_rows: int
    numeric: frozenset[str] = field(default_factory=frozenset)
    alarm: str = ""


@dataclass(frozen=True)
class Picture:
    """A PNG with its caption."""

    png: bytes
    caption: str


@dataclass(frozen=True)
class PictureSet:
    """Pictures that belong together, such as explanations; `note` says what they show."""

    title: str
    note: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class FailureGroup:
    """Clips that failed alike: in one table, of one error class, for one reason but for numbers.

    `reason` and `clip_id` are those of the first of them.
    """

    table: str
    stage: str
    error: str
    reason: str
    clips: int
    clip_id: str
