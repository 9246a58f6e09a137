"""`audioflow weights list|path|fetch|convert`: the public weight files of the backbones."""

import json
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from audioflow.backbones import BACKBONES
from audioflow.console import STATUS_EVERY_S, guarded, plain_out
from audioflow.errors import AudioflowError
from audioflow.redaction import masked
from audioflow.registry import UnknownPlugin, nearest
from audioflow.stores import is_local
from audioflow.weights import (
    KnownWeights,
    UnknownWeights,
    WeightsError,
    read_tensors,
    weights_fields,
)
from audioflow.weights.fetch import Source, fetch, local_source
from audioflow.weights.remote import local_copy_of
from audioflow.weights.store import ENVIRONMENT, file_name, mismatch, pinned, place, store_folder
from audioflow.weights.write import save_tensors

_STOPPED = "stopped; what came is kept, the same command goes on from there"
MOST_LISTED = 12
"""Files of one backbone that the list of all shows one by one."""

HELP = "The public weight files of the backbones: list, path, fetch, convert."

app = typer.Typer(
    help=HELP,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

Which = Annotated[
    str, typer.Argument(help="A backbone, or one of its weights.", metavar="BACKBONE[/NAME]")
]


class WeightsUsageError(AudioflowError):
    """What was asked for contradicts itself, or would overwrite a file."""

    exit_code = 2


@dataclass(frozen=True)
class Row:
    """A public weight file of a backbone."""

    backbone: str
    known: KnownWeights

    @property
    def name(self) -> str:
        """As `audioflow weights fetch` takes it."""
        return f"{self.backbone}/{self.known.name}"


# What there is


def rows_of(backbone: str) -> list[Row]:
    """The public weight files of a backbone; raises `UnknownPlugin`."""
    return [Row(backbone, known) for known in BACKBONES.load(backbone).known]


def chosen(which: str) -> list[Row]:
    """The weights that `BACKBONE[/NAME]` means: without a name, those its settings begin with.

    Raises `UnknownPlugin` and `UnknownWeights` (exit code 2).
    """
    backbone, _, name = which.partition("/")
    rows = rows_of(backbone)
    if not rows:
        raise UnknownWeights(f"backbone {backbone!r} has no public weight files")
    if name:
        found = [row for row in rows if row.known.name == name]
        if not found:
            names = [row.known.name for row in rows]
            hint = nearest(name, names)
            raise UnknownWeights(
                f"backbone {backbone!r} has no weights {name!r}; there are {', '.join(names)}"
                + (f"; did you mean {hint!r}?" if hint else "")
            )
        return found
    settings = BACKBONES.load(backbone).Settings
    usual = {settings.model_fields[field].default for field in weights_fields(settings)}
    return [row for row in rows if row.known.name in usual] or rows


def on_this_machine(row: Row) -> str:
    """`yes`, `no`, or `damaged`: there, and not what it should be."""
    path = place(row.known)
    if not path.exists():
        return "no"
    return "damaged" if mismatch(path, row.known, pinned(path)) else "yes"


# The commands


@app.command("list")
def list_command(
    backbone: Annotated[str | None, typer.Argument(help="Only this backbone.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Show every public weight file: size, licence, whether it is here, and where it is from."""
    raise typer.Exit(guarded(lambda: _list(backbone, as_json)))


@app.command("path")
def path_command(which: Which) -> None:
    """Print where a fetched weight file lies, and nothing else; exit code 4 where it does not."""
    raise typer.Exit(guarded(lambda: _path(which)))


@app.command("fetch")
def fetch_command(
    which: Annotated[
        list[str],
        typer.Argument(help="Backbones, or some of their weights.", metavar="BACKBONE[/NAME]..."),
    ],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from", help="A mirror (url) or a file that is here.", metavar="URL_OR_PATH"
        ),
    ] = None,
) -> None:
    """Download weight files and verify them; a download that was cut goes on where it ended."""
    raise typer.Exit(guarded(lambda: _fetch(which, from_), _STOPPED))


@app.command("convert")
def convert_command(
    file: Annotated[str, typer.Argument(help="A weight file of any format.", metavar="FILE")],
    out: Annotated[str, typer.Argument(help="The file to write.", metavar="OUT.safetensors")],
    force: Annotated[bool, typer.Option("--force", help="Overwrite OUT.")] = False,
) -> None:
    """Write the tensors of any weight file as safetensors, without running what is in it."""
    raise typer.Exit(guarded(lambda: _convert(file, Path(out), force)))


# list


def _list(backbone: str | None, as_json: bool) -> int:
    rows: list[Row] = []
    missing: dict[str, str] = {}
    for name in [backbone] if backbone else BACKBONES.names():
        try:
            rows += rows_of(name)
        except UnknownPlugin as error:
            if name not in BACKBONES.entries:
                raise
            missing[name] = str(error)
    if as_json:
        found = {"weights": [_as_json(row) for row in rows], "not_installed": missing}
        typer.echo(json.dumps(found, indent=1))
        return 0
    out = plain_out()
    if rows:
        few, many = _shortened(rows) if backbone is None else (rows, [])
        for line in [*_lines(few), *many]:
            out.print(escape(line))
        out.print(f"\nstore: {escape(str(store_folder()))}  (set by {ENVIRONMENT})")
    elif not missing:
        out.print(f"{backbone or 'no backbone'} has no public weight files")
    for text in missing.values():
        out.print(escape(text))
    return 0


def _shortened(rows: Sequence[Row]) -> tuple[list[Row], list[str]]:
    """Without those of backbones that have a great many, of which there is a line each instead."""
    counts = Counter(row.backbone for row in rows)
    here = Counter(row.backbone for row in rows if on_this_machine(row) == "yes")
    many = {name: count for name, count in counts.items() if count > MOST_LISTED}
    lines = [
        f"{name}: {count} files, {here[name]} of them here: audioflow weights list {name}"
        for name, count in many.items()
    ]
    return [row for row in rows if row.backbone not in many], ["", *lines] if lines else []


def _as_json(row: Row) -> dict[str, Any]:
    told = {"backbone": row.backbone} | vars(row.known)
    return told | {"here": on_this_machine(row), "path": str(place(row.known))}


def _lines(rows: Sequence[Row]) -> list[str]:
    """A table whose lines are never broken: urls are there to be copied."""
    cells = [("weights", "size", "here", "from", "licence")]
    for row in rows:
        size = "?" if row.known.size_bytes is None else _megabytes(row.known.size_bytes)
        url = row.known.url or "-"
        cells.append((row.name, size, on_this_machine(row), url, row.known.licence))
    names, sizes, heres, urls, _ = (max(map(len, each)) for each in zip(*cells, strict=True))
    return [
        f"{name:{names}}  {size:>{sizes}}  {here:{heres}}  {url:{urls}}  {licence}"
        for name, size, here, url, licence in cells
    ]


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:.1f} MB"


# path


def _path(which: str) -> int:
    for row in chosen(which):
        path = place(row.known)
        if not path.exists():
            raise WeightsError(
                f"{row.name} is not on this machine; get it with `audioflow weights fetch "
                f"{row.name}`"
            )
        wrong = mismatch(path, row.known, pinned(path))
        if wrong:
            raise WeightsError(
                f"{path} is not {row.name}: {wrong}; get it again with `audioflow weights fetch "
                f"{row.name}`"
            )
        typer.echo(str(path))
    return 0


# fetch


def _fetch(which: Sequence[str], given: str | None) -> int:
    rows = [row for each in which for row in chosen(each)]
    if given is not None and len(rows) != 1:
        names = ", ".join(row.name for row in rows)
        raise WeightsUsageError(f"--from is one file, but {names} are asked for; name one of them")
    for row in rows:
        _fetch_one(row, given)
    return 0


def _fetch_one(row: Row, given: str | None) -> None:
    if given is None and not row.known.url:
        raise WeightsError(
            f"{row.name} has no public url: {row.known.note or 'get the file from its authors'}; "
            "then give it with --from"
        )
    source = Source(row.known.url if given is None else local_source(given))
    out = plain_out()
    out.print(f"[bold]{escape(row.name)}[/bold]  {escape(source.told)}")
    with _Bytes(row.known.name) as progress:
        found = fetch(row.known, source, progress)
    size = _megabytes(found.path.stat().st_size)
    if not found.new:
        out.print(f"  is here already: {escape(str(found.path))}  {size}")
    else:
        out.print(f"  {escape(str(found.path))}  {size}")
    if found.verified == "pinned":
        out.print(
            f"  sha256 {found.sha256}: no hash of it is published; this one is kept beside the "
            "file, and every use is checked against it"
        )
    else:
        out.print(f"  sha256 {found.sha256}: verified by the published {found.verified}")
    out.print(f"  licence: {escape(row.known.licence)}")
    out.print(f"  cite: {escape(row.known.citation)}")
    if row.known.note:
        out.print(f"  {escape(row.known.note)}")


class _Bytes:
    """How far a download is: a bar on a terminal, else a line now and then; on standard error."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        columns = TextColumn("{task.description}"), BarColumn(), DownloadColumn()
        rates = TransferSpeedColumn(), TimeRemainingColumn(compact=True)
        self._bar = Progress(*columns, *rates, console=self._out, transient=True)
        self._task = self._bar.add_task(escape(name), total=None)
        self._told = time.monotonic()

    def __enter__(self) -> "_Bytes":
        if self._out.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._out.is_terminal:
            self._bar.stop()

    def __call__(self, done_bytes: int, total_bytes: int | None) -> None:
        self._bar.update(self._task, completed=done_bytes, total=total_bytes)
        if not self._out.is_terminal and time.monotonic() - self._told >= STATUS_EVERY_S:
            self._told = time.monotonic()
            of = f" of {_megabytes(total_bytes)}" if total_bytes else ""
            self._out.print(f"{escape(self._name)}  {_megabytes(done_bytes)}{of}")


# convert


def _convert(file: str, out: Path, force: bool) -> int:
    if out.suffix != ".safetensors":
        raise WeightsUsageError(f"{out} does not end in .safetensors, the format that is written")
    if out.exists() and not force:
        raise WeightsUsageError(f"{out} exists; give --force to overwrite it")
    path = str(Path(local_source(file)) if is_local(file) else local_copy_of(Source(file)))
    tensors = read_tensors(path)
    save_tensors(tensors, out, file_name(masked(file)))
    numbers = sum(array.size for array in tensors.values())
    typer.echo(
        f"{out}: {len(tensors)} tensors, {numbers:,} numbers, {_megabytes(out.stat().st_size)}"
    )
    return 0
