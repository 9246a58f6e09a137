"""What the report reads of score tables: labels of either kind, and columns to compare by."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from audioflow.engine.report_systems import systems_of
from audioflow.report import SystemScores
from tests.unit.scored_tables import Clips, fusing, make_clips, write_manifest, write_scores

SETS: tuple[list[str], ...] = (["cat", "owl"], [], ["dog"], ["owl"])


@dataclass(frozen=True)
class Tagged(Clips):
    """Clips with two labels, none, or one, in turn."""

    def labels(self, row: int) -> list[str]:
        return SETS[row % 4]


def read(folder: Path, clips: Clips, **settings: object) -> SystemScores:
    run = fusing(folder)
    write_manifest(run.folder, clips)
    scores = np.random.default_rng(0).random((len(clips.ids), 3)).astype(np.float32)
    told = {"import": {"importer": "npy"}} | settings
    header = write_scores(run.folder, "audio", clips, scores, **told)
    tables = {"scores/audio": (run.scores("audio"), header)}
    return next(systems_of(run, tables, run.manifest().read()))


@pytest.mark.parametrize("told", [{"multi_label": True}, {}])
def test_several_labels_are_kept_as_such(tmp_path: Path, told: dict[str, bool]) -> None:
    clips = Tagged(**vars(make_clips(12)))
    found = read(tmp_path, clips, **told)
    assert found.label_sets is not None
    of = dict(zip(found.clip_ids, zip(found.label_sets, found.labels, strict=True), strict=True))
    assert of[clips.ids[0]] == (("cat", "owl"), "cat, owl")
    assert of[clips.ids[1]] == ((), "")
    assert of[clips.ids[2]] == (("dog",), "dog")


def test_one_label_per_clip_is_kept_as_such(tmp_path: Path) -> None:
    found = read(tmp_path, make_clips(6))
    assert (found.label_sets, found.columns) == (None, {})
    assert set(found.labels) <= {"cat", "dog", "owl"}


def test_folds_are_a_column_to_compare_by(tmp_path: Path) -> None:
    plain = make_clips(6, splits=("test",))
    folds = ["a", "b", None, "a", "b", None]
    clips = Clips(plain.ids, plain.targets, plain.splits, folds=folds)
    found = read(tmp_path, clips)
    assert set(found.columns) == {"fold"}
    of = dict(zip(found.clip_ids, found.columns["fold"], strict=True))
    assert [of[clip_id] for clip_id in clips.ids] == ["a", "b", "", "a", "b", ""]
