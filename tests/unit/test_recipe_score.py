"""What a recipe says about scoring, checked before anything starts."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml

from audioflow.cli import plugins
from audioflow.errors import RecipeError
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe
from audioflow.scores import clips_to_score

MANIFEST = {"reader": "folder", "root": "d"}
EMBED = {"backbones": {"acoustic": {}}}
AUGMENT = {"variants": 1, "gain": {}}
SYSTEMS = {"audio": {"backbone": "acoustic", "head": "linear"}}


def loaded(tmp_path: Path, job: str = "run", **sections: Any) -> Recipe:
    path = tmp_path / "r.yaml"
    path.write_text(yaml.safe_dump({"run_dir": "x", "manifest": MANIFEST} | sections))
    return load_recipe(str(path), [], plugins(), job)


def test_new_files_are_scored_by_heads_of_elsewhere_alone(tmp_path: Path) -> None:
    score = {"splits": ["test"], "heads": {"audio": "runs/demo/heads/audio"}}
    recipe = loaded(tmp_path, embed=EMBED, score=score)
    assert recipe.sections == ("manifest", "embed", "score")
    assert recipe.scored == ("audio",)
    assert recipe.trained == {}
    from_media = loaded(tmp_path, embed=EMBED, score=score | {"source": "media"})
    assert from_media.sections == ("manifest", "score"), "embeddings are of no use there"
    fused = {"both": {"systems": ["audio", "video"], "rule": "product"}}
    heads = {"audio": "a", "video": "s3://bucket/heads/video"}
    recipe = loaded(tmp_path, embed=EMBED, score={"heads": heads}, fuse=fused)
    assert recipe.sections == ("manifest", "embed", "score", "fuse")


def test_embeddings_are_made_where_heads_learn_from_them(tmp_path: Path) -> None:
    recipe = loaded(tmp_path, embed=EMBED, systems=SYSTEMS, score={"source": "media"})
    assert recipe.sections == ("manifest", "embed", "train", "score")


@pytest.mark.parametrize(
    ("sections", "told"),
    [
        ({"score": {"heads": {"a": "b"}}}, "embed: is missing; the job score needs this section"),
        (
            {"score": {"splits": ["test"]}, "embed": EMBED},
            "systems: is missing; the job score needs this section",
        ),
        (
            {"score": {"heads": {"audio": "b"}}, "embed": EMBED, "systems": SYSTEMS},
            "score.heads.audio: there is a system 'audio' already; give this one another name",
        ),
        ({"score": {"heads": {"a/b": "c"}}, "embed": EMBED}, "'a/b' cannot be a name"),
        ({"score": {"heads": {"a": ""}}, "embed": EMBED}, "'a' has no folder; give that of the"),
        (
            {"score": {"heads": {"a": "b"}, "variants": "mean"}, "embed": EMBED},
            "score.variants: 'mean' has nothing to average: embed.augment makes no variants",
        ),
        (
            {
                "score": {"heads": {"a": "b"}, "variants": "mean"},
                "embed": EMBED | {"augment": AUGMENT},
            },
            "score.variants: 'mean' has nothing to average: no clip of val, test has variants",
        ),
        ({"score": {"source": "medai"}}, "score.source: 'medai'"),
        (
            {
                "score": {"source": "media"},
                "embed": {"imports": {"npz": {"files": ["a.npz"], "layer": "x"}}},
                "systems": {"audio": {"backbone": "npz", "head": "linear"}},
            },
            "score.source: media cannot be scored by 'audio': its vectors are imported (npz)",
        ),
    ],
)
def test_what_cannot_be_scored_is_told(tmp_path: Path, sections: dict, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        loaded(tmp_path, **sections)
    assert told in str(error.value)


@pytest.mark.parametrize(
    ("augment", "manifest"),
    [(AUGMENT | {"splits": ["val"]}, MANIFEST), (AUGMENT, MANIFEST | {"splits": {"folds": 3}})],
)
def test_a_mean_needs_variants_of_some_clips(tmp_path: Path, augment: dict, manifest: dict) -> None:
    score = {"heads": {"a": "b"}, "variants": "mean"}
    embed = EMBED | {"augment": augment}
    assert loaded(tmp_path, embed=embed, score=score, manifest=manifest).score is not None


@pytest.mark.parametrize(
    ("splits", "wanted", "scored"),
    [
        (["cv", "cv", "train"], ["val"], {"a": "test", "b": "test"}),
        (["cv", "test", "cv"], ["test"], {"b": "test"}),
        (["cv", "test", "cv"], ["val", "test"], {"a": "val", "b": "test", "c": "val"}),
        (["train", "val", "test"], ["test"], {"c": "test"}),
    ],
)
def test_clips_in_folds_are_scored_as_what_they_stand_for(
    splits: list[str], wanted: list[str], scored: dict[str, str]
) -> None:
    from audioflow.division import CROSS_VALIDATED

    told = [CROSS_VALIDATED if split == "cv" else split for split in splits]
    manifest = pa.table({"clip_id": ["a", "b", "c"], "split": told})
    rows = clips_to_score(manifest, wanted).to_pydict()
    assert dict(zip(rows["clip_id"], rows["split"], strict=True)) == scored
