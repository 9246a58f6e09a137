"""`audioflow export FORMAT RUN_DIR --system NAME --out PATH`: for other programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, get_args

import typer
from pydantic import ValidationError

from audioflow.console import guarded
from audioflow.errors import Fault, RecipeError
from audioflow.exporters import EXPORTERS
from audioflow.exporters.base import Source
from audioflow.recipe_splits import Split
from audioflow.registry import nearest
from audioflow.run_argument import run_folder
from audioflow.verify.text import plural

HELP = "Write scores as CSV, a submission, label tracks, or a head as ONNX."

_OPTIONS = {"patch_s": "patch", "gap_s": "gap", "high_hz": "high-freq"}
"""Settings of exporters that are called otherwise on the command line."""


@dataclass(frozen=True)
class ExportCommand:
    """`audioflow export` as it was asked for; options: settings that were given."""

    form: str
    run_dir: str
    system: str
    out: str
    splits: Sequence[str] = ()
    options: Mapping[str, Any] = field(default_factory=dict)


def export_command(  # noqa: PLR0913 - one parameter per option
    form: Annotated[
        str, typer.Argument(help=f"One of {', '.join(EXPORTERS.names())}.", metavar="FORMAT")
    ],
    run_dir: Annotated[
        str,
        typer.Argument(
            help="The run_dir of a recipe (a folder or s3:// url), or the recipe.",
            metavar="RUN_DIR",
        ),
    ],
    *,
    system: Annotated[str, typer.Option(help="Whose scores, or head.", metavar="NAME")],
    out: Annotated[
        str, typer.Option(help="The file to write; of audacity and raven a folder.", metavar="PATH")
    ],
    split: Annotated[
        list[str] | None, typer.Option(help="Only clips of this split; may be given again.")
    ] = None,
    template: Annotated[
        str | None,
        typer.Option(help="kaggle, probabilities: a CSV with the ids in order.", metavar="CSV"),
    ] = None,
    fill: Annotated[
        str | None, typer.Option(help="The class of ids that have no scores.", metavar="CLASS")
    ] = None,
    numbers: Annotated[
        str | None, typer.Option(help="kaggle: a list of classes and numbers.", metavar="FILE")
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="probabilities: how a class is called there.", metavar="OURS=THEIRS"),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(help="How ids are matched to clips: stem (as if not given), clip_id or uri."),
    ] = None,
    pattern: Annotated[
        str | None, typer.Option(help="Of that, what this regular expression matches.")
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(help="audacity, raven: of every class; else those of the calibration."),
    ] = None,
    gap: Annotated[
        float | None, typer.Option(help="Seconds between stretches that become one.")
    ] = None,
    patch: Annotated[float | None, typer.Option(help="Length of a patch in seconds.")] = None,
    high_freq: Annotated[
        float | None, typer.Option(help="raven: upper edge of the boxes, in Hz.")
    ] = None,
) -> None:
    """Exit code 0; 2 for options that do not fit, 4 where there are no such scores or clips."""
    chosen = {
        "template": template,
        "fill": fill,
        "numbers": numbers,
        "rename": rename,
        "key": {name: text for name, text in (("of", key), ("pattern", pattern)) if text},
        "threshold": threshold,
        "gap_s": gap,
        "patch_s": patch,
        "high_hz": high_freq,
    }
    given = {name: value for name, value in chosen.items() if value not in (None, {}, [])}
    asked = ExportCommand(form, run_dir, system, out, split or [], given)
    raise typer.Exit(guarded(lambda: run_export(asked)))


def run_export(asked: ExportCommand) -> int:
    """Write what was asked for and tell what became of it."""
    exporter = _built(asked)
    splits = tuple(asked.splits) or None
    source = Source(run_folder(asked.run_dir), asked.system, splits)
    written = exporter.write(source, Path(asked.out))
    files = "" if written.files == 1 else f", {plural(written.files, 'file')}"
    clips = f": {plural(written.clips, 'clip')}" if written.clips else ""
    typer.echo(f"{asked.out}{clips}{files}")
    for note in written.notes:
        typer.echo(note)
    return 0


def _built(asked: ExportCommand) -> Any:
    """The exporter with its settings; raises `RecipeError` for all that does not fit at once."""
    known = EXPORTERS.names()
    if asked.form not in known:
        hint = nearest(asked.form, known)
        problem = f"there is no form {asked.form!r}"
        raise RecipeError(
            "command line", [Fault("FORMAT", problem, asked.form, ", ".join(known), hint)]
        )
    faults = [
        Fault("--split", f"{name!r} is no split", name, ", ".join(get_args(Split)))
        for name in asked.splits
        if name not in get_args(Split)
    ]
    settings = EXPORTERS.load(asked.form).Settings
    options = dict(asked.options)
    if "rename" in options:
        pairs = [pair.partition("=") for pair in options["rename"]]
        options["rename"] = {ours: theirs for ours, _, theirs in pairs}
        faults += [
            Fault("--rename", f"{ours!r} has no name beside it", ours, "OURS=THEIRS")
            for ours, _, theirs in pairs
            if not theirs
        ]
    for name in [one for one in options if one not in settings.model_fields]:
        used = ", ".join(f"--{_option(one)}" for one in settings.model_fields) or "none"
        problem = f"has no use with {asked.form}"
        faults.append(Fault(f"--{_option(name)}", problem, options.pop(name), used))
    try:
        checked = settings.model_validate(options)
    except ValidationError as error:
        faults += [
            Fault(f"--{_option(str(item['loc'][0]))}", str(item["msg"]), item.get("input"))
            for item in error.errors()
        ]
    if faults:
        raise RecipeError("command line", faults)
    return EXPORTERS.load(asked.form)(checked)


def _option(setting: str) -> str:
    return _OPTIONS.get(setting, setting.replace("_", "-"))
