"""`audioflow compare RUN_A RUN_B`: is one better than the other, or is it chance."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from audioflow.console import guarded, plain_out
from audioflow.errors import InputError, StorageError
from audioflow.redaction import masked
from audioflow.run_argument import run_folder
from audioflow.storage import Folder

if TYPE_CHECKING:
    from audioflow.comparing import Comparison

HELP = "Compare the scores of two runs, or of two systems of one, on the same clips."


def compare_command(  # noqa: PLR0913 - one parameter per option
    run_a: Annotated[
        str, typer.Argument(help="The run_dir of a recipe, or the recipe.", metavar="RUN_A")
    ],
    run_b: Annotated[str, typer.Argument(help="The other, or the same again.", metavar="RUN_B")],
    *,
    system: Annotated[
        list[str] | None,
        typer.Option(
            help="Which systems: NAME, or NAME_IN_A=NAME_IN_B; all of the same name if not given.",
            metavar="NAME[=NAME]",
        ),
    ] = None,
    split: Annotated[str, typer.Option(help="The split whose clips are compared.")] = "test",
    draws: Annotated[int, typer.Option(min=0, help="Bootstrap draws for the intervals.")] = 1000,
    csv_path: Annotated[
        str | None,
        typer.Option("--csv", help="Also write the metrics to this file.", metavar="PATH"),
    ] = None,
    html_path: Annotated[
        str | None, typer.Option("--html", help="Also write it as a page.", metavar="PATH")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Exit code 0, whichever is better; 4 where there is nothing to compare."""

    def work() -> int:
        found = _compared(run_folder(run_a), run_folder(run_b), system or [], split, draws)
        return _tell(found, csv_path, html_path, as_json)

    raise typer.Exit(guarded(work))


def _compared(
    a: Folder, b: Folder, systems: Sequence[str], split: str, draws: int
) -> "list[Comparison]":
    from audioflow.comparing import common_systems, compare, read_side  # polars takes a while

    pairs = [_pair(one) for one in systems] or common_systems(a, b)
    if a.url == b.url and all(ours == theirs for ours, theirs in pairs):
        raise InputError(
            f"{masked(a.url)} is given twice: say which of its systems to compare, "
            "as --system NAME=NAME"
        )
    return [compare(read_side(a, one), read_side(b, other), split, draws) for one, other in pairs]


def _pair(text: str) -> tuple[str, str]:
    ours, equals, theirs = text.partition("=")
    if not ours or (equals and not theirs):
        raise InputError(f"--system {text!r} names no pair; allowed: NAME, or NAME=NAME")
    return ours, theirs or ours


def _tell(
    found: "Sequence[Comparison]", csv_path: str | None, html_path: str | None, as_json: bool
) -> int:
    from audioflow.comparing import comparison_lines
    from audioflow.comparing.text import values_of

    told = [values_of(one) for one in found]
    if csv_path is not None:
        _write_csv(csv_path, told)
    if html_path is not None:
        _write_page(html_path, found)
    if as_json:
        typer.echo(json.dumps(told, indent=1, ensure_ascii=False))
        return 0
    out = plain_out()
    for number, one in enumerate(found):
        if number:
            out.print()
        for line in comparison_lines(one):
            out.print(line)
    return 0


_COLUMNS = "a b split metric class clips value_a value_b difference low high".split()


def _write_csv(path: str, told: Sequence[dict[str, Any]]) -> None:
    try:
        with Path(path).open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(_COLUMNS)
            for one in told:
                writer.writerows(_rows(one))
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _write_page(path: str, found: "Sequence[Comparison]") -> None:
    from audioflow.comparing.page import comparison_page

    try:
        Path(path).write_text(comparison_page(found), "utf-8", "backslashreplace")
    except OSError as error:
        raise StorageError(f"{path} cannot be written: {error.strerror or error}") from error


def _rows(one: dict[str, Any]) -> "list[list[Any]]":
    who = [one["a"]["system"], one["b"]["system"], one["split"]]
    of_class = "average_precision" if one["multi_label"] else "recall"
    rows = [(m["metric"], "", one["num_clips"], m) for m in one["metrics"]]
    rows += [(of_class, c["class"], c["num_clips"], c) for c in one["classes"]]
    return [
        [*who, metric, name, clips, cells["a"], cells["b"], *cells["difference"].values()]
        for metric, name, clips, cells in rows
    ]
