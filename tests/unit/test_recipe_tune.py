"""The sections `tune` and `tracking`: what is read, and what is refused before anything starts."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioflow.cli import plugins
from audioflow.errors import RecipeError
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe

PLUGINS = plugins()

BASE = """\
run_dir: runs/x
manifest: {reader: folder, root: data}
embed: {backbones: {acoustic: {}, soundnet: {weights: random, layers: [pool5, conv6]}}}
systems:
  audio: {backbone: acoustic, head: {name: mlp, hidden: [8]}, train: {epochs: 5}}
  deep: {backbone: soundnet, head: linear}
tune:
  tuned: SEARCH
score: {}
fuse: {fused: {systems: [tuned, deep]}}
"""

Load = Callable[..., Recipe]
Faults = Callable[[str], list[str]]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads the recipe above with this search in it."""

    def call(search: str, *overrides: str, job: str = "run", text: str = BASE) -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text.replace("SEARCH", search))
        return load_recipe(str(path), overrides, PLUGINS, job)

    return call


@pytest.fixture
def faults(load: Load) -> Faults:
    """What is wrong with this search, as it is told; without the place."""

    def call(search: str) -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(search)
        told = [str(fault) for fault in caught.value.faults]
        assert all(text.startswith("r.yaml:8: tune.tuned") for text in told)
        return [text.removeprefix("r.yaml:8: tune.tuned").removeprefix(".") for text in told]

    return call


# What is read


def test_a_search_is_read_with_its_defaults(load: Load) -> None:
    recipe = load("{system: audio, space: {train.lr: {loguniform: [1.0e-4, 0.1]}}}")
    assert recipe.sections == ("manifest", "embed", "train", "tune", "score", "fuse")
    search = recipe.tune["tuned"]
    assert (search.search, search.trials, search.seed, search.stacked) == ("random", 40, 0, "auto")
    assert (search.stop_early, search.inner_folds, search.max_concurrent) == (False, None, None)
    assert recipe.trained == recipe.systems | {"tuned": recipe.systems["audio"]}


@pytest.mark.parametrize(
    "space",
    [
        "{train.lr: [0, 0.1], train.weight_decay: {uniform: [0, 1]}}",
        "{pooling: [mean, max], train.unit: [clip]}",
        "{pooling.name: [mean, max, vote], train.unit: {choice: [patch]}}",
        "{head.name: [mlp, linear], head.dropout: {uniform: [0, 0.5], when: {head.name: mlp}}}",
        "{head.name: [mlp, knn], head.k: {int: [1, 9], step: 2, when: {head.name: knn}}}",
        "{train.schedule.name: [constant, cosine]}",
    ],
)
def test_settings_of_the_system_can_be_varied(load: Load, space: str) -> None:
    assert load(f"{{system: audio, space: {space}}}").tune["tuned"].space


def test_layers_can_be_varied(load: Load) -> None:
    assert load("{system: deep, space: {layer: [pool5, conv6]}}").tune


def test_who_is_told_of_training_is_read(load: Load) -> None:
    search = "{system: audio, space: {train.lr: [0.1]}}"
    assert list(load(search).tracking.loggers) == ["tensorboard"]
    tracking = load(search, "tracking={loggers: [mlflow], project: birds}").tracking
    assert (list(tracking.loggers), tracking.project) == (["mlflow"], "birds")
    with pytest.raises(RecipeError, match=r"tracking\.loggers.*'mlfow'.*allowed: tensorboard, mlf"):
        load(search, "tracking.loggers=[mlfow]")


# References


def test_a_search_needs_a_system_that_there_is(faults: Faults) -> None:
    assert faults("{system: audoi, space: {train.lr: [0.1]}}") == [
        "system: 'audoi' is not in systems; allowed: audio, deep; did you mean 'audio'?"
    ]


@pytest.mark.parametrize("section", ["systems", "fuse"])
def test_a_name_is_given_once(load: Load, section: str) -> None:
    text = BASE.replace("  tuned: SEARCH", "  deep: SEARCH")
    text = text.replace("[tuned, deep]", "[audio, deep]")
    if section == "fuse":
        text = text.replace("  deep: SEARCH", "  fused: SEARCH")
    told = {
        "systems": r"tune\.deep: there is a system 'deep' already; give the tuned one another name",
        "fuse": r"fuse\.fused: there is a system 'fused' already; give the fused one another name",
    }
    with pytest.raises(RecipeError, match=told[section]):
        load("{system: audio, space: {train.lr: [0.1]}}", text=text)


