"""What the workers of a calibration do: which clips they score, with what, and what they fit."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.engine.train_calibrate_work import RawTask, fit_on, raw_scores
from audioflow.recipe_calibration import CalibrationSection
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.network import network_for
from audioflow.tables import MANIFEST_SCHEMA, Header, Table

CLASSES = ["cat", "dog"]


def write_tables(folder: Folder, clips: dict[str, dict[str, Any]]) -> None:
    """Of each clip a row as recorded and one of a variant."""
    rows = [
        {"clip_id": name, "uri": name, "group": name, "source": "main"}
        | {"fine_labels": clip["labels"]}
        | clip
        for name, clip in clips.items()
    ]
    generator, names = np.random.default_rng(0), [name for name in clips for _ in range(2)]
    vectors = [generator.normal(size=(2, 3)).astype(np.float32) for _ in names]
    embedded = [
        ClipEmbedding({"pool5": one}, np.arange(2.0), 2.0, 1.0, place % 2)
        for place, one in enumerate(vectors)
    ]
    finish(folder / "manifest", pa.Table.from_pylist(rows, MANIFEST_SCHEMA))
    finish(folder / "embeddings", embedding_rows(names, embedded, {"pool5": 3}))


def finish(folder: Folder, rows: pa.Table) -> None:
    table = Table(folder)
    receipt = table.commit("all", rows)
    table.finish(Header("any", "any", "any", {}, {}, rows.num_rows, 0, [receipt]))


def write(
    folder: Folder, clips: dict[str, dict[str, Any]], *, multi_label: bool = False
) -> RawTask:
    """Tables of these clips with a variant each, and a head for each of their folds."""
    write_tables(folder, clips)
    spec = HeadSpec(
        system="s",
        backbone="b",
        embeddings="f" * 32,
        layers={"pool5": 3},
        vectors_per_patch=1,
        pooling={"name": "mean", "on": "embeddings"},
        head={"name": "linear"},
        classes=CLASSES,
        head_classes=CLASSES,
        merge=None,
        multi_label=multi_label,
        temperature=1.0,
        normalised=False,
        trained_on={},
    )
    places = {clip.get("fold") for clip in clips.values()}
    for seed, fold in enumerate(sorted(places, key=str)):
        state = network_for(spec.network, seed).state_dict()
        inner = folder / "head" / f"fold-{fold}" if fold else folder / "head"
        HeadBundle(spec, state).save(inner, [])
    return RawTask(folder / "head", folder / "embeddings", folder / "manifest", None, (), 1000)


def many(count: int, **more: Any) -> dict[str, dict[str, Any]]:
    return {
        f"{split}{number}": {"labels": [CLASSES[number % 2]], "split": split} | more
        for number in range(count)
        for split in ("train", "val")
    }


def test_the_clips_of_val_are_scored_as_recorded(tmp_path: Path) -> None:
    asked = write(Folder(str(tmp_path)), many(6))
    found = raw_scores(asked)
    assert sorted(found.groups) == [f"val{number}" for number in range(6)]
    bundle = HeadBundle.load(asked.head)
    for _, rows in Table(asked.embeddings).shards():
        mine = [
            place
            for place, row in enumerate(rows.to_pylist())
            if row["variant"] == 0 and row["clip_id"].startswith("val")
        ]
        clips = bundle.inputs.read(rows.take(mine))
        wanted = dict(zip(clips.clip_ids, bundle.scores(clips).tolist(), strict=True))
        for clip_id, scores in wanted.items():
            place = found.groups.index(clip_id)
            assert found.raw_NC[place].tolist() == scores
            assert CLASSES[found.targets[place]] == CLASSES[int(clip_id[3:]) % 2]
    assert found.left_out == 0


def test_a_fold_is_scored_by_the_head_that_did_not_see_it(tmp_path: Path) -> None:
    clips = {
        f"c{number}": {"labels": [CLASSES[number % 2]], "split": "cv", "fold": str(number % 3)}
        for number in range(12)
    }
    asked = write(Folder(str(tmp_path)), clips)
    parts = [
        raw_scores(RawTask(asked.head, asked.embeddings, asked.manifest, fold, (), 1000))
        for fold in "012"
    ]
    assert [sorted(part.groups) for part in parts] == [
        sorted(name for name, clip in clips.items() if clip["fold"] == fold) for fold in "012"
    ]
    found = fit_on(CalibrationSection(), tuple(CLASSES), "key", *parts)
    assert found is not None
    assert set(found.folds) == {"0", "1", "2"}
    assert found.fitted["clips"] == 12


def test_clips_of_sources_that_were_dropped_are_left_out(tmp_path: Path) -> None:
    clips = many(4) | {"other": {"labels": ["cat"], "split": "val", "source": "more"}}
    asked = write(Folder(str(tmp_path)), clips)
    assert "other" in raw_scores(asked).groups
    dropping = RawTask(asked.head, asked.embeddings, asked.manifest, None, ("more",), 1000)
    assert sorted(raw_scores(dropping).groups) == ["val0", "val1", "val2", "val3"]


def test_of_very_many_clips_an_even_share_is_taken_and_told(tmp_path: Path) -> None:
    asked = write(Folder(str(tmp_path)), many(40))
    found = raw_scores(RawTask(asked.head, asked.embeddings, asked.manifest, None, (), 12))
    assert (len(found.raw_NC), len(found.groups), found.left_out) == (12, 12, 28)
    numbers = [int(name.removeprefix("val")) for name in found.groups]
    assert max(numbers) > 20 > min(numbers)
    made = fit_on(CalibrationSection(), tuple(CLASSES), "key", found)
    assert made is not None
    assert made.fitted["notes"][0] == "fitted on 12 clips, an even share: 28 more were left out"


@pytest.mark.parametrize("thresholds", [{"precision": 0.2}, {"recall": 0.2}, {"f1": "best"}])
def test_clips_of_several_labels_are_calibrated_by_class(
    tmp_path: Path, thresholds: dict[str, Any]
) -> None:
    labels: list[list[str]] = [[], ["cat"], ["dog"], ["cat", "dog"]]
    clips = {f"v{n}": {"labels": labels[n % 4], "split": "val"} for n in range(40)}
    found = raw_scores(write(Folder(str(tmp_path)), clips, multi_label=True))
    assert found.multi_label
    for name, target in zip(found.groups, found.targets, strict=True):
        assert target.tolist() == [one in labels[int(name[1:]) % 4] for one in CLASSES]
    section = CalibrationSection.model_validate({"method": "platt", "thresholds": thresholds})
    made = fit_on(section, tuple(CLASSES), "key", found)
    assert made is not None
    ((kind, value),) = thresholds.items()
    assert made.target == ("best f1" if kind == "f1" else f"{kind} {value}")
    above = made.above(made.apply(found.raw_NC, [None] * 40), [None] * 40).to_pylist()
    assert len(above) == 40
    assert {name for names in above for name in names} <= set(CLASSES)


def test_without_a_clip_there_is_no_calibration(tmp_path: Path) -> None:
    clips = {"a": {"labels": ["cat"], "split": "train"}, "b": {"labels": ["dog"], "split": "train"}}
    found = raw_scores(write(Folder(str(tmp_path)), clips))
    assert found.raw_NC.shape == (0, 2)
    assert np.shape(found.targets) == (0,)
    assert fit_on(CalibrationSection(), tuple(CLASSES), "key", found) is None
