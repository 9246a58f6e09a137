"""What the tool `audioflow plan RECIPE` does: read the recipe, probe, print."""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import typer
from rich.console import Console as RichConsole

from audioflow.planning.figures import Forecast, Price
from audioflow.planning.text import forecast_lines
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.redaction import masked


@dataclass(frozen=True)
class PlanCommand:
    """`audioflow plan` as it was asked for; None where the machine or the recipe says it."""

    recipe: str
    overrides: Sequence[str] = ()
    sample: int = 40
    cpus: float | None = None
    gpus: float | None = None
    machines: int = 1
    price: float | None = None
    currency: str = ""
    as_json: bool = False


def run_plan(command: PlanCommand, told: Callable[[int, int], None]) -> int:
    """Print the forecast and return the exit code."""
    recipe = load_recipe(command.recipe, command.overrides, plugins(), "embed")
    assert recipe.embed is not None
    imports = ", ".join(recipe.embed.imports)
    if not recipe.embed.backbones:
        nothing = f"embed only imports {imports}: no media is read, there is nothing to plan"
        typer.echo(json.dumps({"tables": [], "note": nothing}) if command.as_json else nothing)
        return 0
    from audioflow.engine.plan import Asked, plan
    from audioflow.engine.run import Run

    run = Run(recipe)
    price = Price(command.price, command.currency) if command.price is not None else None
    asked = Asked(command.sample, command.cpus, command.gpus, command.machines, price)
    found = plan(run, asked, told)
    url = masked(run.folder.url, recipe.storage_options.secrets)
    if command.as_json:
        typer.echo(json.dumps(as_json(found, url), indent=1))
        return 0
    out = RichConsole(highlight=False, soft_wrap=True)
    for line in forecast_lines(found, url):
        out.print(line)
    if imports:
        out.print(f"imports    {imports}: files are read, which is not in these figures")
    return 0


def as_json(found: Forecast, url: str) -> dict[str, Any]:
    """Every figure of a forecast, with its unit in its name."""
    data = {"run_dir": url} | asdict(found)
    data["memory_per_machine"] |= {
        "expected_bytes": found.memory_per_machine.expected,
        "at_most_bytes": found.memory_per_machine.at_most,
    }
    return data
