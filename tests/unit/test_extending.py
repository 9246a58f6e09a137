"""The examples of docs/extending.md, put where the page says, keep the contract of their kind.

They are put into a copy of the project, as a reader of the page would, and the contract tests run
there, in a process of their own.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"^`(audioflow/\S+\.py)`:\n\n```python\n(.*?)```", PAGE, re.DOTALL | re.M))
LINES = re.findall(
    r"^The line in `(audioflow/\S+\.py)`:\n\n```python\n(.*?)\n```", PAGE, re.DOTALL | re.M
)
(TREE,) = re.findall(r"```python\n(def \w+\(root: str\).*?)```", PAGE, re.DOTALL)
(RECIPE,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
NAMES = [re.match(r'"(\w+)"', line)[1] for _, line in LINES]
LEAST = {"bands": 12, "tracks": 4, "centres": 14, "middle": 20, "power": 12}
"""How many contract tests run over each, at least."""


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A program in the copy, whose packages come before those that are installed."""
    return subprocess.run(
        [sys.executable, *words],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with the five plug-ins of the page."""
    root = tmp_path_factory.mktemp("project")
    for name in ("audioflow", "tests"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", root)
    for name, text in FILES.items():
        (root / name).write_text(text, encoding="utf-8")
    for name, line in LINES:
        put_in(root / name, r"Registry\(\n    \"[\w ]+\",\n    \{\n", f"        {line}\n")
    trees, name = root / "tests" / "trees.py", TREE.split("(", 1)[0].removeprefix("def ")
    put_in(trees, r"(?=^TREES: )", f"{TREE}\n\n")
    put_in(trees, r"^TREES: .*\n", f'    "{name}": {name},\n')
    return root


def put_in(path: Path, after: str, text: str) -> None:
    """Text put into a file, after the only place where the pattern is found."""
    before = path.read_text(encoding="utf-8")
    (place,) = re.finditer(after, before, re.MULTILINE)
    path.write_text(before[: place.end()] + text + before[place.end() :], encoding="utf-8")


def test_there_is_an_example_of_every_kind() -> None:
    folders = [Path(name).parts[1] for name in FILES]
    assert folders == ["backbones", "datasets", "heads", "pooling", "fusion"]
    assert [Path(name).stem for name in FILES] == NAMES == list(LEAST)
    for (name, line), file in zip(LINES, FILES, strict=True):
        assert Path(name).parent == Path(file).parent
        assert file.removesuffix(".py").replace("/", ".") in line
    longest = max(len(text.splitlines()) for text in FILES.values())
    assert longest < 80, "short enough to be read"


def test_the_examples_keep_the_contract_of_their_kind(copy: Path) -> None:
    ran = python(
        copy,
        "-m",
        "pytest",
        "tests/contract",
        "-k",
        " or ".join(NAMES),
        "-v",
        "-p",
        "no:cacheprovider",
    )
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-2000:]
    for name, least in LEAST.items():
        passed = re.findall(rf"::test_\w+\[.*{name}.*\] PASSED", ran.stdout)
        assert len(passed) >= least, name


def test_the_recipe_of_all_five_is_accepted(copy: Path) -> None:
    (copy / "field.yaml").write_text(RECIPE, encoding="utf-8")
    code = (
        "from audioflow.plugins import plugins\n"
        "from audioflow.recipe_file import load_recipe\n"
        "recipe = load_recipe('field.yaml', [], plugins())\n"
        "print(recipe.manifest.reader, *recipe.embed.backbones, *recipe.systems, *recipe.fuse)\n"
    )
    ran = python(copy, "-c", code)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.split() == ["tracks", "bands", "acoustic", "learnt", "plain", "both"]


@pytest.mark.parametrize("name", FILES)
def test_an_example_is_as_tidy_as_the_project(copy: Path, name: str) -> None:
    for words in (["check", "--quiet"], ["format", "--check", "--quiet"]):
        ran = python(copy, "-m", "ruff", *words, name)
        assert ran.returncode == 0, ran.stdout + ran.stderr


def test_a_wrong_line_of_a_label_track_is_told(copy: Path) -> None:
    code = (
        "from audioflow.datasets import READERS\n"
        "from audioflow.errors import InputError\n"
        "from audioflow.storage import Folder\n"
        "from tests.trees import put, tracks\n"
        "options = tracks('field')\n"
        "clips = READERS.build('tracks', options).read(Folder)\n"
        "print([(clip.clip_id, clip.labels, clip.columns['site']) for clip in clips])\n"
        "put('field', 'lake/noon.txt', '0\\t1\\trobin\\nlate\\t2\\twren\\n')\n"
        "try:\n"
        "    list(READERS.build('tracks', options).read(Folder))\n"
        "except InputError as error:\n"
        "    print(error)\n"
    )
    ran = python(copy, "-c", code)
    clips, _, told = ran.stdout.partition("\n")
    assert clips.count("robin") == 2, ran.stderr
    assert "('hill/dawn.wav@2+1', ('wren',), 'hill')" in clips
    assert told.startswith("lake/noon.txt:2: 'late\\t2\\twren' is not a begin, an end and a label")
