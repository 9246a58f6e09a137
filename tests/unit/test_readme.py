"""The README's commands, recipes, names and tree are those of the project."""

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import torch
from ruamel.yaml import YAML

from audioflow.backbones import BACKBONES
from audioflow.backbones.ready import made_ready
from audioflow.backbones.running import Heard, Limits, embed_sound
from audioflow.cli import HELP, plugins
from audioflow.cli_tools import TOOLS
from audioflow.datasets import READERS
from audioflow.exporters import EXPORTERS
from audioflow.media.patches import Stretch
from audioflow.recipe_file import load_recipe
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
FENCED = re.findall(r"```(\w*)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [
    line.split("#")[0].strip()
    for kind, text in FENCED
    if kind == "bash"
    for line in text.splitlines()
    if line.strip()
]
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))


def test_there_are_commands_and_recipes() -> None:
    assert len(COMMANDS) >= 7
    assert len(RECIPES) >= 2


@pytest.mark.parametrize("command", [line for line in COMMANDS if "audioflow" in line])
def test_an_audioflow_command_is_accepted(command: str) -> None:
    words = shlex.split(command)
    assert words[0] == "audioflow"
    job, recipe, *rest = [*words[1:], ""] if len(words) == 2 else words[1:]
    if job == "doctor":
        return
    if job == "weights":
        assert recipe in {"list", "path", "fetch", "convert", "codebook"}
        return
    if job == "datasets":
        assert recipe in {"", *READERS.names()}
        return
    if job == "export":
        assert recipe in EXPORTERS.names()
        assert rest[0] == "runs/demo"
        return
    if job in TOOLS and not recipe.endswith(".yaml"):
        assert recipe == "runs/demo", "a run that `make demo` makes"
        return
    assert job in {*HELP, *TOOLS}
    overrides = [word for word in rest if "=" in word]
    assert load_recipe(str(ROOT / recipe), overrides, plugins(), job if job in HELP else "embed")


@pytest.mark.parametrize("command", [line for line in COMMANDS if line.startswith("make ")])
def test_a_make_command_has_a_target(command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in command.split()[1:]:
        if "=" in target:
            name, _, value = target.partition("=")
            assert f"$({name})" in makefile
            assert f'"{value}"' in (ROOT / "benchmarks" / "cases.py").read_text()
            continue
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_job_has_its_file_and_stands_in_the_readme() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(HELP)
    for job in HELP:
        assert f"| `{job}` |" in README
    submitted = re.search(r"-- python (\S+) (\S+)", README)
    assert submitted
    assert (ROOT / submitted.group(1)).is_file()
    assert (ROOT / submitted.group(2)).is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_is_accepted(path: Path) -> None:
    assert load_recipe(str(path), [], plugins()).sections[0] == "manifest"


def test_the_recipes_of_the_readme_are_accepted(tmp_path: Path) -> None:
    blocks = [text for kind, text in FENCED if kind == "yaml"]
    assert len(blocks) == 11
    for text in blocks:
        base = {"run_dir": "runs/x", "manifest": {"reader": "folder", "root": "x"}}
        data = base | YAML(typ="safe").load(text)
        path = tmp_path / "recipe.yaml"
        YAML(typ="safe").dump(data, path)
        assert load_recipe(str(path), [], plugins())


def test_every_registered_name_stands_in_the_readme_and_no_other() -> None:
    found = plugins()
    kinds = [
        found.readers,
        found.decoders,
        found.backbones,
        found.poolings,
        found.heads,
        found.rules,
        found.importers,
        found.score_importers,
        EXPORTERS,
    ]
    for registry in kinds:
        row = re.search(rf"^\| {registry.kind} \| (.*) \|$", README, flags=re.MULTILINE)
        assert row, registry.kind
        assert sorted(re.findall(r"`(\w+)`", row.group(1))) == registry.names()


def test_the_backbone_of_the_readme_works_as_it_stands(monkeypatch, tmp_path) -> None:
    (text,) = [text for kind, text in FENCED if kind == "python" and "class " in text]
    assert len(text[text.index("class ") :].splitlines()) <= 30
    (tmp_path / "bands.py").write_text(text)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(BACKBONES.entries, "bands", "bands:Bands")
    ready = made_ready("bands", {"weights": "random", "batch_size": 4})
    ready.backbone.to(torch.device("cpu"))
    samples = np.random.default_rng(0).integers(-9000, 9000, 40_000, np.int16)
    (found,) = embed_sound(
        ready.backbone, [Heard(0, Stretch(samples))], torch.device("cpu"), Limits()
    )
    assert found.embedding.patch_start_s.tolist() == [0.0, 0.5, 1.0, 1.5]
    assert found.embedding.layers["embedding"].shape == (4, 128)
    assert found.embedding.layers["embedding"].std(axis=0).max() > 0


def test_the_tree_is_the_tree() -> None:
    tree = next(text for kind, text in FENCED if text.startswith("jobs/"))
    for line in tree.splitlines():
        name = line.split()[0]
        folder = ROOT / "audioflow" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name
    told = set(re.findall(r"\b(\w+\.py)\b", tree))
    modules = {path.name for path in (ROOT / "audioflow").glob("*.py")} - {"__init__.py"}
    unnamed = {name for name in modules - told if not name.startswith("recipe_")}
    assert unnamed == {"errors.py", "registry.py", "events.py"}


def test_no_command_of_the_readme_needs_what_is_not_installed() -> None:
    known = {"make", "audioflow", "ray", "export"}
    assert {shlex.split(line)[0] for line in COMMANDS} <= known
