"""`audioflow datasets [NAME]`: the data sets that readers know, and how to get the public ones."""

import inspect
import json
import sys
from dataclasses import asdict
from typing import Annotated, Any

import typer

from audioflow.console import guarded
from audioflow.datasets import READERS
from audioflow.datasets.base import About

HELP = "List readers of data sets; of one, show its layout and how to get it."


def datasets_command(
    name: Annotated[str | None, typer.Argument(help="Only this reader.", metavar="NAME")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
) -> None:
    """Exit code 0; 2 for a name that no reader has. Nothing is downloaded."""
    raise typer.Exit(guarded(lambda: _datasets(name, as_json)))


def _datasets(name: str | None, as_json: bool) -> int:
    told = [_told(each) for each in ([name] if name else READERS.names())]
    if as_json:
        typer.echo(json.dumps(told[0] if name else told, indent=1))
    elif name:
        typer.echo(_page(told[0]))
    else:
        width = max(len(each["name"]) for each in told)
        for each in told:
            typer.echo(f"{each['name']:{width}}  {each['reads']}")
        typer.echo("\nlayout, recipe and how to get one of them: audioflow datasets NAME")
    return 0


def _told(name: str) -> dict[str, Any]:
    """What is known of a reader; raises `UnknownPlugin`."""
    reader = READERS.load(name)
    layout = inspect.getdoc(sys.modules[reader.__module__]) or ""
    about: About = reader.about
    reads = layout.partition("\n\n")[0].replace("\n", " ").removeprefix(f"`{name}`: ")
    options = inspect.getdoc(reader.Settings) or ""
    return {"name": name, "reads": reads, "layout": layout, "options": options} | asdict(about)


def _page(told: dict[str, Any]) -> str:
    parts = [told["layout"], f"Options\n\n{_indented(told['options'])}"]
    parts.append(f"In a recipe\n\n{_indented(told['recipe'])}")
    if told["get"]:
        parts.append("How to get it\n\n" + _indented("\n".join(told["get"])))
        facts = [(key, told[key]) for key in ("home", "licence", "size")]
        parts.append("\n".join(f"{key:8} {value}" for key, value in facts))
    return "\n\n".join(parts)


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" if line else "" for line in text.splitlines())
