"""`audioflow explain RUN_DIR --system NAME --method METHOD`: why it scores clips so."""

import json
from typing import TYPE_CHECKING, Annotated, cast

import typer
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.progress import Progress

from audioflow.console import guarded, plain_out
from audioflow.errors import InputError
from audioflow.redaction import masked
from audioflow.run_argument import run_folder

if TYPE_CHECKING:
    from audioflow.engine.explain import Method, Question

HELP = "Show what of a clip, or which concept, a system's scores come from."


def explain_command(  # noqa: PLR0913 - one parameter per option
    run_dir: Annotated[
        str,
        typer.Argument(
            help="The run_dir of a recipe (a folder or s3:// url), or the recipe.",
            metavar="RUN_DIR",
        ),
    ],
    *,
    system: Annotated[str, typer.Option(help="The trained system.")],
    method: Annotated[
        str,
        typer.Option(
            help="integrated_gradients (of networks that see a spectrogram), occlusion (of any "
            "sound), shap (of heads on one vector per clip), or tcav (concepts).",
        ),
    ],
    clip: Annotated[
        list[str] | None, typer.Option(help="Explain this clip; may be given again.")
    ] = None,
    best: Annotated[int, typer.Option(min=0, help="So many clips with the best scores.")] = 0,
    worst: Annotated[int, typer.Option(min=0, help="So many clips with the worst scores.")] = 0,
    label: Annotated[
        str | None,
        typer.Option("--class", help="This class, not the one with the highest logit."),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="With --best and --worst: clips of this split.")
    ] = None,
    start: Annotated[
        float | None, typer.Option(min=0, help="Only a part of each clip, from here, in seconds.")
    ] = None,
    duration: Annotated[float | None, typer.Option(min=0.01, help="And so many seconds.")] = None,
    over_time: Annotated[
        bool, typer.Option("--over-time", help="occlusion: spans of time, not bands of them.")
    ] = False,
    span_s: Annotated[
        float | None, typer.Option(min=0.01, help="occlusion: seconds that are made silent.")
    ] = None,
    span_bands: Annotated[
        int | None, typer.Option(min=1, help="occlusion: bands that are made silent.")
    ] = None,
    concepts: Annotated[
        str | None,
        typer.Option(
            help="tcav: a folder with one of recordings per concept, or a .yaml, .json or .csv "
            "file that names clips by concept.",
            metavar="PATH",
        ),
    ] = None,
    layer: Annotated[
        str | None, typer.Option(help="tcav: the layer; by default the head's first.")
    ] = None,
    runs: Annotated[int, typer.Option(min=5, max=1000, help="tcav: random sets.")] = 30,
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Exit code 0; 4 where something cannot be explained, and then nothing is written."""

    def work() -> int:
        # Networks, scikit-learn and matplotlib: the other tools need not wait for them.
        from audioflow.engine.explain import METHODS, Question
        from audioflow.engine.explain_media import Part

        if method not in METHODS:
            raise InputError(f"--method {method} is not known; there are {', '.join(METHODS)}")
        part = Part(start, duration, span_s, span_bands, over_time)
        chosen = (tuple(clip or ()), best, worst, label, split)
        question = Question(
            system, cast("Method", method), *chosen, part, concepts, layer, runs, seed
        )
        return _explain(run_dir, question, as_json)

    raise typer.Exit(guarded(work))


def _explain(run_dir: str, question: "Question", as_json: bool) -> int:
    from audioflow.engine.explain import explain

    folder = run_folder(run_dir)
    bar = RichConsole(stderr=True)
    with Progress(console=bar, transient=True, disable=not bar.is_terminal) as progress:
        task = progress.add_task(question.method, total=None)
        found = explain(
            folder,
            question,
            lambda done, total: progress.update(task, completed=done, total=total),
        )
    if as_json:
        pictures = [picture.entry() for picture in found.pictures]
        typer.echo(json.dumps({"folder": masked(found.folder.url), "pictures": pictures}, indent=1))
        return 0
    out = plain_out()
    out.print(f"[bold]audioflow explain[/bold]  {escape(masked(folder.url))}")
    for line in found.lines:
        out.print(line, markup=False)
    out.print(f"pictures: {escape(masked(found.folder.url))}")
    return 0
