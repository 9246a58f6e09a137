"""The pages about tables and operations: columns, examples, messages and figures are true."""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.errors import ERROR_CLASSES
from audioflow.failures import HINTS
from audioflow.plugins import plugins
from audioflow.records import Failure, Header, Receipt
from audioflow.schemas import (
    FAILURES_SCHEMA,
    MANIFEST_SCHEMA,
    MORE_SCORES,
    TRIALS_SCHEMA,
    embeddings_schema,
    scores_schema,
)
from audioflow.scores import ScoredClips, score_rows
from audioflow.storage import Folder
from audioflow.tables import Table
from audioflow.verify.faults import FAULT_KINDS
from tests.conftest import ROOT
from tests.unit.recipe_keys import is_key

TABLES = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
OPERATIONS = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```python\n(.*?)```", TABLES, flags=re.DOTALL)
CLASSES = ["cat", "dog", "owl"]
SCORES = np.array(
    [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.5, 0.3, 0.2], [0.2, 0.2, 0.6]], dtype=np.float32
)
LABELS = [["cat"], ["dog"], ["owl"], ["dog"]]
SPLITS = ["test", "test", "test", "val"]
ACCURACY = 2 / 3
"""Of the three test clips above."""


def section(page: str, title: str) -> str:
    """The text under a heading, up to the next one of its level."""
    level = re.search(rf"^(#+) {re.escape(title)}$", page, flags=re.MULTILINE)
    assert level, title
    rest = page[level.end() :]
    return re.split(rf"^#{{2,{len(level[1])}}} ", rest, flags=re.MULTILINE)[0]


def rows(text: str) -> list[list[str]]:
    """The cells of every table in a text, without heads."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    rules = [number for number, line in enumerate(lines) if set(line) <= set("|-:")]
    heads = {number - 1 for number in rules} | set(rules)
    return [row for number, row in enumerate(cells) if number not in heads]


def type_text(field: pa.Field, width: str) -> str:
    text = str(field.type).replace("item: ", "").replace("[7]", f"[{width}]")
    return text + (" or null" if field.nullable else "")


@pytest.mark.parametrize(
    ("title", "schema"),
    [
        ("manifest", MANIFEST_SCHEMA),
        ("embeddings", embeddings_schema({"embedding": 7})),
        ("scores", scores_schema(7, fused=True, more=MORE_SCORES)),
        ("trials", TRIALS_SCHEMA),
        ("failures", FAILURES_SCHEMA),
    ],
)
def test_the_columns_of_a_table_are_those_of_its_schema(title: str, schema: pa.Schema) -> None:
    width = "D" if title == "embeddings" else "C"
    told = [(row[0].strip("`"), row[1]) for row in rows(section(TABLES, title))]
    assert told == [(field.name, type_text(field, width)) for field in schema]


def test_the_keys_of_a_header_are_those_that_it_has() -> None:
    told = {name for row in rows(section(TABLES, "The header")) for name in _spans(row[0])}
    assert told == set(Header.__dataclass_fields__)
    receipt = next(row for row in rows(section(TABLES, "The header")) if "`shards`" in row[0])
    assert set(_spans(receipt[1])) == set(Receipt.__dataclass_fields__)


def test_what_verify_finds_is_told_in_its_words() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(section(TABLES, "What verify proves"))}
    assert told == FAULT_KINDS


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A small run in `runs/demo` of the working folder, with a clip that failed."""
    monkeypatch.chdir(tmp_path)
    folder = Folder(str(tmp_path / "runs" / "demo"))
    clips = [f"clip{number}" for number in range(4)]
    common = {"labels": [], "fine_labels": [], "split": "test", "source": "main"}
    manifest = [common | {"clip_id": clip, "uri": f"/{clip}.wav", "group": clip} for clip in clips]
    finish(folder, "manifest", pa.Table.from_pylist(manifest, MANIFEST_SCHEMA))
    finish(folder, "scores/audio", score_rows(ScoredClips(clips, LABELS, SPLITS), SCORES, CLASSES))
    vectors = [
        {
            "clip_id": clip,
            "variant": variant,
            "duration_s": 2.0,
            "coverage": 1.0,
            "patch_start_s": [0.0, 1.0],
            "embedding": [[number, 0.0], [number, 1.0]],
        }
        for number, clip in enumerate(clips[:3])
        for variant in (0, 1)
    ]
    failed = [Failure(clips[3], "/clip3.wav", "decode", "no_audio", "it has no sound track")]
    embedded = pa.Table.from_pylist(vectors, embeddings_schema({"embedding": 2}))
    finish(folder, "embeddings/acoustic", embedded, failed)
    return tmp_path