def test_a_tuned_system_can_be_fused_and_another_name_cannot(load: Load) -> None:
    search = "{system: audio, space: {train.lr: [0.1]}}"
    assert load(search).fuse["fused"].systems == ["tuned", "deep"]
    told = (
        r"'tund' is not a system above this one; allowed: audio, deep, tuned; did you mean 'tuned"
    )
    with pytest.raises(RecipeError, match=told):
        load(search, "fuse.fused.systems=[tund, deep]")


def test_a_name_that_is_no_folder_is_refused(load: Load) -> None:
    text = BASE.replace("  tuned: SEARCH", "  ../x: SEARCH").replace(
        "[tuned, deep]", "[audio, deep]"
    )
    with pytest.raises(RecipeError, match=r"tune: '\.\./x' cannot be a name"):
        load("{system: audio, space: {train.lr: [0.1]}}", text=text)


@pytest.mark.parametrize("text", [BASE.replace("  tuned: SEARCH", "  {}"), BASE])
def test_the_job_needs_its_section(load: Load, text: str) -> None:
    text = text.replace("[tuned, deep]", "[audio, deep]")
    if "SEARCH" in text:
        text = text.replace("tune:\n  tuned: SEARCH\n", "")
    with pytest.raises(RecipeError, match=r"tune: is missing; the job tune needs this section"):
        load("", text=text, job="tune")
    assert "tune" not in load("", text=text).sections


@pytest.mark.parametrize("head", ["linear", "knn"])
def test_a_search_needs_clips_to_be_judged_on(load: Load, head: str) -> None:
    search = "{system: audio, space: {train.temperature: [1.0]}}"
    overrides = (
        "manifest.splits={train: 0.8, test: 0.2}",
        f"systems.audio={{backbone: acoustic, head: {head}}}",
        "systems.deep.train.select=last",
        "fuse.fused.fit_split=train",
        "score.splits=[train, test]",
    )
    with pytest.raises(
        RecipeError, match=r"manifest\.splits: gives no clips to 'val', and heads n"
    ):
        load(search, *overrides)


# The space


@pytest.mark.parametrize(
    ("space", "told"),
    [
        ("{}", "space: {} is too short; allowed: 1 entry or more"),
        ("[train.lr]", "space: ['train.lr'] is a list; allowed: a mapping"),
        ("{train.lr: 0.1}", "space.train.lr: 0.1 is no list of values; allowed: a list, or a map"),
        ("{train.lr: {loguniform: [0, 1]}}", "space.train.lr.loguniform: its low end 0 has no log"),
        (
            "{train.lr: {logunifrom: [0.1, 1]}}",
            "space.train.lr.logunifrom: unknown kind, with the value [0.1, 1]; allowed: choice, "
            "uniform, loguniform, int; did you mean 'loguniform'?",
        ),
        (
            "{head.dropout: {choice: [0], when: {head.nme: mlp}}, head.name: [mlp]}",
            "space.head.dropout.when.head.nme: 'head.nme' is not in the space; allowed: head.name",
        ),
        (
            "{backbone: [soundnet]}",
            "space.backbone: 'backbone' is not a setting of a system that can be varied; "
            "allowed: head.*, pooling.*, train.*, layer, layers",
        ),
        (
            "{head.hiden: [[8], [16]]}",
            "space.head.hiden: unknown key, with the value [16]; allowed: name, hidden, dropout",
        ),
        (
            "{head.name: [mlp, lienar]}",
            "space.head.name: head 'lienar' does not exist; allowed: attention, ",
        ),
        (
            "{head: [linear, {name: mlp}]}",
            "space.head.1: {name: 'mlp'} cannot be a value; allowed: finite numbers, texts, true",
        ),
        ("{pooling: [mean, men]}", "space.pooling: pooling 'men' does not exist; allowed: "),
        ("{train.epoch: [3]}", "space.train.epoch: unknown key, with the value 3; allowed: unit"),
        ("{train.lr: {uniform: [-1, -0.5]}}", "space.train.lr: -0."),
        ("{train.epochs: {uniform: [1, 9]}}", "space.train.epochs: "),
        (
            "{head.hidden.size: [8, 16]}",
            "space.head.hidden.size: cannot be set: head.hidden is [8], no mapping",
        ),
        ("{layer: [poll]}", "space.layer: 'poll' is not a layer of acoustic; allowed: embedding"),
    ],
)
def test_a_space_that_cannot_be_is_refused(faults: Faults, space: str, told: str) -> None:
    (fault,) = faults(f"{{system: audio, space: {space}}}")
    assert fault.startswith(told)


