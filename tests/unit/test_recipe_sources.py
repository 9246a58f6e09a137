"""What a recipe may say of further data sets and of imported tables, and how faults are told."""

from collections.abc import Callable
from pathlib import Path

import pytest

from audioflow.datasets import READERS
from audioflow.doctor.reach import places_of
from audioflow.errors import RecipeError
from audioflow.planning_cli import PlanCommand, run_plan
from audioflow.plugins import plugins
from audioflow.recipe import Recipe
from audioflow.recipe_file import load_recipe

BASE = """\
run_dir: runs/x
manifest:
  reader: npz
  files: {train: a.npz, test: b.npz}
  splits: {train: 0.6, val: 0.2, test: 0.2}
  extra:
    street: {reader: folder, root: data/street, classes: {drop: [cat]}, rename: {bark: dog}}
    noise: {reader: noise, root: data/noise, label: other, count: 9, limit: 3, new_classes: true}
embed:
  backbones:
    acoustic: {}
  imports:
    tags: {name: npz, files: [a.npz, b.npz], layer: tags}
    npz: {files: [c.npz]}
systems:
  svm: {backbone: tags, layer: tags, head: linear}
"""

PLUGINS = plugins()


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def call(text: str, job: str = "run") -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_text(text)
        return load_recipe(str(path), [], PLUGINS, job)

    return call


Load = Callable[..., Recipe]


@pytest.fixture
def faults(load: Load) -> Callable[[str, str], list[str]]:
    """The faults of the recipe with one text of it replaced."""

    def call(old: str, new: str) -> list[str]:
        assert BASE.count(old) == 1
        with pytest.raises(RecipeError) as caught:
            load(BASE.replace(old, new))
        return [str(fault) for fault in caught.value.faults]

    return call


def test_further_data_sets_and_imports_are_read_with_their_defaults(load: Load) -> None:
    recipe = load(BASE)
    street, noise = recipe.manifest.extra["street"], recipe.manifest.extra["noise"]
    assert street.options == {"root": "data/street"}
    assert (street.split, street.limit, street.new_classes) == ("train", None, False)
    assert street.classes is not None
    assert [street.classes.takes(name) for name in ("cat", "dog")] == [False, True]
    assert noise.options == {"root": "data/noise", "label": "other", "count": 9}
    assert recipe.manifest.options == {"files": {"train": "a.npz", "test": "b.npz"}}
    assert recipe.embed is not None
    assert recipe.embed.tables == ("acoustic", "tags", "npz")
    assert recipe.embed.imports["tags"].options == {"files": ["a.npz", "b.npz"], "layer": "tags"}
    assert recipe.embed.imports["npz"].name is None


def test_imports_alone_are_a_section_that_embeds(load: Load) -> None:
    recipe = load(BASE.replace("  backbones:\n    acoustic: {}\n", ""))
    assert recipe.sections == ("manifest", "embed", "train")
    assert recipe.embed is not None
    assert recipe.embed.backbones == {}


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "acoustic: {}",
            "tags: {name: acoustic}",
            "r.yaml:13: embed.imports.tags: stands in embed.backbones, too; give it another name",
        ),
        (
            "    npz: {files: [c.npz]}",
            "    npy: {files: [c.npz]}",
            "r.yaml:14: embed.imports.npy: importer 'npy' does not exist; allowed: hf_dataset, "
            "mel_npy, npz, number_table, soundnet_csv; did you mean 'npz'?",
        ),
        (
            "name: npz, files: [a.npz, b.npz]",
            "name: npz, files: []",
            "r.yaml:13: embed.imports.tags.files: [] is too short; allowed: 1 entry or more",
        ),
        (
            "layer: tags}\n    npz",
            "layre: tags}\n    npz",
            "r.yaml:13: embed.imports.tags.layre: unknown key, with the value 'tags'; "
            "allowed: name, key, files, layer, hop_s; did you mean 'layer'",
        ),
        (
            "b.npz], layer",
            "b.npz], hop_s: 0, layer",
            "r.yaml:13: embed.imports.tags.hop_s: 0 is out of range; allowed: more than 0",
        ),
        (
            "    npz: {files",
            "    a/b: {name: npz, files",
            "r.yaml:12: embed.imports: 'a/b' cannot be a name; allowed",
        ),
        (
            "backbone: tags, layer: tags",
            "backbone: tag",
            "r.yaml:16: systems.svm.backbone: 'tag' is not in embed.backbones or "
            "embed.imports; allowed: acoustic, tags, npz; did you mean 'tags",
        ),
        (
            "backbone: tags, layer: tags",
            "backbone: npz, layer: tags",
            "r.yaml:16: systems.svm.layer: 'tags' is not a layer of npz; allowed: embedding",
        ),
        (
            "reader: folder",
            "reader: fodler",
            "r.yaml:7: manifest.extra.street.reader: reader 'fodler' does not exist; "
            f"allowed: {', '.join(READERS.names())}; did you mean 'folder'?",
        ),
        (
            "reader: folder",
            "raeder: folder",
            "r.yaml:7: manifest.extra.street.reader: is missing, unless 'raeder' is meant to be it",
        ),
        (
            "root: data/street, ",
            "",
            "r.yaml:7: manifest.extra.street.root: is missing; allowed: a",
        ),
        (
            "root: data/street, ",
            "root: data/street, limt: 3, ",
            "r.yaml:7: manifest.extra.street.limt: unknown key, with the value 3; allowed: "
            "reader, classes, rename, one_label, new_classes, limit",
        ),
        (
            "limit: 3",
            "limit: 0",
            "r.yaml:8: manifest.extra.noise.limit: 0 is out of range; allowed: 1 or more",
        ),
        (
            "limit: 3",
            "split: tset",
            "r.yaml:8: manifest.extra.noise.split: 'tset' is not allowed; allowed: train, "
            "val, test; did you mean 'test'?",
        ),
        (
            "{drop: [cat]}",
            "{}",
            "r.yaml:7: manifest.extra.street.classes: says neither keep nor drop; allowed: "
            "one of them, a list of classes",
        ),
        (
            "{drop: [cat]}",
            "{drop: [cat], keep: [dog]}",
            "r.yaml:7: manifest.extra.street.classes: says both keep and drop",
        ),
        (
            "{drop: [cat]}",
            "{dorp: [cat]}",
            "r.yaml:7: manifest.extra.street.classes.dorp: unknown key, with the value "
            "['cat']; allowed: keep, drop; did you mean 'drop'?",
        ),
        (
            "    street:",
            "    main:",
            "r.yaml:6: manifest.extra: 'main' is the name of the section's own data set; "
            "choose another",
        ),
        (
            "    street:",
            "    a b:",
            "r.yaml:6: manifest.extra: 'a b' cannot be a name; allowed: at",
        ),
        (
            "{train: a.npz, test: b.npz}",
            "[a.npz, 3]",
            "r.yaml:4: manifest.files: 3 is no file; allowed: a path or url",
        ),
    ],
)
def test_a_fault_is_told_where_it_stands_with_what_is_allowed(
    faults: Callable[[str, str], list[str]], old: str, new: str, told: str
) -> None:
    (fault,) = faults(old, new)
    assert fault.startswith(told)


