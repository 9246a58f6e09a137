"""The commands, recipes, names, links, pictures and figures of the README and the pages in docs/,
and the README's tree, are those of the project.
"""

import io
import itertools
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from matplotlib.image import imread
from ruamel.yaml import YAML

from audioflow import __version__
from audioflow.backbones import BACKBONES
from audioflow.backbones.ready import made_ready
from audioflow.cli import HELP, plugins
from audioflow.cli_tools import TOOLS
from audioflow.datasets import READERS
from audioflow.exporters import EXPORTERS
from audioflow.media.patches import Patching
from audioflow.recipe_file import load_recipe
from docs.make import Part
from tests.conftest import ROOT

PAGES = {
    path.name: path.read_text(encoding="utf-8")
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
}
README = PAGES["README.md"]
FENCED = {
    name: re.findall(r"```(\w*)\n(.*?)```", text, flags=re.DOTALL) for name, text in PAGES.items()
}
RECIPES = sorted((ROOT / "configs").rglob("*.yaml"))
MADE_BY_HAND = {"birds.yaml", "recipe.yaml"}
"""Recipes that a page tells to write, and does not come with the project."""
RUNS = {"runs/demo", "runs/other", "runs/birds"}
"""Runs that commands look at: what `make demo` makes, and examples of further ones."""


def commands(page: str) -> Iterator[str]:
    """The lines of the shell on a page, without comments, lines that go on put together."""
    for kind, text in FENCED[page]:
        if kind == "bash":
            for line in text.replace("\\\n", " ").splitlines():
                if command := re.sub(r"(^|\s)#.*", "", line).strip():
                    yield command


COMMANDS = [(page, command) for page in PAGES for command in commands(page)]


def test_there_are_commands_recipes_and_pages() -> None:
    assert len(list(commands("README.md"))) >= 10
    assert len(COMMANDS) >= 45
    assert len(RECIPES) >= 6
    assert len(PAGES) >= 13


@pytest.mark.parametrize(
    ("page", "command"), [each for each in COMMANDS if each[1].startswith("audioflow ")]
)
def test_an_audioflow_command_is_accepted(page: str, command: str) -> None:
    _, job, *rest = shlex.split(command)
    given = rest[0] if rest else ""
    if job == "doctor":
        return
    if job == "weights":
        assert given in {"list", "path", "fetch", "convert", "codebook"}
    elif job == "datasets":
        assert given in {"", *READERS.names()}
    elif job == "export":
        assert given in EXPORTERS.names()
        assert rest[1] in {*RUNS, "RUN_DIR"}
    elif job in TOOLS and not given.endswith(".yaml"):
        known = {*RUNS, "RUN_DIR", "HEAD"}
        assert given in known or given.startswith(("runs/", "s3://", "/opt/ml/model"))
    else:
        assert job in {*HELP, *TOOLS}
        if given not in {*MADE_BY_HAND, "RECIPE"}:
            overrides = [word for word in rest[1:] if re.match(r"[\w.]+=", word)]
            job = job if job in HELP else "embed"
            assert load_recipe(str(ROOT / given), overrides, plugins(), job)


