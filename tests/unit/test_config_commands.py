"""The commands at the head of every recipe are those of the program, and fit that recipe."""

import shlex
from pathlib import Path

import pytest
from typer.main import get_command

from audioflow.cli import HELP, app, plugins
from audioflow.recipe_file import load_recipe
from tests.conftest import ROOT

RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))
COMMENT = "#   "


def commands(path: Path) -> list[str]:
    """The commands in a recipe's comments; a backslash at the end of a line joins the next one."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line.removeprefix(COMMENT) for line in lines if line.startswith(COMMENT))
    whole = text.replace("\\\n", " ").splitlines()
    return [line for line in whole if line.startswith("audioflow ")]


def refusal(command: str) -> str:
    """Why the program would not take a command; empty where it would."""
    _, job, *rest = shlex.split(command, comments=True)
    tools = get_command(app).commands
    if job not in tools:
        return f"no command {job}"
    tool = tools[job]
    if getattr(tool, "commands", None):
        job, *rest = rest
        tool = tool.commands[job]
    known = {option for each in tool.params for option in each.opts}
    unknown = [word for word in rest if word.startswith("--") and word not in known]
    if unknown:
        return f"no option {unknown[0]}"
    recipe = next((word for word in rest if word.endswith(".yaml")), None)
    if recipe is not None:
        overrides = [word for word in rest[1:] if "=" in word and not word.startswith("-")]
        load_recipe(str(ROOT / recipe), overrides, plugins(), job if job in HELP else "embed")
    return ""


def test_there_are_commands_and_wrong_ones_are_seen() -> None:
    assert sum(len(commands(path)) for path in RECIPES) > 20
    assert refusal("audioflow explain runs/x --span_s 2") == "no option --span_s"
    assert refusal("audioflow explane runs/x") == "no command explane"


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_the_commands_at_the_head_of_a_recipe_are_accepted(path: Path) -> None:
    for command in commands(path):
        assert refusal(command) == "", command
