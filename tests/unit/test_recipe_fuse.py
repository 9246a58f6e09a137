"""What a recipe may say about fusing, and what it is told before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioflow.errors import RecipeError
from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe

BASE = """\
run_dir: runs/x
manifest: {reader: folder, root: data}
embed:
  backbones:
    acoustic: {}
    color: {}
    heard: {name: quality}
systems:
  audio: {backbone: acoustic, head: linear}
  video: {backbone: color, head: linear}
score: {}
fuse:
  fused: {systems: [audio, video]}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the recipe with other settings of its fusion."""

    def call(settings: str = "", text: str = BASE) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text.replace("video]}", f"video]{settings}}}"))
        return load_recipe(str(path), (), plugins(), "run")

    return call


def test_a_fusion_is_read_with_its_defaults(load: Load) -> None:
    section = load().fuse["fused"]
    assert (section.rule, section.fit_split, section.calibrate) == ("weighted", "val", "auto")
    assert (section.missing, section.engine, section.quality) == ("fallback", "auto", None)
    assert section.options == {}


@pytest.mark.parametrize(
    "settings",
    [
        ", rule: weighted, on: logits, per_class: true, calibrate: isotonic, missing: drop",
        ", rule: product, prior: even, engine: stream",
        ", rule: stacked, features: tied, C: [0.1, 1], missing: fail",
        ", rule: gated, quality: {table: heard}, on: log_probabilities",
        ", rule: gated, quality: {table: heard, columns: [level_db, coverage]}",
        ", rule: gated, quality: {table: acoustic, columns: ['mean of level (dB)']}",
        ", rule: gated, quality: {table: color, columns: [duration_s]}",
    ],
)
def test_settings_of_rules_are_taken(load: Load, settings: str) -> None:
    assert load(settings).fuse["fused"].systems == ["audio", "video"]


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (", rule: wieghted", "fused.rule: fusion rule 'wieghted' does not exist; allowed: borda, "),
        (
            ", calibrate: temprature",
            "fused.calibrate: 'temprature' is not allowed; allowed: auto, ",
        ),
        (
            ", missing: ignore",
            "fused.missing: 'ignore' is not allowed; allowed: fallback, drop, fa",
        ),
        (", per_clas: true", "fused.per_clas: unknown key, with the value true; allowed: systems"),
        (
            ", weights: {audio: 1, vidoe: 2}",
            "fused.weights: no such system; allowed: audio, video; did you mean 'video'?",
        ),
        (", rule: stacked, C: [0]", "fused.C: 0.0 is no variance; allowed: above 0"),
        (", rule: gated", "fused.quality: is missing; rule 'gated' looks at what is known of the "),
        (", quality: {table: heard}", "fused.quality: has no use with this rule; only gated looks"),
        (
            ", rule: gated, quality: {table: hard}",
            "fused.quality.table: 'hard' is not in embed.backbones; allowed: acoustic, color, hear",
        ),
        (
            ", rule: gated, quality: {table: heard, columns: [levle_db]}",
            "fused.quality.columns: heard has no column 'levle_db'; allowed: coverage, duration_s,",
        ),
        (
            ", rule: gated, quality: {table: color, columns: [level_db]}",
            "fused.quality.columns: color has no column 'level_db'; allowed: coverage, duration_s",
        ),
        (
            ", rule: gated, quality: {table: heard, columns: [level_db, level_db]}",
            "fused.quality.columns: names 'level_db' twice",
        ),
        (", rule: gated, quality: {tabel: heard}", "fused.quality.table: is missing"),
    ],
)
def test_faults_of_a_fusion_are_told_before_anything_starts(
    load: Load, settings: str, told: str
) -> None:
    with pytest.raises(RecipeError) as caught:
        load(settings)
    assert any(f"fuse.{told}" in str(fault) for fault in caught.value.faults), caught.value


def test_what_is_fitted_needs_clips_with_scores(load: Load) -> None:
    text = BASE.replace("score: {}", "score: {splits: [test]}")
    for settings in ("", ", rule: rank", ", rule: max, calibrate: platt"):
        with pytest.raises(RecipeError, match=r"fused.fit_split: 'val' has no scores"):
            load(settings, text)
    for settings in (
        ", rule: max",
        ", rule: product, prior: even",
        ", weights: {audio: 1, video: 1}",
    ):
        assert load(settings, text)


def test_embeddings_are_made_where_a_fusion_looks_at_them(load: Load) -> None:
    text = BASE.replace("score: {}", "score: {source: media, heads: {audio: a, video: b}}")
    start, end = text.index("systems:\n"), text.index("score:")
    text = text[:start] + text[end:]
    assert "embed" not in load("", text).sections
    assert "embed" in load(", rule: gated, quality: {table: heard}", text).sections