@pytest.mark.parametrize(
    ("page", "command"), [each for each in COMMANDS if each[1].startswith("make ")]
)
def test_a_make_command_has_a_target(page: str, command: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in command.split()[1:]:
        if "=" in target:
            name, _, value = target.partition("=")
            assert f"$({name})" in makefile
            assert f'"{value}"' in (ROOT / "benchmarks" / "cases.py").read_text()
            continue
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_no_command_of_the_readme_needs_what_is_not_installed() -> None:
    known = {"make", "audioflow", "ray", "export"}
    assert {shlex.split(line)[0] for line in commands("README.md")} <= known


def test_every_job_and_tool_stands_in_the_readme_and_every_job_has_its_file() -> None:
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == set(HELP)
    for job in HELP:
        assert f"| `{job}` |" in README
    rows = re.findall(r"^\| ((?:`\w+`(?:, )?)+) \|", README, flags=re.MULTILINE)
    named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    assert set(TOOLS) <= named
    submitted = re.findall(r"-- python (\S+) (\S+)", "".join(PAGES.values()))
    assert submitted
    for job, recipe in submitted:
        assert (ROOT / job).is_file()
        assert recipe in MADE_BY_HAND or recipe == "RECIPE" or (ROOT / recipe).is_file()


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_every_recipe_is_accepted(path: Path) -> None:
    assert load_recipe(str(path), [], plugins()).sections[0] == "manifest"


def test_recipes_that_pages_name_are_there() -> None:
    named = set(re.findall(r"\bconfigs/[\w./-]+\.yaml", "".join(PAGES.values())))
    there = {str(path.relative_to(ROOT)) for path in RECIPES}
    assert named - there == set()
    table = README.split("\n## Coming from ...\n")[1].split("\n## ")[0]
    assert set(re.findall(r"configs/[\w./-]+\.yaml", table)) <= there
    assert len(re.findall(r"^\| \[.*\]\(docs/coming-from\.md#", table, re.MULTILINE)) == 5


def recipes(page: str) -> list[str]:
    """The recipes that a page shows, whole or in part."""
    return [text for kind, text in FENCED[page] if kind == "yaml"]


OWN_PLUGINS = {"extending.md"}
"""Whose recipe names plug-ins of its own: test_extending.py reads it beside them."""


@pytest.mark.parametrize("page", sorted({*PAGES} - OWN_PLUGINS))
def test_the_recipes_of_a_page_are_accepted(page: str, tmp_path: Path) -> None:
    for text in recipes(page):
        base = {"run_dir": "runs/x", "manifest": {"reader": "folder", "root": "x"}}
        path = tmp_path / "recipe.yaml"
        YAML(typ="safe").dump(base | YAML(typ="safe").load(text), path)
        assert load_recipe(str(path), [], plugins())


def test_entries_and_readers_that_a_page_shows_in_a_line_are_accepted(tmp_path: Path) -> None:
    """Such as `{name: mel_npy, folder: mel}`, in a row, and `{reader: glob, ...}` in a sentence."""
    text = PAGES["data.md"]
    entries = re.findall(r"^\| `(\{name: .*?\})` \|", text, flags=re.MULTILINE)
    readers = re.findall(r"`(\{reader: .*?\})`", text)
    assert len(entries) >= 4
    assert readers
    path = tmp_path / "recipe.yaml"
    for reader, entry in itertools.zip_longest(readers, entries, fillvalue=None):
        manifest = reader or "{reader: folder, root: x}"
        embed = f"embed: {{imports: {{own: {entry}}}}}\n" if entry else ""
        path.write_text(f"run_dir: runs/x\nmanifest: {manifest}\n{embed}")
        assert load_recipe(str(path), [], plugins())


def test_recipes_are_shown_where_they_belong() -> None:
    counts = {page: len(recipes(page)) for page in PAGES}
    assert counts["README.md"] == 1
    least = {"data.md": 3, "media.md": 3, "backbones.md": 1, "heads.md": 1, "scores.md": 3}
    assert all(counts[page] >= count for page, count in least.items())


def test_the_recipe_of_the_readme_is_a_whole_one_of_six_lines(tmp_path: Path) -> None:
    (text,) = recipes("README.md")
    assert len(text.splitlines()) == 6
    path = tmp_path / "birds.yaml"
    path.write_text(text)
    assert load_recipe(str(path), ["manifest.root=s3://sounds/birds"], plugins(), "run")


def test_every_registered_name_stands_in_the_page_of_plugins_and_no_other() -> None:
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
        row = re.search(rf"^\| {registry.kind} \| (.*) \|$", PAGES["plugins.md"], re.MULTILINE)
        assert row, registry.kind
        assert sorted(re.findall(r"`(\w+)`", row.group(1))) == registry.names()


def backbone_rows() -> dict[str, list[str]]:
    """Backbone -> the cells after its name, of the tables of the page of backbones."""
    section = PAGES["backbones.md"].split("\n## What there is")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("| `")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {name: rest for first, *rest in cells for name in re.findall(r"`(\w+)`", first)}


def test_every_backbone_has_a_row_on_its_page() -> None:
    assert sorted(backbone_rows()) == BACKBONES.names()


@pytest.mark.parametrize(
    "name", [name for name, cells in backbone_rows().items() if "`" in "".join(cells[:-1])]
)
def test_a_row_of_the_page_of_backbones_says_what_it_is(name: str) -> None:
    *numbers, layers, _ = backbone_rows()[name]
    untrained = "weights" in BACKBONES.load(name).Settings.model_fields
    backbone = made_ready(name, {"weights": "random"} if untrained else {}).backbone
    told = {layer: int(width) for layer, width in re.findall(r"`(\w+)` (\d+)", layers)}
    assert told == dict(backbone.layers)
    if isinstance(backbone.input, Patching):
        cut = backbone.input
        assert [float(number) for number in numbers] == pytest.approx(
            [cut.sample_rate_hz, cut.patch_s, cut.hop_s], abs=5e-4
        )
    else:
        assert numbers == []


# Links and pictures


def targets(page: str) -> list[str]:
    """What a page links to or shows, but for addresses on the web."""
    found = re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", PAGES[page], flags=re.DOTALL))
    return [target for target in found if "://" not in target]


def anchors(text: str) -> list[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.M)
    return [Part(2, heading, "").anchor for heading in headings]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_to_files_and_headings(page: str) -> None:
    folder = ROOT if page == "README.md" else ROOT / "docs"
    for target in targets(page):
        name, _, anchor = target.partition("#")
        path = folder / name if name else folder / page
        assert path.exists(), target
        if anchor:
            assert anchors(path.read_text(encoding="utf-8")).count(anchor) == 1, target


def test_every_page_is_found_from_the_readme_and_names_its_parts() -> None:
    linked = {target.partition("#")[0] for target in targets("README.md")}
    assert len(linked) > 12
    assert {f"docs/{page}" for page in PAGES if page != "README.md"} <= linked


PICTURES = sorted((ROOT / "docs" / "images").glob("*"))


def test_pictures_are_small_shown_and_told_in_words() -> None:
    shown = re.findall(r"!\[([^\]]*)\]\((?:docs/)?(images/\S+)\)", "".join(PAGES.values()))
    assert {name for _, name in shown} == {f"images/{path.name}" for path in PICTURES}
    assert all(len(words) > 20 for words, _ in shown)
    assert 4 <= len(PICTURES) <= 10
    for path in PICTURES:
        assert path.stat().st_size < 150_000, path.name
        height, width, _ = imread(io.BytesIO(path.read_bytes()), format="png").shape
        assert 600 <= width <= 1400, path.name
        assert height <= 1200, path.name


# Figures


def test_the_speed_that_the_readme_tells_is_measured() -> None:
    """More than twice as fast as plain Ray Data, and as `ffmpeg` per file, in most cases."""
    assert "in most cases `embed` is more than twice as fast" in " ".join(README.split())
    text = (ROOT / "benchmarks" / "README.md").read_text()
    table = re.split(r"^\| case \| steady / ideal.*\n", text, flags=re.MULTILINE)[1]
    rows = [line.split("|") for line in table.splitlines() if line.startswith("| `")]
    assert len(rows) > 10
    for column in (3, 4):
        ratios = [float(row[column]) for row in rows if row[column].strip()]
        assert statistics.median(ratios) > 2


# The tree


def test_the_tree_is_the_tree() -> None:
    tree = next(text for _, text in FENCED["README.md"] if text.startswith("jobs/"))
    begun = [line for line in tree.splitlines() if not line.startswith("   ")]
    for line in begun:
        name = line.split()[0]
        folder = ROOT / "audioflow" if line.startswith("  ") else ROOT
        assert (folder / name).exists(), name
    told = re.findall(r"(?<![\w*])[\w*]+\.py\b", tree)
    modules = {path.name for path in (ROOT / "audioflow").glob("*.py")} - {"__init__.py"}
    unnamed = {name for name in modules if not any(fnmatchcase(name, each) for each in told)}
    assert unnamed == {"errors.py", "registry.py", "events.py"}
    folders = {path.parent.name for path in (ROOT / "audioflow").glob("*/__init__.py")}
    assert folders - set(re.findall(r"\b(\w+)/", tree)) == set()


def test_the_package_is_the_command_too() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "audioflow", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == f"audioflow {__version__}\n"
