"""`audioflow datasets`: what readers there are, and how to get the public data sets."""

import json
import subprocess

import pytest
from typer.testing import CliRunner, Result

from audioflow.cli import app
from audioflow.datasets import READERS


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["datasets", *arguments])


def test_every_reader_has_a_line() -> None:
    done = run()
    assert done.exit_code == 0
    listed = done.output.partition("\n\n")[0].splitlines()
    assert [line.split()[0] for line in listed] == READERS.names()
    assert all(len(line) <= 110 for line in listed)
    assert "ESC-50 and ESC-10, environmental sounds" in done.output


def test_one_shows_its_layout_its_recipe_and_how_to_get_it() -> None:
    done = run("esc50")
    assert done.exit_code == 0
    for text in (
        "      meta/esc50.csv          filename,fold,target,category,esc10,src_file,take\n",
        "    root: folder or url with audio/ and meta/. esc10: only the ten classes of ESC-10.\n",
        "    manifest: {reader: esc50, root: ESC-50-master, splits: {folds: fold}}\n",
        "    curl -L -o esc50.zip https://github.com/",
        "licence  CC BY-NC 3.0",
    ):
        assert text in done.output
    assert "How to get it" not in run("folder").output


def test_a_name_that_no_reader_has_is_told() -> None:
    done = run("esc5")
    assert done.exit_code == 2
    assert "reader 'esc5' does not exist" in done.output
    assert "did you mean 'esc50'?" in done.output


def test_json_tells_the_same() -> None:
    (found,) = [each for each in json.loads(run("--json").output) if each["name"] == "gtzan"]
    assert found == json.loads(run("gtzan", "--json").output)
    assert found["size"] == "about 1.3 GB"
    assert len(found["get"]) == 3


@pytest.mark.parametrize("name", [name for name in READERS.names() if READERS.load(name).about.get])
def test_the_commands_are_those_of_a_shell(name: str) -> None:
    text = "\n".join(READERS.load(name).about.get)
    done = subprocess.run(["bash", "-n"], input=text, text=True, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