def test_a_section_that_makes_no_table_is_refused(load: Load) -> None:
    for embed in ("embed: {}", "embed: {backbones: {}}", "embed: {imports: {}, backbones: {}}"):
        with pytest.raises(
            RecipeError, match="embed: makes no table; give it an entry in backbone"
        ):
            load(f"run_dir: x\nmanifest: {{reader: folder, root: d}}\n{embed}\n")


def test_with_folds_further_data_sets_can_only_be_learnt_from(
    load: Load, faults: Callable[[str, str], list[str]]
) -> None:
    shares = "{train: 0.6, val: 0.2, test: 0.2}"
    assert load(BASE.replace(shares, "{folds: 5}")).manifest.splits.folds == 5
    text = BASE.replace("limit: 3", "split: test")
    assert load(text).manifest.extra["noise"].split == "test"
    with pytest.raises(RecipeError) as caught:
        load(text.replace(shares, "{folds: 5}"))
    assert [str(fault) for fault in caught.value.faults] == [
        "r.yaml:8: manifest.extra.noise.split: cannot stand beside manifest.splits.folds: further "
        "data sets are only learnt from; allowed: train"
    ]


def test_a_split_that_only_a_further_data_set_fills_is_a_split(load: Load) -> None:
    text = BASE.replace("{train: 0.6, val: 0.2, test: 0.2}", "{val: 0.5, test: 0.5}")
    assert load(text).manifest.splits.filled == ("val", "test")
    text = BASE.replace("{train: 0.6, val: 0.2, test: 0.2}", "{train: 0.8, val: 0.2}")
    text = text.replace("limit: 3", "split: test") + "score: {splits: [test]}\nreport: {}\n"
    assert load(text).report is not None


def test_the_doctor_looks_at_the_files_of_every_data_set_and_import(load: Load) -> None:
    here = str(Path.cwd())
    assert [(place.key, place.url.removeprefix(here)) for place in places_of(load(BASE))] == [
        ("run_dir", "/runs/x"),
        ("manifest.files.train", "/a.npz"),
        ("manifest.files.test", "/b.npz"),
        ("manifest.extra.street.root", "/data/street"),
        ("manifest.extra.noise.root", "/data/noise"),
        ("embed.imports.tags.files.0", "/a.npz"),
        ("embed.imports.tags.files.1", "/b.npz"),
        ("embed.imports.npz.files.0", "/c.npz"),
    ]


def test_there_is_nothing_to_plan_where_all_is_imported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(BASE.replace("  backbones:\n    acoustic: {}\n", ""))
    for as_json in (False, True):
        assert run_plan(PlanCommand(str(path), as_json=as_json), lambda done, total: None) == 0
        told = capsys.readouterr().out
        assert "embed only imports tags, npz: no media is read, there is nothing to plan" in told
