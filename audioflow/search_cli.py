"""`audioflow search RUN_DIR --backbone NAME`: the nearest clips to a clip, a file or a class."""

import csv
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

import typer
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress

from audioflow.console import guarded, plain_out
from audioflow.engine.neighbours import Answer, Neighbour, Question, search
from audioflow.errors import StorageError
from audioflow.redaction import masked
from audioflow.run_argument import run_folder
from audioflow.verify.text import one_line

HELP = "Find the clips whose embeddings are nearest to a clip, a file or a class."

_SHOWN = 60
"""Letters of a clip's id or uri that are shown; all of them with --json and --csv."""


@dataclass(frozen=True)
class SearchCommand:
    """`audioflow search` as it was asked for."""

    run_dir: str
    question: Question
    csv_path: str | None = None
    as_json: bool = False


def search_command(  # noqa: PLR0913 - one parameter per option
    run_dir: Annotated[
        str,
        typer.Argument(
            help="The run_dir of a recipe (a folder or s3:// url), or the recipe.",
            metavar="RUN_DIR",
        ),
    ],
    *,
    backbone: Annotated[str, typer.Option(help="Whose embeddings: the name of the table.")],
    clip: Annotated[
        str | None, typer.Option(help="Search what is like this clip.", metavar="CLIP_ID")
    ] = None,
    file: Annotated[
        str | None,
        typer.Option(help="Search what is like this recording, heard now.", metavar="PATH"),
    ] = None,
    label: Annotated[
        str | None,
        typer.Option("--class", help="Search around the centre of this class.", metavar="NAME"),
    ] = None,
    far: Annotated[
        bool, typer.Option("--far", help="With --class: its least typical clips instead.")
    ] = False,
    start: Annotated[
        float | None, typer.Option(min=0, help="Only what begins here counts, in seconds.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(min=0, help="And only so many seconds of it.")
    ] = None,
    top: Annotated[int, typer.Option(min=1, max=100_000, help="How many to find.")] = 20,
    metric: Annotated[
        Literal["cosine", "euclidean"], typer.Option(help="The distance.")
    ] = "cosine",
    standardise: Annotated[
        bool | None,
        typer.Option(
            help="Bring every column to mean 0 and deviation 1 over the table first; by default "
            "where the backbone is no network."
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="Of the backbone; its first one if not given.")
    ] = None,
    patches: Annotated[
        bool, typer.Option("--patches", help="Find single patches, and where they are.")
    ] = False,
    split: Annotated[str | None, typer.Option(help="Only clips of this split.")] = None,
    csv_path: Annotated[
        str | None, typer.Option("--csv", help="Also write what is found here.", metavar="PATH")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Exit code 0; 4 where there is no such table, clip or class, or a file cannot be heard."""
    question = Question(
        backbone,
        clip,
        file,
        label,
        layer,
        start,
        duration,
        top,
        metric,
        standardise,
        patches,
        far,
        split,
    )
    asked = SearchCommand(run_dir, question, csv_path, as_json)
    raise typer.Exit(guarded(lambda: _search(asked)))


def _search(asked: SearchCommand) -> int:
    folder = run_folder(asked.run_dir)
    bar = RichConsole(stderr=True)
    with Progress(console=bar, transient=True, disable=not bar.is_terminal) as progress:
        task = progress.add_task("search", total=None)
        answer = search(
            folder,
            asked.question,
            lambda what, done, total: progress.update(
                task, description=what, completed=done, total=total
            ),
        )
    if asked.csv_path is not None:
        _write_csv(asked.csv_path, answer.neighbours)
    if asked.as_json:
        found = {"run_dir": masked(folder.url), "question": asdict(asked.question)}
        typer.echo(json.dumps(found | asdict(answer), indent=1, ensure_ascii=False))
        return 0
    out = plain_out()
    out.print(f"[bold]audioflow search[/bold]  {escape(masked(folder.url))}")
    for line in _lines(asked.question, answer):
        out.print(line, markup=False)
    return 0


def _lines(question: Question, answer: Answer) -> Iterator[str]:
    how = f"{question.metric} distance" + (", standardised" if answer.standardised else "")
    unit = "patches" if question.patches else "clips"
    which = "farthest from" if question.far else "nearest to"
    yield (
        f"{len(answer.neighbours)} {unit} {which} {_what(question, answer)} by "
        f"{question.backbone}/{answer.layer} ({how}), of {answer.read} clips"
    )
    cells = [_cells(one) for one in answer.neighbours]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)] if cells else []
    for row in cells:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    if answer.labels and answer.neighbours:
        alike = sum(not set(answer.labels).isdisjoint(one.labels) for one in answer.neighbours)
        yield f"{alike} of {len(answer.neighbours)} are {' or '.join(answer.labels)}"


def _what(question: Question, answer: Answer) -> str:
    if question.label is not None:
        return f"the centre of {question.label}"
    if question.file is not None:
        return question.file
    return f"{question.clip} ({', '.join(answer.labels) or 'no label'})"


def _cells(one: Neighbour) -> list[str]:
    start = "" if one.start_s is None else f"at {one.start_s:.2f} s"
    labels = ", ".join(one.labels) or "-"
    cells = [f"{one.rank}", f"{one.distance:.4f}", _short(one.clip_id), _short(labels)]
    return [*cells, one.split, start, _short(one.uri, from_end=True)]


def _short(text: str, *, from_end: bool = False) -> str:
    text = one_line(text)
    if len(text) <= _SHOWN:
        return text
    return f"...{text[3 - _SHOWN :]}" if from_end else f"{text[: _SHOWN - 3]}..."


def _write_csv(path: str, found: list[Neighbour]) -> None:
    names = list(Neighbour.__dataclass_fields__)
    try:
        with open(path, "w", encoding="utf-8", newline="") as stream:  # noqa: PTH123
            writer = csv.DictWriter(stream, names)
            writer.writeheader()
            for one in found:
                writer.writerow(asdict(one) | {"labels": "|".join(one.labels)})
    except OSError as error:
        raise StorageError(f"--csv {path} cannot be written: {error.strerror}") from error