def test_a_layer_that_the_table_does_not_have_is_refused(faults: Faults) -> None:
    assert faults("{system: deep, space: {layer: [pool5, conv7]}}") == [
        "space.layer: 'conv7' is not a layer of soundnet; allowed: pool5, conv6; did you mean "
        "'conv6'?"
    ]
    assert faults(
        "{system: deep, space: {layers: [[pool5, conv7]], head.name: {choice: [multi_layer]}}}"
    ) == [
        "space.layers: 'conv7' is not a layer of soundnet; allowed: pool5, conv6; did you mean "
        "'conv6'?"
    ]


def test_trials_whose_parts_do_not_fit_are_refused_before_the_first_starts(faults: Faults) -> None:
    assert faults("{system: audio, space: {pooling: [mean, vote]}}") == [
        "space.train.unit: 'clip' cannot be learned through votes; allowed: patch"
    ]
    assert faults("{system: audio, space: {head.name: [mlp, attention], pooling: [max]}}") == [
        "space.pooling: 'max' is given, but the head attention pools by itself; allowed: no pooling"
    ]
    assert faults(
        "{system: audio, space: {head.name: [knn], train.class_weights: [balanced]}}"
    ) == [
        "space.train.class_weights: 'balanced' has no use with the head knn, which cannot weigh "
        "vectors; allowed: none"
    ]
    assert faults("{system: audio, space: {train.patience: [3], train.select: [last]}}") == [
        "space.train: patience (3) has no use with select: last, which ends after all epochs; "
        "leave it out, or select something on val"
    ]


def test_every_fault_of_the_trials_is_told_once(faults: Faults) -> None:
    found = faults("{system: audio, space: {head.hiden: [1, 2, 3], train.lrr: [4, 5]}}")
    assert [text.partition(":")[0] for text in found] == ["space.train.lrr", "space.head.hiden"]


def test_a_grid_needs_values_that_can_be_counted(faults: Faults, load: Load) -> None:
    grid = "{system: audio, search: grid, space: {train.lr: {loguniform: [0.01, 0.1]STEPS}}}"
    assert faults(grid.replace("STEPS", "")) == [
        "space.train.lr: has endlessly many values, and a grid takes every one; allowed: steps: 5 "
        "beside it for 5 values, or a choice"
    ]
    assert load(grid.replace("STEPS", ", steps: 3")).tune
    assert load(grid.replace("STEPS", "").replace("grid", "random")).tune
    assert faults(
        "{system: audio, search: grid, space: {train.epochs: {int: [1, 64], log: true}}}"
    ) == [
        "space.train.epochs.log: has log: true, and a grid takes every whole number alike; "
        "allowed: a choice of numbers, or int without log"
    ]


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ("trials: 0", "trials: 0 is out of range; allowed: 1 "),
        ("search: optna", "search: 'optna' is not allowed; allowed: random, optuna, grid; did you"),
        ("stop_factor: 1", "stop_factor: 1 is out of range; allowed: 2 or more"),
        ("inner_folds: 0", "inner_folds: 0 is out of range; allowed: 1 or more"),
        ("trails: 5", "trails: unknown key, with the value 5; allowed: system, space, search, tr"),
    ],
)
def test_settings_of_the_search_have_their_ranges(faults: Faults, more: str, told: str) -> None:
    (fault,) = faults(f"{{system: audio, {more}, space: {{train.lr: [0.1]}}}}")
    assert fault.startswith(told)


def test_a_system_that_is_wrong_itself_is_told_alone(load: Load) -> None:
    search = "{system: audio, space: {train.lr: [0.1], pooling: [men]}}"
    with pytest.raises(RecipeError) as caught:
        load(search, "systems.audio.head.hiden=3")
    assert [fault.key for fault in caught.value.faults] == ["systems.audio.head.hiden"]
