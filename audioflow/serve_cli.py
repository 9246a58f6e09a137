"""`audioflow serve HEAD`: a head, or a fused system, behind HTTP."""

import os
import signal
import threading
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from audioflow.console import guarded
from audioflow.errors import InputError
from audioflow.places import output_url
from audioflow.redaction import masked
from audioflow.run_argument import run_folder
from audioflow.serving.answers import in_order
from audioflow.serving.limits import MB, Limits
from audioflow.storage import Folder

if TYPE_CHECKING:
    from audioflow.engine.serve_system import Served

HELP = "Score media sent over HTTP with a trained head, or with several and their fusion."

Variants = Literal["auto", "recorded", "mean"]


def serve_command(  # noqa: PLR0913 - one parameter per option
    head: Annotated[
        str,
        typer.Argument(
            help="The folder of a head, as runs/x/heads/audio, or with --system that of a run, or "
            "its recipe; local or s3://.",
            metavar="HEAD",
        ),
    ],
    *,
    system: Annotated[
        str | None, typer.Option(help="The system of a run: a trained one, or a fused one.")
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="The order of classes in answers, in place of the head's: a comma between two, or "
            "@FILE with one in a line.",
            metavar="NAMES",
        ),
    ] = None,
    host: Annotated[str, typer.Option(help="Where to listen; 0.0.0.0 in a container.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8080,
    replicas: Annotated[int, typer.Option(min=1, help="Processes with the networks loaded.")] = 1,
    num_gpus: Annotated[
        float, typer.Option(min=0, help="Of each replica; 0.5: two share one.")
    ] = 0.0,
    decoders: Annotated[
        int | None, typer.Option(min=1, help="Processes that decode; as many as CPUs.")
    ] = None,
    max_body_mb: Annotated[float, typer.Option(min=0.001, help="Largest body, in MB.")] = 25.0,
    max_duration_s: Annotated[float, typer.Option(min=0.1, help="Longest recording.")] = 300.0,
    timeout_s: Annotated[float, typer.Option(min=1, help="Longest time of a request.")] = 60.0,
    max_waiting: Annotated[int, typer.Option(min=1, help="Most requests in hand at once.")] = 64,
    max_batch: Annotated[
        int, typer.Option(min=1, help="Most requests that are scored at once.")
    ] = (16),
    batch_wait_s: Annotated[
        float, typer.Option(min=0, max=10, help="How long one waits for others to join it.")
    ] = 0.0,
    decode_memory_gb: Annotated[float, typer.Option(min=0.1, help="Of a process that decodes.")] = (
        2.0
    ),
    variants: Annotated[
        Variants,
        typer.Option(help="Scores of a clip as recorded, or their mean over its variants."),
    ] = "auto",
    address: Annotated[
        str, typer.Option(help="The Ray: auto joins a running one or starts one; local; host:port.")
    ] = "auto",
    num_cpus: Annotated[int | None, typer.Option(min=1, help="Of a Ray that is started.")] = None,
    name: Annotated[str, typer.Option(help="The name of the application in Ray.")] = "audioflow",
    route_prefix: Annotated[str, typer.Option(help="What all paths begin with.")] = "/",
    log_every_s: Annotated[
        float, typer.Option(min=0.5, help="Between two lines of counts.")
    ] = 30.0,
    save: Annotated[
        str | None,
        typer.Option(
            help="Copy what serving needs into this folder, and end: the model of a container.",
            metavar="FOLDER",
        ),
    ] = None,
) -> None:
    """Runs until Ctrl-C or SIGTERM, then exit code 0; 2 for a cluster without room, 4 for a head
    that cannot be served."""

    def work() -> int:
        if save is None:
            from audioflow.engine.serve_place import need_serve

            need_serve()
        # torch and the networks: the other tools need not wait for them.
        from audioflow.engine.serve_system import find_served

        folder = run_folder(head)
        served = find_served(folder, system, variants, num_gpus=num_gpus)
        if save is not None:
            return _save(served, save)
        if classes is not None:
            served = replace(served, about=in_order(served.about, _names(classes)))
        from audioflow.engine.serve import serve
        from audioflow.engine.serve_place import Place
        from audioflow.recipe import RaySection

        limits = Limits(
            round(max_body_mb * MB),
            max_duration_s,
            timeout_s,
            max_waiting,
            decoders or len(os.sched_getaffinity(0)),
            decode_memory_gb,
            max_batch,
            batch_wait_s,
        )
        ray = RaySection(address=address, num_cpus=num_cpus, dashboard=False)
        place = Place(host, port, route_prefix, name, replicas, ray)
        _tell(f"{served.about.system} of {masked(folder.url)}, {len(served.about.classes)} classes")
        if served.about.untrained:
            _tell(f"untrained, with random weights: {', '.join(served.about.untrained)}")
        serve(served, limits, place, _tell, _on_signals(), log_every_s)
        return 0

    raise typer.Exit(guarded(work))


def _names(text: str) -> list[str]:
    """The names in --classes, or in the file that it names."""
    if not text.startswith("@"):
        return [name.strip() for name in text.split(",")]
    try:
        lines = Path(text[1:]).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"--classes: {text[1:]} cannot be read as a list of classes: {error}"
        ) from error
    return [line.strip() for line in lines if line.strip()]


def _on_signals() -> threading.Event:
    """What is set when a person or the system asks to stop; a second Ctrl-C does not wait."""
    stopped = threading.Event()

    def stop(number: int, frame: object) -> None:
        stopped.set()
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    return stopped


def _tell(line: str) -> None:
    """A line for a person; at once, also where it goes into a file or to a container's log."""
    typer.echo(f"{time.strftime('%H:%M:%S')} serve  {line}")
    typer.get_text_stream("stdout").flush()


def _save(served: "Served", path: str) -> int:
    from audioflow.engine.serve_save import save

    folder = Folder(output_url(path))
    saved = save(served, folder)
    typer.echo(
        f"{len(saved.files)} files for serving {served.about.system} in {masked(folder.url)}"
    )
    for weights in saved.left:
        typer.echo(f"not copied, to be there where it is served: {weights}", err=True)
    typer.echo(f"audioflow serve {path} --system {served.about.system}")
    return 0
