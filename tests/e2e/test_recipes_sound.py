"""The recipes of SoundNet and of AudioConcept, from the publishers' folders to what users hand in.

On small generated trees of the exact layouts, with real media, the real networks at random weights,
and few epochs; all that is set beside the recipes is what their users set, or makes them shorter.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.e2e.recipes import header, run_recipe, table, told
from tests.published import GENRES, cmu11775, gtzan, kaggle_features, write_sound

Ran = Callable[..., Path]
FOUR = ("blues", "jazz", "metal", "rock")
WEIGHTS = "embed.backbones.soundnet.weights=random"


@pytest.fixture(scope="module")
def ran(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Runs a recipe of the project with overrides, proves its tables, and gives its folder."""

    def run(recipe: str, *overrides: str, folder: Path | None = None) -> Path:
        return run_recipe(recipe, folder or tmp_path_factory.mktemp(recipe), *overrides)

    return run


def failed(folder: Path, name: str) -> dict[str, str]:
    """Clips that gave no row, and the class of the reason."""
    rows = pl.read_parquet(folder / name / "failures" / "*.parquet").to_dicts()
    return {row["clip_id"]: row["error"] for row in rows}


@pytest.fixture(scope="module")
def course(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cmu11775(tmp_path_factory.mktemp("course") / "11775", silent=1)


@pytest.fixture(scope="module")
def soundnet(ran: Ran, course: Path) -> Path:
    """The run of `soundnet_multihead`, with the course's baseline beside it."""
    book = course.parent / "codebook.safetensors"
    recipe = str(ROOT / "configs" / "soundnet_multihead.yaml")
    splits = ("manifest.splits.val=0.25", f"manifest.root={course}")
    told("weights", "codebook", recipe, f"run_dir={course.parent}", *splits, "--out", str(book))
    return ran(
        "soundnet_multihead",
        *splits,
        WEIGHTS,
        "systems.multihead.train.epochs=4",
        "embed.max_failed_share=0.1",
        f"embed.backbones.mfcc_bof={{codebook: {book}}}",
        "systems.bag_svm={backbone: mfcc_bof, head: {name: rbf_svm, scale: false}}",
    )


def test_soundnet_has_three_heads_and_one_label_per_clip_though_some_have_none(
    soundnet: Path,
) -> None:
    layers = {"pool5": 256, "conv6": 512, "conv7": 1024}
    assert header(soundnet, "embeddings/soundnet")["settings"]["layers"] == layers
    assert failed(soundnet, "embeddings/soundnet") == {"HW0003NzY=": "no_audio"}
    head = json.loads((soundnet / "heads" / "multihead" / "head.json").read_text())
    assert (list(head["layers"]), head["multi_label"]) == (list(layers), False)
    scores = table(soundnet, "scores/multihead").filter(pl.col("split") == "test")
    assert [sum(each) for each in scores["scores"]] == pytest.approx([1.0] * 3)
    report = json.loads((soundnet / "report" / "report.json").read_text())
    assert {system["name"] for system in report["systems"]} == {"multihead", "bag_svm"}


def test_the_submission_of_the_course_has_the_ids_of_its_template_in_their_order(
    soundnet: Path, course: Path, tmp_path: Path
) -> None:
    template, out = course / "labels" / "test_for_students.csv", tmp_path / "predictions.csv"
    asked = ("export", "kaggle", str(soundnet), "--system", "multihead", "--split", "test")
    asked += ("--template", str(template), "--numbers", str(course / "labels" / "cls_map.csv"))
    refused = " ".join(told(*asked, "--out", str(out), code=4).split())
    assert "1 of the 4 ids of" in refused
    assert "'HW0003NzY='" in refused
    told(*asked, "--fill", "dribbling_basketball", "--out", str(out))
    with template.open() as listed, out.open() as written:
        ids = [row["Id"] for row in csv.DictReader(listed)]
        rows = list(csv.DictReader(written))
    assert list(rows[0]) == ["Id", "Category"]
    assert [row["Id"] for row in rows] == ids != sorted(ids)
    assert rows[0] == {"Id": "HW0003NzY=", "Category": "1"}  # the one without sound
    scores = {
        row["clip_id"]: row["predicted"] for row in table(soundnet, "scores/multihead").to_dicts()
    }
    names = ("blowing_out_candles", "dribbling_basketball", "flipping_pancake")
    assert [names[int(row["Category"])] for row in rows[1:]] == [scores[one] for one in ids[1:]]


def test_a_new_recording_is_scored_by_the_heads_of_the_run(
    soundnet: Path, ran: Ran, tmp_path: Path
) -> None:
    write_sound(tmp_path / "new" / "été.mp3", 2, seconds=3.0)
    new = f"{{reader: folder, root: {tmp_path / 'new'}, labels: false, splits: {{test: 1}}}}"
    heads = f"{{multihead: {soundnet / 'heads' / 'multihead'}}}"
    folder = ran(
        "soundnet_multihead",
        f"manifest={new}",
        "systems={}",
        WEIGHTS,
        f"score={{splits: [test], source: media, heads: {heads}}}",
        "report.split=test",
        folder=tmp_path / "run",
    )
    (row,) = table(folder, "scores/multihead").to_dicts()
    assert (row["clip_id"], len(row["scores"])) == ("été.mp3", 3)
    assert not (folder / "embeddings").exists()


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GTZAN with four genres, and the file that is no music."""
    root = tmp_path_factory.mktemp("music") / "gtzan"
    return gtzan(root, genres=FOUR, corrupt="jazz.00054")


def test_the_svm_of_gtzan_is_searched_on_val_and_explained_by_its_columns(
    ran: Ran, music: Path
) -> None:
    folder = ran(
        "gtzan_svm",
        f"manifest.root={music}",
        "embed.max_failed_share=0.1",
        "tune.svm_grid.space={head.name: [linear_svm, rbf_svm], head.c: [1], "
        "head.gamma: {choice: [auto], when: {head.name: rbf_svm}}}",
    )
    assert failed(folder, "embeddings/acoustic") == {"jazz/jazz.00054": "not_media"}
    parts = table(folder, "scores/svm")["split"].value_counts().sort("split")
    assert parts.rows() == [("test", 4), ("val", 4)]
    trials = pl.read_parquet(folder / "tune" / "svm_grid" / "*.parquet")
    assert trials["state"].to_list() == ["finished", "finished"]
    assert {json.loads(one)["head.name"] for one in trials["values"]} == {"linear_svm", "rbf_svm"}
    told("explain", str(folder), "--system", "svm", "--method", "shap", "--worst", "2")
    rows = pl.read_parquet(folder / "explanations" / "svm-shap" / "all.parquet")
    assert "mean of MFCC 1" in rows["columns"][0].to_list()


def test_the_table_of_kaggle_gives_the_same_systems_without_any_sound(
    ran: Ran, music: Path
) -> None:
    clips = [f"{genre}/{genre}.{number:05d}" for genre in FOUR for number in range(4)]
    kaggle_features(music / "features_30_sec.csv", [*clips, "jazz/jazz.00054", "pop/pop.00000"])
    files = f"[{music / 'features_30_sec.csv'}]"
    folder = ran(
        "gtzan_svm_table",
        f"manifest.root={music}",
        *(f"embed.imports.{name}.files={files}" for name in ("columns55", "columns14")),
    )
    for name, width in (("columns55", 55), ("columns14", 14)):
        told_of = header(folder, f"embeddings/{name}")
        assert told_of["settings"]["layers"] == {"embedding": width}
        assert (told_of["rows"], told_of["failures"]) == (17, 0)
    told("explain", str(folder), "--system", "svm14", "--method", "shap", "--best", "1")
    rows = pl.read_parquet(folder / "explanations" / "svm14-shap" / "all.parquet")
    assert rows["columns"][0].to_list()[:2] == ["chroma_stft_mean", "perceptr_var"]


def test_the_cnn_of_gtzan_learns_from_altered_copies_and_says_what_it_hears(
    ran: Ran, music: Path, tmp_path: Path
) -> None:
    folder = ran(
        "gtzan_cnn",
        f"manifest.root={music}",
        "embed.max_failed_share=0.1",
        "embed.augment.variants=1",
        "systems.cnn.train.epochs=2",
    )
    made = table(folder, "embeddings/mel")
    counts = made.group_by("variant").len().sort("variant")
    assert counts.rows() == [(0, 16), (1, 8)]
    assert (len(made["logmel"][0]), len(made["logmel"][0][0])) == (1254, 128)
    for take in range(8):  # as many as a concept needs at least
        write_sound(tmp_path / "concepts" / "high" / f"{take}.wav", len(GENRES) - 1, take=50 + take)
    tcav = ("--method", "tcav", "--class", "jazz", "--concepts", str(tmp_path / "concepts"))
    told("explain", str(folder), "--system", "cnn", *tcav)
    (found,) = pl.read_parquet(folder / "explanations" / "cnn-tcav" / "all.parquet").to_dicts()
    assert (found["concept"], found["class"]) == ("high", "jazz")
    assert 0 <= found["score"] <= 1
    told(
        "explain",
        str(folder),
        "--system",
        "cnn",
        "--method",
        "integrated_gradients",
        "--worst",
        "1",
    )
    index = json.loads(
        (folder / "explanations" / "cnn-integrated_gradients" / "index.json").read_text()
    )
    assert len(index["pictures"]) == 1
    assert "ok: every clip is exactly once" in told("verify", str(folder))


def test_the_vgg16_of_gtzan_learns_from_windows_of_both_lengths(ran: Ran, music: Path) -> None:
    folder = ran(
        "gtzan_vgg16",
        f"manifest.root={music}",
        "embed.max_failed_share=0.1",
        "embed.augment.variants=0",
        *(f"systems.{name}.train.epochs=1" for name in ("short", "long")),
        # Its layers and its parameters are the same whatever the size of the pictures.
        *("systems.short.head.size=96", "systems.long.head.size=32"),
    )
    epochs = json.loads((folder / "heads" / "short" / "epochs.json").read_text())
    assert [epoch["epoch"] for epoch in epochs] == [1]
    for name in ("short", "long"):
        assert len(table(folder, f"scores/{name}")) == 8
