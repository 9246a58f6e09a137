"""What the tool `audioflow doctor` does: look at one thing after the other, print, and sum up."""

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Annotated, Any, Literal

import typer
from rich.console import Console as RichConsole
from rich.markup import escape
from rich.status import Status
from rich.table import Table as RichTable

from audioflow.console import STATUS_EVERY_S, guarded, plain_out
from audioflow.doctor.kept import kept_weights
from audioflow.doctor.machine import machine
from audioflow.doctor.packages import packages
from audioflow.doctor.reach import Place, Reached, places_of, reach
from audioflow.doctor.text import (
    Section,
    golden_section,
    local_ray_text,
    machine_section,
    package_section,
    plain_lines,
    size,
    store_section,
    weights_section,
)
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.redaction import masked, masked_values
from audioflow.stores import NO_OPTIONS, StorageOptions

Device = Literal["cpu", "cuda", "all"]


@dataclass(frozen=True)
class DoctorCommand:
    """`audioflow doctor` as it was asked for."""

    device: str | None = None
    backbones: Sequence[str] = ()
    as_json: bool = False
    recipe: str | None = None
    urls: Sequence[str] = ()
    write: bool = False

    @property
    def with_vectors(self) -> bool:
        """Whether golden vectors are run: asked for, or nothing else is."""
        stores = self.recipe is not None or bool(self.urls)
        return self.device is not None or bool(self.backbones) or not stores