def finish(folder: Folder, name: str, table: pa.Table, failed: list[Failure] | None = None) -> None:
    place = Table(folder / name)
    receipts = [
        place.commit("s0", table.slice(0, 2)),
        place.commit("s1", table.slice(2), failed or []),
    ]
    kind, title = name.split("/", maxsplit=1)[0], name.rpartition("/")[2]
    count = len(failed or [])
    place.finish(Header(kind, title, "f", {}, {}, table.num_rows, count, receipts, CLASSES))


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_an_example_reads_what_is_there(run: Path, number: int) -> None:
    found: dict[str, Any] = {}
    exec(EXAMPLES[number], found)  # the page's own text
    told = {"accuracy", "reasons", "table", "vectors"} & set(found)
    assert told
    if "accuracy" in found:
        assert found["accuracy"] == pytest.approx(ACCURACY)
    if "reasons" in found:
        assert found["reasons"] == {"no_audio": 1}
        assert len(found["rows"]) == 6
    if "table" in found:
        assert found["table"].columns == ["clip_id", *CLASSES]
        order = found["table"].sort("clip_id").drop("clip_id").to_numpy()
        assert np.allclose(order, SCORES)
    if "vectors" in found:
        assert sorted(found["vectors"].tolist()) == [[0.0, 0.5], [1.0, 0.5], [2.0, 0.5]]


def test_pandas_polars_and_duckdb_have_an_example() -> None:
    assert len(EXAMPLES) == 6
    for name in ("pandas", "polars", "duckdb"):
        assert any(f"import {name}" in text for text in EXAMPLES)


def test_every_class_of_failure_has_its_hint() -> None:
    told = {row[0].strip("`"): row[1] for row in rows(section(OPERATIONS, "A clip failed"))}
    assert list(told) == list(ERROR_CLASSES)
    assert told == HINTS


@cache
def templates() -> list[str]:
    """Every text of the package, with a mark where a value is put in."""
    found = []
    for path in sorted((ROOT / "audioflow").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            found += [text for text in [_template(node)] if text and " " in text]
    return found


def _template(node: ast.AST) -> str | None:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(_template(value) or "\0" for value in node.values)
    return None


def _is_said(message: str) -> bool:
    parts = [part.strip() for part in message.split("...") if part.strip(" .;:,()")]
    return any(_in_order(parts, text) for text in templates())


def _in_order(parts: list[str], text: str) -> bool:
    place = 0
    for part in parts:
        place = text.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def messages() -> Iterator[str]:
    for title in ("Before anything starts", "While it runs", "Tables and heads"):
        for row in rows(section(OPERATIONS, title)):
            yield row[0].strip("`")


def test_every_message_of_the_page_is_one_of_the_program() -> None:
    told = list(messages())
    assert len(told) > 25
    assert [message for message in told if not _is_said(message)] == []
    assert _is_said("bound by the backbone")
    assert not _is_said("no clip was finished for ... and this is not said")


def test_keys_of_the_page_are_keys_of_a_recipe() -> None:
    sections = "run_dir|ray|storage_options|manifest|embed|systems|tune|score|fuse|report"
    found = re.findall(rf"`((?:{sections})(?:\.\w+)+)", OPERATIONS + TABLES)
    files = {"report.json"}
    assert len(found) > 15
    assert [key for key in found if key not in files and not is_key(key)] == []


def test_figures_are_those_of_the_benchmarks() -> None:

    told = [row for row in rows(section(OPERATIONS, "How many cores and GPUs")) if len(row) == 4]
    first = [row for row in rows((ROOT / "benchmarks" / "README.md").read_text()) if len(row) == 9]
    measured = {row[0]: row for row in first}
    assert len(told) == 9
    for case, decode, backbone, whole in told:
        row = measured[case]
        assert (decode, backbone, whole) == (row[1], row[3], row[6]), case


def test_plug_ins_that_the_page_names_as_readers_are_some() -> None:
    named = re.findall(r"the reader `(\w+)`", OPERATIONS + TABLES)
    assert named
    assert set(named) <= set(plugins().readers.names())


def _spans(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)
