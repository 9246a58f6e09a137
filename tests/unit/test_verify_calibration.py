"""`verify` on calibrations of heads, and on score tables with columns beside their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from audioflow.calibration import SystemCalibration, Target
from audioflow.calibration.fit_system import Material, Wanted, fit_system
from audioflow.calibration.system import CALIBRATION
from audioflow.scores import ScoredClips, score_rows, vectors_column
from audioflow.storage import Folder
from audioflow.tables import Failure, Table
from audioflow.verify import verify
from tests.unit.small_run import (
    CLASSES,
    edit_header,
    found,
    make_small_run,
    path_of,
    recommit,
)

HEAD, SCORES = "heads/audio", "scores/audio"
MORE = ["above_threshold", "raw_scores"]


def rows_with_more(run: Folder, name: str, above: list[str], raw: float) -> pa.Table:
    """A shard of scores as it is, with these values in the columns beside."""
    rows = Table(run / SCORES).read_shard(name)
    count = rows.num_rows
    clips = ScoredClips(*(rows[key].to_pylist() for key in ("clip_id", "labels", "split")))
    scores = np.tile(np.array([0.25, 0.75], np.float32), (count, 1))
    more = {
        "raw_scores": vectors_column(np.full((count, 2), raw, np.float32)),
        "above_threshold": pa.array([above] * count, pa.list_(pa.string())),
    }
    return score_rows(clips, scores, CLASSES, more=more)


def write_scores(run: Folder, key: str, above: list[str] | None = None, raw: float = 0.5) -> None:
    settings = Table(run / SCORES).complete_header().settings
    edit_header(run, SCORES, settings=settings | {"columns": MORE, "calibration": key})
    for name in ("s-0", "s-1"):
        recommit(
            run, SCORES, name, rows_with_more(run, name, above or ["dog"], raw), *lost(run, name)
        )


def lost(run: Folder, name: str) -> list[Failure]:
    rows = Table(run / SCORES).shard_failures(name).to_pylist()
    return [Failure(**row) for row in rows]


@pytest.fixture
def run(tmp_path: Path) -> Folder:
    """The small run, its system `audio` calibrated and scored anew."""
    folder = make_small_run(Folder(str(tmp_path)))
    generator = np.random.default_rng(0)
    raw = generator.random((40, 1)).astype(np.float32)
    material = Material(np.hstack([raw, 1 - raw]), np.arange(40) % 2, [str(k) for k in range(40)])
    wanted = Wanted("platt", Target("f1"), True, tuple(CLASSES), False)
    table = Table(folder / HEAD)
    table.folder.write(CALIBRATION, fit_system(material, wanted, "cafe").to_bytes())
    made = SystemCalibration.load(table.folder)
    assert made is not None
    edit_header(folder, HEAD, stats={"calibration": made.summary()})
    write_scores(folder, "cafe")
    return folder


def of_these(run: Folder) -> list[tuple[str, str, str]]:
    """What is wrong with the head and its scores; what was made from them is of another time."""
    return [one for one in found(run) if one[0] in (HEAD, SCORES)]


def test_a_calibrated_system_passes(run: Folder) -> None:
    assert of_these(run) == []


@pytest.mark.parametrize(
    ("damage", "kind"),
    [
        (lambda path: path.unlink(), "missing_file"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"platt", b"vector", 1)),
            "damaged_file",
        ),
        (lambda path: path.write_bytes(b"{"), "damaged_file"),
    ],
)
def test_a_calibration_that_is_gone_or_changed_is_told(
    run: Folder, damage: Callable[[Path], None], kind: str
) -> None:
    damage(path_of(run / HEAD, CALIBRATION))
    (fault,) = [one for one in verify(run).faults if one.table == HEAD]
    assert (fault.kind, fault.where) == (kind, CALIBRATION)
    assert fault.way_out == "run `audioflow train RECIPE` again"


def test_a_calibration_that_no_header_names_is_told(run: Folder) -> None:
    edit_header(run, HEAD, stats={})
    assert (HEAD, "extra_file", CALIBRATION) in of_these(run)
    told = [one.what for one in verify(run).faults if one.table == SCORES]
    assert told == ["scores/audio was calibrated by cafe, heads/audio has the calibration none"]


def test_scores_of_another_calibration_are_told(run: Folder) -> None:
    write_scores(run, "beef")
    (fault,) = [one for one in verify(run).faults if one.table == SCORES]
    assert fault.kind == "parent"
    assert fault.what.startswith("scores/audio was calibrated by beef, heads/audio has")
    assert fault.way_out == "run `audioflow score RECIPE` again"


def test_values_of_columns_beside_are_looked_at(run: Folder) -> None:
    write_scores(run, "cafe", above=["dog", "cow"], raw=1.5)
    told = {one.what for one in verify(run).faults if one.table == SCORES}
    assert any("has the score before calibration 1.5, expected 0 to 1" in what for what in told)
    assert any("above the threshold of 'cow', which is not a class" in what for what in told)


def test_columns_that_the_header_does_not_name_are_told(run: Folder) -> None:
    settings = Table(run / SCORES).complete_header().settings
    edit_header(run, SCORES, settings=settings | {"columns": ["raw_scores"]})
    assert {kind for _, kind, _ in of_these(run)} == {"schema"}
    edit_header(run, SCORES, settings=settings | {"columns": ["magic"]})
    (fault,) = [one for one in verify(run).faults if one.table == SCORES]
    assert "settings.columns is ['magic'], expected some of above_threshold" in fault.what