def doctor(
    *,
    device: Annotated[
        Device | None,
        typer.Option(
            help="Where to run the golden vectors: cpu, cuda, or all there are.",
            show_default="all; none with --storage or --url",
        ),
    ] = None,
    backbone: Annotated[
        list[str] | None,
        typer.Option(help="Only the golden vectors of this backbone; may be repeated."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    storage: Annotated[
        str | None,
        typer.Option(
            help="Try the stores of this recipe: read its inputs, and write to its run_dir. Golden "
            "vectors are then run with --device or --backbone only.",
            metavar="RECIPE",
        ),
    ] = None,
    url: Annotated[
        list[str] | None,
        typer.Option(help="Try to read this url, as --storage does; may be repeated."),
    ] = None,
    write: Annotated[
        bool, typer.Option("--write", help="Also write a small file to every --url, and delete it.")
    ] = False,
) -> None:
    """Exit code 0 where all is well, 1 where there is a problem, 2 for wrong arguments."""
    asked = DoctorCommand(device, backbone or (), as_json, storage, url or (), write)
    raise typer.Exit(guarded(lambda: run_doctor(asked)))


@dataclass
class _Findings:
    """What was found so far: as JSON, and what is wrong."""

    out: RichConsole
    as_json: bool
    secrets: frozenset[str] = frozenset()
    data: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def add(self, name: str, data: Any, section: Section, problems: Sequence[str] = ()) -> None:
        """Keep what was found, and show it."""
        self.data[name] = masked_values(data, self.secrets)
        self.problems += [masked(problem, self.secrets) for problem in problems]
        if not self.as_json:
            _show(self.out, section, self.secrets)


def run_doctor(command: DoctorCommand) -> int:
    """Print what is found and return the exit code."""
    places, options, address = _asked_places(command)
    todo = _asked_vectors(command)
    from audioflow.engine.joining import set_auth_mode

    set_auth_mode()  # before Ray is looked at as a package: it reads the mode then
    out = plain_out()
    found = _Findings(out, command.as_json, options.secrets)
    if not command.as_json:
        out.print("[bold]audioflow doctor[/bold]")
    with _Progress() as progress:
        progress("packages and machine")
        _look_around(found)
        progress("Ray")
        _look_at_ray(found, address)
        if places:
            _try_stores(found, places, options, progress)
        folder, kept = kept_weights()
        weights = {"folder": folder, "files": [asdict(each) for each in kept]}
        found.add("weights", weights, weights_section(folder, kept))
        if command.with_vectors:
            _run_checks(found, todo, bool(command.backbones), progress)
        else:
            left_out = [["not run", "--device all runs them, too, or --backbone NAME some of them"]]
            found.add("golden_vectors", None, Section("golden vectors", left_out))
    if command.as_json:
        ok = {"ok": not found.problems, "problems": found.problems}
        typer.echo(json.dumps(ok | found.data, indent=1))
    else:
        _sum_up(out, found.problems)
    return 1 if found.problems else 0


def _asked_places(command: DoctorCommand) -> tuple[list[Place], StorageOptions, str]:
    """The urls to try, the options of their stores, and the address of Ray."""
    places, options, address = [], NO_OPTIONS, "auto"
    if command.recipe is not None:
        recipe = load_recipe(command.recipe, [], plugins(), "manifest")
        places, options = places_of(recipe), recipe.storage_options
        address = recipe.ray.address
    use: Literal["read", "write"] = "write" if command.write else "read"
    return [*places, *(Place("--url", url, use) for url in command.urls)], options, address


def _asked_vectors(command: DoctorCommand) -> list[Any]:
    """The golden vectors to run; without any of them torch is not loaded for them."""
    if not command.with_vectors:
        return []
    from audioflow.doctor.vectors import checks, devices

    return [*checks(command.backbones, devices(command.device or "all"))]


def _look_around(found: _Findings) -> None:
    installed, here = packages(), machine()
    broken = list(installed.broken.values())
    found.add("packages", asdict(installed), package_section(installed), broken)
    found.add("machine", asdict(here), machine_section(here))


def _look_at_ray(found: _Findings, address: str) -> None:
    from audioflow.engine.doctor import ray_state

    state = ray_state(address)
    rows = [["version", state.version]]
    if state.running:
        rows += [["running", f"at {state.address}"], ["together", _resources(state.total)]]
        rows += [["free now", _resources(state.available)]]
        for node in state.nodes:
            kind = "head" if node.is_head else "node"
            rows.append([f"{kind} {node.address}", _resources(node.resources)])
    else:
        rows += [["running", f"no: {state.problem}" if state.problem else "none"]]
        rows += [["a job would start one with", local_ray_text(machine())]]
    problems = [state.problem] if state.problem else []
    found.add("ray", asdict(state), Section("Ray", rows), problems)


def _resources(resources: dict[str, float]) -> str:
    parts = [f"{resources.get('CPU', 0):g} CPU", f"{resources.get('GPU', 0):g} GPU"]
    for name, told in (("memory", "memory"), ("object_store_memory", "for objects")):
        parts.append(f"{size(resources.get(name, 0))} {told}")
    return ", ".join(parts)


def _try_stores(
    found: _Findings, places: Sequence[Place], options: StorageOptions, progress: "_Progress"
) -> None:
    tried: list[Reached] = []
    for place in places:
        progress(f"store {masked(place.url, options.secrets)}")
        tried.append(reach(place, options))
    problems = [f"{each.place.key}: {each.problem}" for each in tried if each.problem]
    found.add("stores", [asdict(each) for each in tried], store_section(tried), problems)


def _run_checks(found: _Findings, todo: Sequence[Any], chosen: bool, progress: "_Progress") -> None:
    from audioflow.doctor.vectors import measure, without_golden

    done = []
    for number, check in enumerate(todo, start=1):
        name = f"{check.backbone} {check.case} {check.device} {check.precision}"
        progress(f"golden vectors {number}/{len(todo)}: {name}")
        done.append(measure(check))
    problems = [
        f"{each.backbone} {each.case} on {each.device} in {each.precision}: {each.reason}"
        for each in done
        if each.verdict == "FAIL"
    ]
    without = [] if chosen else without_golden()
    section = golden_section(done, without)
    found.add("golden_vectors", [asdict(each) for each in done], section, problems)


def _sum_up(out: RichConsole, problems: Sequence[str]) -> None:
    if not problems:
        out.print("[green]ok[/green]: no problem found")
        return
    out.print(f"[red bold]{len(problems)} problem{'s' if len(problems) > 1 else ''}[/red bold]")
    for problem in problems:
        out.print(f"  {escape(problem)}")


def _show(out: RichConsole, section: Section, secrets: frozenset[str]) -> None:
    if not out.is_terminal:
        for line in plain_lines(section):
            out.print(escape(masked(line, secrets)))
        return
    out.print(f"\n[bold]{escape(section.title)}[/bold]")
    table = RichTable(box=None, padding=(0, 0, 0, 2), show_header=bool(section.columns))
    for number in range(max(map(len, section.rows), default=0)):
        name = section.columns[number] if section.columns else ""
        table.add_column(name, overflow="fold", header_style="dim", justify="left")
    for row in section.rows:
        table.add_row(*(_coloured(escape(masked(cell, secrets))) for cell in row))
    out.print(table)
    for note in section.notes:
        out.print(f"  {escape(masked(note, secrets))}")


def _coloured(cell: str) -> str:
    for start, colour in (("FAIL", "red"), ("skipped", "yellow"), ("ok", "green")):
        if cell == start or cell.startswith(f"{start}:"):
            return f"[{colour}]{cell}[/{colour}]"
    return cell


class _Progress:
    """What is looked at now, on standard error: a line that goes again, or one now and then."""

    def __init__(self) -> None:
        self._out = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self._status = Status("", console=self._out)
        self._told = time.monotonic()

    def __enter__(self) -> "_Progress":
        if self._out.is_terminal:
            self._status.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._out.is_terminal:
            self._status.stop()

    def __call__(self, what: str) -> None:
        if self._out.is_terminal:
            self._status.update(escape(what))
        elif time.monotonic() - self._told >= STATUS_EVERY_S:
            self._told = time.monotonic()
            self._out.print(escape(what))
