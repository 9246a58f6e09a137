"""The recipes of Kinetics-600, of the dogs and of transfer learning, as their users run them.

On small trees of the publishers' layouts, with real media and the real networks at random weights.

Shapes: N clips, C classes.
"""

import json
import re
from collections.abc import Callable, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from ruamel.yaml import YAML
from scipy.special import log_softmax, softmax

from audioflow.datasets.sources import read_manifest
from audioflow.plugins import plugins
from audioflow.recipe_file import load_recipe
from audioflow.storage import Folder
from tests.conftest import ROOT
from tests.e2e.recipes import header, run_recipe, table, told
from tests.published import gtzan
from tests.published_dogs import NEW, audioset_events, audioset_list, dogs, new_clips
from tests.published_videos import ACTIONS, Kinetics, kinetics

BACKBONES = ("vggish", "openl3", "musicnn")
HEADS = ("linear_svm", "rbf_svm", "knn", "sgd", "mlp")
Run = Callable[..., Path]


@pytest.fixture(scope="module")
def run(ray_session: None, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Runs a recipe of the project with overrides, proves its tables, and gives its folder."""

    def run(recipe: str, *overrides: str, jobs: Sequence[str] = ("run",)) -> Path:
        return run_recipe(recipe, tmp_path_factory.mktemp(recipe), *overrides, jobs=jobs)

    return run


def systems_of(folder: Path) -> dict[str, dict[str, Any]]:
    """What the report says of every system."""
    report = json.loads((folder / "report" / "report.json").read_text())
    assert "</html>" in (folder / "report" / "index.html").read_text()
    return {system["name"]: system for system in report["systems"]}


def in_comment(recipe: str, begin: str) -> dict[str, Any]:
    """The YAML in the comments of a recipe that begins with this key."""
    lines = (ROOT / "configs" / f"{recipe}.yaml").read_text().splitlines()
    lines = [line.strip() for line in lines]
    found = lines[lines.index(f"# {begin}:") :]
    block = "".join(f"{line[2:]}\n" for line in takewhile(_is_yaml, found))
    return YAML(typ="safe").load(block)


def _is_yaml(line: str) -> bool:
    return re.match(r"# (\w+:|  )", line) is not None


# Kinetics-600


@pytest.fixture(scope="module")
def k600(tmp_path_factory: pytest.TempPathFactory) -> Kinetics:
    return kinetics(tmp_path_factory.mktemp("k600"), seconds=1.2)


@pytest.fixture(scope="module")
def heard(run: Run, k600: Kinetics) -> Path:
    few = ["manifest.splits.val=0.34", "systems.audio.train.epochs=1"]
    return run("kinetics600_audio", f"manifest.root={k600.root}", *few)


def test_kinetics_by_sound_tells_top_1_and_top_5_and_which_videos_have_no_sound(
    heard: Path, k600: Kinetics
) -> None:
    told = systems_of(heard)["audio"]
    assert told["classes"] == sorted(ACTIONS)
    assert {"accuracy", "top_5"} <= set(told["metrics"])
    assert told["num_clips"] == 4 * len(ACTIONS) - len(k600.silent)
    failed = pl.read_parquet(heard / "embeddings" / "mel" / "failures" / "*.parquet")
    assert set(failed["error"]) == {"no_audio"}
    assert {Path(name).stem for name in failed["clip_id"]} == set(k600.silent)
    head = json.loads((heard / "heads" / "audio" / "head.json").read_text())
    assert head["head"]["name"] == "resnet50"
    assert head["pooling"] == {"name": "mean", "on": "logits"}
    assert head["trained_on"]["num_parameters"] == 24_731_160 - 2049 * (600 - len(ACTIONS))
    assert head["trained_on"]["clips"] == {"train": 12, "val": 6}
    splits = table(heard, "manifest").group_by("split").len()
    assert dict(splits.iter_rows()) == {"train": 12, "val": 6, "test": 24}


def test_spectrograms_that_users_have_are_those_that_embed_makes(
    run: Run, heard: Path, tmp_path: Path
) -> None:
    rows = table(heard, "embeddings/mel")
    for clip_id, mel in rows.select("clip_id", "logmel").iter_rows():
        sound = Path(clip_id).with_suffix(".wav")
        folder = tmp_path / sound
        folder.mkdir(parents=True)
        patches_PVM = np.array(mel, np.float32).reshape(-1, 96, 64)
        for number, patch_VM in enumerate(patches_PVM):
            np.save(folder / f"{sound.stem}_{number}.npy", patch_VM.T)
    block = in_comment("kinetics600_audio", "manifest")
    block["manifest"] |= {"root": str(tmp_path)}
    block["manifest"]["splits"] |= {"val": 0.34}
    block["embed"]["imports"]["mel"] |= {"folder": str(tmp_path)}
    overrides = [f"{key}={json.dumps(value)}" for key, value in block.items()]
    given = run("kinetics600_audio", *overrides, jobs=["manifest", "embed"])
    found = {Path(row["clip_id"]).stem: row for row in table(given, "embeddings/mel").to_dicts()}
    assert len(found) == len(rows) == 42 - 2
    for row in rows.to_dicts():
        same = found[Path(row["clip_id"]).stem]
        assert same["spectrogram"] == row["logmel"]
        assert same["patch_start_s"] == pytest.approx(row["patch_start_s"])
    splits = table(given, "manifest").group_by("split").len()
    assert dict(splits.iter_rows()) == {"train": 12, "val": 6, "test": 22}


@pytest.fixture(scope="module")
def fused(run: Run, heard: Path, k600: Kinetics) -> Path:
    video = {"scores": k600.scores, "ids": k600.ids, "classes": k600.classes}
    return run(
        "kinetics600_fusion",
        f"manifest.root={k600.root}/val",
        f"score.heads.audio={heard}/heads/audio",
        *(f"score.imports.video.{key}={path}" for key, path in video.items()),
    )


def of_video(k600: Kinetics) -> dict[str, NDArray[np.float32]]:
    """The logits of the video network by the name of the video."""
    logits_NC = np.load(k600.scores)[:, 0]
    names = [line.rpartition("\\")[2] for line in k600.ids.read_text().splitlines()]
    return {name.removesuffix(".mp4"): row for name, row in zip(names, logits_NC, strict=True)}


def test_the_published_weight_gives_the_published_sum_and_silent_videos_keep_their_scores(
    fused: Path, k600: Kinetics
) -> None:
    logits = of_video(k600)
    sound = dict(table(fused, "scores/audio").select("clip_id", "scores").iter_rows())
    rows = table(fused, "scores/published")
    assert len(rows) == 4 * len(ACTIONS)
    assert len(sound) == len(rows) - len(k600.silent)
    for clip_id, scores, available in rows.select("clip_id", "scores", "available").iter_rows():
        name = Path(clip_id).stem
        mixed = log_softmax(logits[name].astype(float))
        assert (name in k600.silent) == (available == ["video"])
        if name not in k600.silent:
            mixed = 0.332 * np.log(np.maximum(sound[clip_id], 1e-12)) + 0.668 * mixed
        assert scores == pytest.approx(softmax(mixed), abs=1e-5)


def test_the_weight_is_the_best_on_val_and_reported_on_the_other_half(
    fused: Path, k600: Kinetics
) -> None:
    settings = header(fused, "scores/searched")["settings"]
    weight = settings["params"]["weights"]["audio"]
    logits = of_video(k600)
    sound = dict(table(fused, "scores/audio").select("clip_id", "scores").iter_rows())
    clips = table(fused, "manifest").select("clip_id", "labels", "split")
    both = [row for row in clips.iter_rows() if row[0] in sound and row[2] == "val"]
    assert len(both) in (10, 11, 12)
    assert settings["params"]["fit"]["clips"] == len(both)
    assert settings["params"]["fit"]["split"] == "val"
    targets_N = np.array([sorted(ACTIONS).index(labels[0]) for _, labels, _ in both])
    audio_NC = np.log(np.maximum([sound[clip_id] for clip_id, _, _ in both], 1e-12))
    video_NC = log_softmax(np.array([logits[Path(clip_id).stem] for clip_id, _, _ in both]), axis=1)

    def right(a: float) -> float:
        mixed_NC = a * audio_NC + (1 - a) * video_NC
        return float((mixed_NC.argmax(axis=1) == targets_N).mean())

    assert right(weight) >= max(right(a) for a in np.linspace(0, 1, 101)) - 1e-9
    told = systems_of(fused)
    assert set(told) == {"audio", "video", "fused", "searched", "published"}
    tested = clips.filter(pl.col("split") == "test")["clip_id"]
    assert told["fused"]["num_clips"] == len(tested) == 12
    assert told["fused"]["metrics"]["accuracy"]["value"] > 1 / len(ACTIONS)


# Dogs


@pytest.fixture(scope="module")
def kennel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `final`, `AudioSet`, `events` and `public`."""
    root = tmp_path_factory.mktemp("kennel")
    dogs(root / "final")
    audioset_list(root / "AudioSet")
    audioset_events(root / "events")
    new_clips(root / "public")
    return root


ONE_SHIFT = ("embed.augment.variants=1", "embed.augment.offsets_s=[0.4]")


@pytest.fixture(scope="module")
def barked(run: Run, kennel: Path) -> Path:
    noise = {"root": kennel / "noise", "count": 3, "duration_s": 1.4}
    return run(
        "dogs_vggish_attention",
        f"manifest.root={kennel}/final",
        f"manifest.extra.audioset.root={kennel}/AudioSet",
        *(f"manifest.extra.noise.{key}={value}" for key, value in noise.items()),
        *("manifest.splits.folds=3", "systems.dogs.head.weights=random"),
        *("systems.dogs.train.epochs=1", "systems.dogs.train.cpus_per_worker=1", *ONE_SHIFT),
    )


def test_the_dogs_learn_15_kinds_in_folds_with_noise_and_audioset_beside_them(barked: Path) -> None:
    clips = table(barked, "manifest")
    main = clips.filter(pl.col("source") == "main")
    assert len(set(main["fine_labels"].explode())) == 15
    assert len(set(main["labels"].explode())) == 10
    assert set(main["split"]) == {"cv"}
    more = clips.filter(pl.col("source") != "main")
    assert sorted(more["labels"].explode()) == ["Bird", "Other", "Other", "Other", "Other"]
    assert set(more["split"]) == {"train"}
    assert more["fold"].null_count() == 5
    variants = table(barked, "embeddings/mel").group_by("clip_id").agg(pl.col("variant").sort())
    assert len(variants) == 50
    assert {tuple(each) for each in variants["variant"]} == {(0, 1)}
    heads = sorted((barked / "heads" / "dogs").glob("fold-*/head.json"))
    assert len(heads) == 3
    for path in heads:
        head = json.loads(path.read_text())
        assert len(head["head_classes"]) == 15
        assert sorted(kind for kind, name in head["merge"].items() if name == "Other") == [
            *("Blender", "Cat", "Dishes", "Electrics", "Other", "Vacuum")
        ]
        assert head["temperature"] > 0
        assert head["trained_on"]["clips"]["train"] == 2 * (15 + 5)
        assert head["trained_on"]["clips"]["val"] == 15
        assert "val_weighted_auc" in head["trained_on"]["metrics"]


def test_the_dogs_are_scored_out_of_fold_by_the_mean_of_their_shifts(barked: Path) -> None:
    rows = table(barked, "scores/dogs")
    assert len(rows) == 45
    scores_NC = np.array(rows["scores"].to_list())
    assert scores_NC.shape == (45, 10)
    assert scores_NC.sum(axis=1) == pytest.approx(np.ones(45), abs=1e-5)
    assert header(barked, "scores/dogs")["settings"]["variants"] == "mean"
    told = systems_of(barked)["dogs"]
    assert told["num_clips"] == 45
    assert 0 < told["details"]["roc_auc_weighted"]["value"] <= 1


def test_audioset_can_be_mixed_in_from_its_own_lists(kennel: Path) -> None:
    block = in_comment("dogs_vggish_attention", "audioset")["audioset"]
    events = kennel / "events"
    block |= {"root": f"{events}/raw", "annotations": f"{events}/audioset_train_strong.tsv"}
    block["names"] = f"{events}/mid_to_display_name.tsv"
    there = {"Vacuum cleaner", "Laughter", "Screaming", "Bird", "Smoke detector, smoke alarm"}
    assert there < set(block["classes"]["keep"])
    assert set(block["rename"]) | {"Doorbell", "Bird", "Cat"} == set(block["classes"]["keep"])
    block["classes"] = {"keep": sorted(there)}
    block["rename"] = {old: new for old, new in block["rename"].items() if old in there}
    overrides = [
        f"manifest.root={kennel}/final",
        f"manifest.extra={json.dumps({'audioset': block})}",
        "manifest.splits.folds=3",
    ]
    path = str(ROOT / "configs" / "dogs_vggish_attention.yaml")
    recipe = load_recipe(path, overrides, plugins(), "manifest")
    clips = pl.from_arrow(read_manifest(recipe.manifest, Folder, Folder).manifest)
    more = clips.filter(pl.col("source") == "audioset")
    # The event of two classes is left out, the one that is too long is cut in its middle.
    assert dict(more.select("clip_id", "fine_labels").iter_rows()) == {
        "audioset/-_aBCDEFGHI_30000@2+5": ["Vacuum"],
        "audioset/_0bCDEFGHIJ_0@1+1": ["Laugh_Shout_Scream"],
        "audioset/_0bCDEFGHIJ_0@6+1.5": ["Bird"],
    }


def test_new_clips_become_a_submission_in_the_order_of_its_template(
    run: Run, barked: Path, kennel: Path, tmp_path: Path
) -> None:
    scored = run(
        "dogs_submission",
        f"manifest.root={kennel}/public/clips",
        f"score.heads.dogs={barked}/heads/dogs",
        *ONE_SHIFT,
    )
    template, out = kennel / "public" / "sample_submission.csv", tmp_path / "submission.csv"
    command = (ROOT / "configs" / "dogs_submission.yaml").read_text()
    assert "--rename CO_Smoke=COSmoke" in command
    told(
        *("export", "probabilities", str(scored), "--system", "dogs", "--template", str(template)),
        *("--rename", "CO_Smoke=COSmoke", "--out", str(out)),
    )
    written = pl.read_csv(out)
    assert written.columns == template.read_text().splitlines()[0].split(",")
    assert tuple(written["Filename"]) == NEW
    scores = dict(table(scored, "scores/dogs").select("clip_id", "scores").iter_rows())
    classes = header(scored, "scores/dogs")["classes"]
    smoke = classes.index("CO_Smoke")
    for name, probability in written.select("Filename", "COSmoke").iter_rows():
        assert probability == pytest.approx(scores[f"{name}.wav"][smoke], abs=1e-5)


# GTZAN


@pytest.fixture(scope="module")
def transferred(run: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("gtzan")
    gtzan(root, genres=("blues", "jazz", "rock"), seconds=3.2)
    names = [f"{backbone}_{head}" for backbone in BACKBONES for head in HEADS]
    return run(
        "gtzan_transfer",
        f"manifest.root={root}",
        *(f"embed.backbones.{backbone}.weights=random" for backbone in BACKBONES),
        *(f"systems.{name}.head.pca=4" for name in names),
    )


def test_15_systems_come_from_one_embed_and_vote(transferred: Path) -> None:
    told = systems_of(transferred)
    assert list(told) == [f"{backbone}_{head}" for backbone in BACKBONES for head in HEADS]
    patches = {}
    for backbone, width in zip(BACKBONES, (128, 512, 753), strict=True):
        rows = table(transferred, f"embeddings/{backbone}")
        assert len(rows) == 12
        layer = "max_pool" if backbone == "musicnn" else "embedding"
        schema = pq.read_schema(next((transferred / "embeddings" / backbone).glob("*.parquet")))
        assert schema.field(layer).type.value_type.list_size == width
        patches[backbone] = dict(rows.select("clip_id", pl.col(layer).list.len()).iter_rows())
    assert [max(patches[backbone].values()) for backbone in BACKBONES] == [3, 4, 1]
    for name, system in told.items():
        assert system["num_clips"] == 3
        rows = table(transferred, f"scores/{name}").select("clip_id", "scores")
        for clip_id, scores in rows.iter_rows():
            votes = np.array(scores) * patches[name.partition("_")[0]][clip_id]
            assert votes == pytest.approx(np.round(votes), abs=1e-3), name


def test_the_header_of_a_recipe_says_how_long_it_takes_and_where_to_get_what_it_needs() -> None:
    for name in (
        *("kinetics600_audio", "kinetics600_fusion", "dogs_vggish_attention", "gtzan_transfer"),
    ):
        text = (ROOT / "configs" / f"{name}.yaml").read_text().split("\nrun_dir:")[0]
        assert "Published" in text, name
        assert "\n# Takes, by what was measured" in text, name
        assert f"audioflow run configs/{name}.yaml" in text, name
