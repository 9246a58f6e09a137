"""Recipes: what is read, what is refused, and how the refusal reads."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from audioflow.cli import plugins
from audioflow.datasets import READERS
from audioflow.errors import Fault, RecipeError
from audioflow.recipe import JOBS, Recipe
from audioflow.recipe_file import load_recipe
from audioflow.recipe_splits import SplitsSection
from audioflow.registry import Registry

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = plugins()

BASE = """\
run_dir: runs/x
manifest: {reader: folder, root: data}
embed:
  backbones:
    acoustic: {}
    color: {num_frames: 4}
systems:
  audio: {backbone: acoustic, head: {name: mlp, hidden: [8]}}
  video: {backbone: color, head: linear, train: {epochs: 3}}
score: {}
fuse:
  fused: {systems: [audio, video]}
report: {}
"""

Load = Callable[..., Recipe]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a recipe's text from `r.yaml`."""

    def call(text: str | bytes = BASE, *overrides: str, job: str = "run") -> Recipe:
        path = tmp_path / "r.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return load_recipe(str(path), overrides, PLUGINS, job)

    return call


@pytest.fixture
def faults(load: Load) -> Callable[..., list[str]]:
    """The faults of a recipe that must have some, as they are told."""

    def call(text: str | bytes = BASE, *overrides: str, job: str = "run") -> list[str]:
        with pytest.raises(RecipeError) as caught:
            load(text, *overrides, job=job)
        assert caught.value.exit_code == 2
        told = [str(fault) for fault in caught.value.faults]
        assert all(line in str(caught.value) for line in told)
        return told

    return call


Faults = Callable[..., list[str]]


def changed(old: str, new: str) -> str:
    assert old in BASE
    return BASE.replace(old, new, 1)


# What is read


def test_a_recipe_is_read_with_its_defaults(load: Load) -> None:
    recipe = load()
    assert recipe.sections == tuple(job for job in JOBS if job != "tune")
    assert list(recipe.trained) == ["audio", "video"]
    assert recipe.manifest.options == {"root": "data"}
    assert recipe.manifest.splits.fractions == {"train": 0.6, "val": 0.2, "test": 0.2}
    assert recipe.embed is not None
    assert recipe.embed.backbones["color"].options == {"num_frames": 4}
    assert recipe.systems["audio"].head.options == {"hidden": [8]}
    assert recipe.systems["video"].head.name == "linear"
    assert recipe.systems["video"].pooling is None  # what suits the head
    assert recipe.systems["video"].train.epochs == 3
    assert recipe.fuse["fused"].rule == "weighted"


def test_every_recipe_of_the_project_is_sound() -> None:
    paths = sorted((ROOT / "configs").rglob("*.yaml"))
    assert len(paths) >= 2
    for path in paths:
        assert load_recipe(str(path), [], PLUGINS).run_dir


def test_overrides_replace_and_add_values_read_as_yaml(load: Load) -> None:
    recipe = load(
        BASE,
        "systems.video.train.lr=1e-4",
        "systems.video.train.epochs=5",
        "embed.backbones.acoustic.hop_s=0.25",
        "score.splits=[train, val, test]",
        "manifest.group_by=on",
        "run_dir=s3://bucket/prefix=1",
        'report.title="# 1"',
        "ray.num_cpus=2",
    )
    assert recipe.systems["video"].train.lr == 1e-4
    assert recipe.systems["video"].train.epochs == 5
    assert recipe.embed is not None
    assert recipe.embed.backbones["acoustic"].options == {"hop_s": 0.25}
    assert recipe.score is not None
    assert recipe.score.splits == ["train", "val", "test"]
    assert recipe.manifest.group_by == "on"
    assert recipe.run_dir == "s3://bucket/prefix=1"
    assert recipe.report is not None
    assert recipe.report.title == "# 1"
    assert recipe.ray.num_cpus == 2


def test_the_last_of_two_overrides_counts(load: Load) -> None:
    recipe = load(BASE, "systems.video.train.epochs=5", "systems.video.train.epochs=6")
    assert recipe.systems["video"].train.epochs == 6


def test_an_override_may_fill_a_section_that_is_empty_in_the_file(load: Load) -> None:
    recipe = load(changed("score: {}", "score:"), "score.splits=[val, test]")
    assert recipe.score is not None


@pytest.mark.parametrize(
    ("written", "value"),
    [("1e-3", 0.001), ("1E-3", 0.001), (".5", 0.5), ("1", 1.0), ("0", 0.0), ("0x10", 16.0)],
)
def test_numbers_in_every_spelling_are_numbers(load: Load, written: str, value: float) -> None:
    text = changed("train: {epochs: 3}", f"train: {{lr: {written}}}")
    assert load(text).systems["video"].train.lr == value


@pytest.mark.parametrize("word", ["no", "on", "y", "Off", "2020-01-01", "12:30:45", "1.2.3"])
def test_words_that_other_yaml_turns_into_something_else_stay_texts(load: Load, word: str) -> None:
    assert load(changed("root: data", f"root: {word}")).manifest.options["root"] == word


def test_a_byte_order_mark_and_windows_line_ends_are_read(load: Load) -> None:
    assert load(b"\xef\xbb\xbf" + BASE.replace("\n", "\r\n").encode()).run_dir == "runs/x"


def test_an_anchor_is_a_copy_which_an_override_changes_alone(load: Load) -> None:
    text = BASE.replace("hidden: [8]}}", "hidden: [8]}, train: &t {epochs: 9}}")
    text = text.replace("train: {epochs: 3}", "train: *t")
    recipe = load(text, "systems.video.train.epochs=2")
    assert recipe.systems["audio"].train.epochs == 9
    assert recipe.systems["video"].train.epochs == 2


# What is no YAML, or no recipe


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / "absent.yaml"
    with pytest.raises(RecipeError, match=r"absent\.yaml: 1 fault\n  - \(file\): does not exist"):
        load_recipe(str(path), [], PLUGINS)
    with pytest.raises(RecipeError, match="cannot be read: Is a directory"):
        load_recipe(str(tmp_path), [], PLUGINS)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "(file): is empty; allowed: sections like run_dir"),
        ("# only a comment\n", "(file): is empty"),
        ("- a\n- b\n", "(file): is not a mapping of sections but ['a', 'b']"),
        ("just words", "(file): is not a mapping of sections but 'just words'"),
        (b"\xff\xfea", "(file): cannot be read as UTF-8 text: invalid start byte at byte 0"),
        (
            "run_dir: x\nmanifest:\n\treader: folder\n",
            "r.yaml:3: (file): is not YAML: while scanning for the next token, found character "
            "'\\t' that cannot start any token; indent with spaces, not with tabs",
        ),
        ("run_dir: x\nmanifest: {reader: folder\nscore: {}\n", "r.yaml:3: (file): is not YAML: "),
        ("run_dir: x\n---\nrun_dir: y\n", "r.yaml:2: (file): is not YAML: expected a single docu"),
        ("run_dir: *x\n", "r.yaml:1: (file): is not YAML: found undefined alias 'x'"),
        ("a: b\nc: d\x07\n", "r.yaml:2: (file): is not YAML: the character '\\x07' may not stand"),
        ("run_dir: " + 3000 * "[", "(file): is not YAML: it is nested too deeply"),
    ],
)
def test_what_is_no_recipe_at_all_is_told_with_its_line(
    faults: Faults, text: str | bytes, told: str
) -> None:
    (fault,) = faults(text)
    assert fault.startswith(told)


def test_aliases_that_multiply_without_end_are_refused(faults: Faults) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    for level in range(1, 9):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]")
    (fault,) = faults("\n".join(lines))
    assert "it has more than 100000 values" in fault


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (BASE + "report: {}\n", "r.yaml:14: report: stands twice, first in line 13; keep one"),
        (
            changed("root: data", "root: data, root: other"),
            "r.yaml:2: manifest.root: stands twice, first in line 2; keep one of the two",
        ),
        (BASE + "3: x\n", "r.yaml:14: 3: unknown key, with the value 'x'; allowed: run_dir, ray,"),
        (BASE + "true: x\n", "r.yaml:14: true: unknown key"),
        (BASE + "? [a]\n: b\n", "r.yaml:14: (file): has a list or mapping as a key"),
        (BASE + "<<: {report: {}}\n", "r.yaml:14: <<: unknown key"),
        (
            changed("root: data", "root: !!python/object:os.system x"),
            "r.yaml:2: manifest.root: has the tag !!python/object:os.system; allowed: plain values",
        ),
        (
            changed("root: data", "root: !!binary aGVsbG8="),
            "r.yaml:2: manifest.root: has the tag !!binary",
        ),
        (
            changed("num_frames: 4", "num_frames: !!int four"),
            "r.yaml:6: embed.backbones.color.num_frames: 'four' cannot be read as !!int",
        ),
        (changed("root: data", 'root: "\\uD800"'), "r.yaml:2: manifest.root: '\\ud800' holds half"),
        (
            changed("manifest: {", "manifest: &m {pattern: *m, "),
            "r.yaml:2: manifest.pattern: refers to itself",
        ),
    ],
)
def test_odd_yaml_is_refused_at_its_line(faults: Faults, text: str, told: str) -> None:
    assert faults(text)[0].startswith(told)


# Values


@pytest.mark.parametrize(
    ("train", "told"),
    [
        ("epochs: true", "epochs: true is a truth value; allowed: a whole number"),
        ("epochs: 1.0", "epochs: 1.0 is a number with a point; allowed: a whole number"),
        ("epochs: '1'", "epochs: '1' is a text; allowed: a whole number"),
        ("epochs: ", "epochs: null is no value; allowed: a whole number"),
        ("epochs: [1]", "epochs: [1] is a list; allowed: a whole number"),
        ("epochs: {a: 1}", "epochs: {a: 1} is a mapping; allowed: a whole number"),
        ("epochs: 0", "epochs: 0 is out of range; allowed: 1 to 100000"),
        ("epochs: 1" + 30 * "0", "epochs: 1" + 30 * "0" + " is out of range; allowed: 1 to 100000"),
        ("lr: true", "lr: true is a truth value; allowed: a number"),
        ("lr: .nan", "lr: nan is not finite; allowed: a finite number"),
        ("lr: -.inf", "lr: -inf is not finite; allowed: a finite number"),
        ("lr: -1e-3", "lr: -0.001 is out of range; allowed: 0 or more"),
        ("lr: 1,5e-3", "lr: 1,5e-3"),
        ("label_smoothing: 1", "label_smoothing: 1 is out of range; allowed: 0 or more and less"),
        ("cpus_per_worker: 0", "cpus_per_worker: 0 is out of range; allowed: 0.0001 or more"),
        ("cpus_per_worker: 0.00001", "cpus_per_worker: 1e-05 is out of range; allowed: 0.0001 or"),
        ("gpus_per_worker: -1", "gpus_per_worker: -1 is out of range; allowed: 0 or more"),
        (
            "gpus_per_worker: 1.5",
            "gpus_per_worker: 1.5 is not allowed; allowed: 0, from 0.0001 to 1, or a whole number",
        ),
        (
            "gpus_per_worker: 0.00001",
            "gpus_per_worker: 1e-05 is not allowed; allowed: 0, from 0.00",
        ),
        ("seed: 4294967296", "seed: 4294967296 is out of range; allowed: 0 to 4294967295"),
        (
            "optimizer: Adm",
            "optimizer: 'Adm' is not allowed; allowed: adamw, adam, sgd; did you mean 'adam'?",
        ),
        ("select: 3", "select: 3 is not allowed; allowed: val_"),
    ],
)
def test_a_value_of_a_wrong_kind_or_size_is_told_with_what_is_allowed(
    faults: Faults, train: str, told: str
) -> None:
    if train == "lr: 1,5e-3":  # in a flow mapping the comma begins another key
        train, told = "lr: '1,5e-3'", "lr: '1,5e-3' is a text; allowed: a number"
    (fault,) = faults(changed("epochs: 3", train))
    assert fault.startswith(f"r.yaml:9: systems.video.train.{told}")


@pytest.mark.parametrize("value", ["0", "0.0001", "0.3333", "1", "2.0", "8"])
def test_gpus_are_some_whole_ones_or_a_share_of_one(load: Load, value: str) -> None:
    found = load(changed("epochs: 3", f"gpus_per_worker: {value}"))
    assert found.systems["video"].train.gpus_per_worker == float(value)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "color: {",
            "color: {num_gpus: 1.5, ",
            "r.yaml:6: embed.backbones.color.num_gpus: 1.5 is not allowed; allowed: 0, from 0.0001",
        ),
        (
            "backbones:",
            "decode_cpus: 0.00001\n  backbones:",
            "r.yaml:4: embed.decode_cpus: 1e-05 is out of range; allowed: 0.0001 or more",
        ),
        ("run_dir: runs/x", "run_dir: 3", "r.yaml:1: run_dir: 3 is a whole number; allowed: a tex"),
        ("run_dir: runs/x", "run_dir: ''", "r.yaml:1: run_dir: '' is too short; allowed: 1 charac"),
        ("run_dir: runs/x\n", "", "r.yaml: run_dir: is missing; allowed: a text"),
        ("root: data", "root: 1.5", "r.yaml:2: manifest.root: 1.5 is a number with a point"),
        ("root: data", "root: ", "r.yaml:2: manifest.root: null is no value; allowed: a text"),
        (", root: data", "", "r.yaml:2: manifest.root: is missing; allowed: a text"),
        (
            "reader: folder",
            "raeder: folder",
            "r.yaml:2: manifest.reader: is missing, unless 'raeder' is meant to be it",
        ),
        ("head: linear", "head: {}", "r.yaml:9: systems.video.head.name: is missing"),
        (
            "head: linear",
            "head: 3",
            "r.yaml:9: systems.video.head: 3 is a whole number; allowed: a name, or a mapping with",
        ),
        (
            "head: linear, ",
            "",
            "r.yaml:9: systems.video.head: is missing; allowed: a name, or a mapping with name",
        ),
        (
            "systems: [audio, video]",
            "systems: [audio]",
            "r.yaml:12: fuse.fused.systems: ['audio'] is too short; allowed: 2 entries or more",
        ),
        (
            "systems: [audio, video]",
            "systems: audio",
            "r.yaml:12: fuse.fused.systems: 'audio' is a text; allowed: a list",
        ),
        (
            "{systems: [audio, video]}",
            "{systems: [audio, video], fit_split: test}",
            "r.yaml:12: fuse.fused.fit_split: 'test' is not allowed; allowed: train, val",
        ),
        (
            "score: {}",
            "score: {splits: [val, tset]}",
            "r.yaml:10: score.splits.1: 'tset' is not allowed; allowed: train, val, test; did you",
        ),
        (
            "root: data",
            "root: data, group_by: 'regex:('",
            "r.yaml:2: manifest.group_by: 'regex:(' is no regular expression: missing )",
        ),
        (
            "report: {}",
            "report: {title: 2024}",
            "r.yaml:13: report.title: 2024 is a whole number; allowed: a text (put it in quotes)",
        ),
        (
            "report: {}",
            "ray: {dashboard: yes}\nreport: {}",
            "r.yaml:13: ray.dashboard: 'yes' is a text; allowed: true or false",
        ),
    ],
)
def test_every_section_checks_its_values(faults: Faults, old: str, new: str, told: str) -> None:
    (fault,) = faults(changed(old, new))
    assert fault.startswith(told)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("score: {}", "score:", "r.yaml:10: score: is empty (null); write {} for its defaults"),
        ("report: {}", "report:", "r.yaml:13: report: is empty (null); write {}"),
        ("manifest: {reader: folder, root: data}", "manifest:", "r.yaml:2: manifest: null is no"),
        ("acoustic: {}", "acoustic:", "r.yaml:5: embed.backbones.acoustic: null is no value"),
        ("train: {epochs: 3}", "train: ", "r.yaml:9: systems.video.train: null is no value"),
    ],
)
def test_a_section_left_empty_is_not_taken_for_absent(
    faults: Faults, old: str, new: str, told: str
) -> None:
    (fault,) = faults(changed(old, new))
    assert fault.startswith(told)


@pytest.mark.parametrize("name", ["../audio", "a/b", ".a", "a.b", "a b", "''", 101 * "x", "é"])
def test_names_that_cannot_be_folders_are_refused(faults: Faults, name: str) -> None:
    told = faults(BASE.replace("acoustic: {}", f"{name}: {{name: acoustic}}"))
    assert any("embed.backbones: " in fault and "cannot be a name" in fault for fault in told)
    told = faults(BASE.replace("  video:", f"  {name}:"))
    assert any("systems: " in fault and "cannot be a name" in fault for fault in told)


# Splits


@pytest.mark.parametrize(
    ("splits", "told"),
    [
        ("{train: 0.5, val: 0.2}", ["the shares add up to 0.7, not to 1: train 0.5, val 0.2"]),
        ("{}", ["the shares add up to 0, not to 1: no split"]),
        (
            "{train: .nan, val: 1.5, test: true}",
            [
                "train is nan; allowed: a share from 0 to 1",
                "val is 1.5; allowed: a share from 0 to 1",
                "test is true; allowed: a share from 0 to 1",
            ],
        ),
        ("{folds: 2}", ["folds is 2; allowed: 3 to 1000 (one to test, one to select, the rest"]),
        ("{folds: true}", ["folds is true; allowed: a number of folds, or the name of a column"]),
        ("{folds: ''}", ["folds is ''; allowed: a number of folds"]),
        ("{folds: 1.5}", ["folds is 1.5; allowed: a number of folds"]),
        ("{folds: 5, column: c, val: 0.1}", ["folds cannot stand beside val, column"]),
        ("{column: c}", ["column needs train, val and test beside it"]),
        ("{column: c, train: [a], val: 1.5}", ["val is 1.5; beside column, allowed: a list of"]),
        ("{column: c, val: 0.1, test: [b]}", ["val is a share of train, which has no values of"]),
        (
            "{column: c, train: [a, 1], val: b, test: [1, true, 1.0]}",
            [
                "val is 'b'; beside column, allowed: a list of its values",
                "value '1' stands in both train and test",
                "test has the value true; allowed: texts and whole numbers",
                "test has the value 1.0; allowed: texts and whole numbers",
            ],
        ),
        ("{column: c, train: [a, a], val: [b]}", ["value 'a' stands twice in train"]),
        ("{train: 0.8, vla: 0.2}", ["unknown key, with the value 0.2; allowed: train, val, test,"]),
    ],
)
def test_splits_that_cannot_be_are_refused(faults: Faults, splits: str, told: list[str]) -> None:
    found = faults(changed("root: data", f"root: data, splits: {splits}"))
    assert len(found) == len(told)
    for fault, text in zip(found, told, strict=True):
        assert fault.startswith("r.yaml:2: manifest.splits")
        assert text in fault


def test_published_values_name_their_split() -> None:
    splits = SplitsSection(column="fold", train=[1, "b"], val=["2"], test=["x y"])
    assert splits.values == {"1": "train", "b": "train", "2": "val", "x y": "test"}
    assert splits.filled == ("train", "val", "test")


# Plug-ins and references


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "reader: folder",
            "reader: foldre",
            "r.yaml:2: manifest.reader: reader 'foldre' does not exist; allowed: "
            f"{', '.join(READERS.names())}; did you mean 'folder'?",
        ),
        (
            "root: data",
            "root: data, patern: x",
            "r.yaml:2: manifest.patern: unknown key, with the value 'x'; allowed: reader, splits, "
            "group_by, seed, extra, merge, root, pattern, labels; did you mean 'pattern'?",
        ),
        (
            "head: linear",
            "head: liner",
            "r.yaml:9: systems.video.head: head 'liner' does not exist; allowed: attention, gated_",
        ),
        (
            "hidden: [8]",
            "hiden: [8]",
            "r.yaml:8: systems.audio.head.hiden: unknown key, with the value [8]; allowed: name, ",
        ),
        (
            "hidden: [8]",
            "hidden: [8, x]",
            "r.yaml:8: systems.audio.head.hidden.1: 'x' is a text; allowed: a whole number",
        ),
        (
            "head: linear",
            "head: linear, pooling: {name: men}",
            "r.yaml:9: systems.video.pooling.name: pooling 'men' does not exist",
        ),
        (
            "num_frames: 4",
            "num_frames: 0",
            "r.yaml:6: embed.backbones.color.num_frames: 0 is out of range; allowed: 1 to 512",
        ),
        (
            "acoustic: {}",
            "acoustic: {name: acustic}",
            "r.yaml:5: embed.backbones.acoustic.name: backbone 'acustic' does not exist",
        ),
        (
            "video]}",
            "video], rule: wieghted}",
            "r.yaml:12: fuse.fused.rule: fusion rule 'wieghted' does not exist",
        ),
        (
            "backbone: color",
            "backbone: colour",
            "r.yaml:9: systems.video.backbone: 'colour' is not in embed.backbones; allowed: "
            "acoustic, color; did you mean 'color'?",
        ),
        (
            "backbone: color",
            "backbone: color, layer: embeding",
            "r.yaml:9: systems.video.layer: 'embeding' is not a layer of color; allowed: embedding"
            "; did you mean 'embedding'?",
        ),
        (
            "[audio, video]",
            "[audio, vidoe]",
            "r.yaml:12: fuse.fused.systems: 'vidoe' is not a system above this one; allowed: audio,"
            " video; did you mean 'video'?",
        ),
        (
            "[audio, video]",
            "[audio, fused]",
            "r.yaml:12: fuse.fused.systems: 'fused' is not a system above this one",
        ),
        (
            "[audio, video]",
            "[audio, audio]",
            "r.yaml:12: fuse.fused.systems: names 'audio' 2 times",
        ),
        (
            "  fused:",
            "  audio:",
            "r.yaml:12: fuse.audio: there is a system 'audio' already; give the fused one another",
        ),
        (
            "score: {}",
            "score: {splits: [test]}",
            "r.yaml:12: fuse.fused.fit_split: 'val' has no scores: see score.splits and manifest",
        ),
        (
            "score: {}",
            "score: {splits: [val]}",
            "r.yaml:13: report.split: 'test' has no scores: see score.splits and manifest.splits; "
            "allowed: val",
        ),
    ],
)
def test_names_and_references_that_lead_nowhere_are_refused(
    faults: Faults, old: str, new: str, told: str
) -> None:
    (fault,) = faults(changed(old, new))
    assert fault.startswith(told)


def test_a_split_that_heads_need_must_get_clips(faults: Faults) -> None:
    told = faults(changed("root: data", "root: data, splits: {test: 1}"))
    assert (
        "r.yaml:2: manifest.splits: gives no clips to 'train', and heads need some to "
        + ("learn from")
        in told
    )
    assert (
        "r.yaml:2: manifest.splits: gives no clips to 'val', and heads need some to "
        + ("be selected on")
        in told
    )


@pytest.mark.parametrize("options", ["", ", weights: {audio: 1, video: 2}", ", rule: stacked"])
def test_a_fusion_of_folds_needs_no_split_to_fit_on(load: Load, options: str) -> None:
    text = changed("root: data", "root: data, splits: {folds: 5}")
    text = text.replace("video]}", f"video]{options}}}")
    assert load(text).manifest.splits.filled == ("test",)


def test_a_plugin_whose_package_is_missing_is_a_fault_of_the_recipe(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(BASE.replace("head: linear", "head: fancy"))
    heads = Registry("head", {**PLUGINS.heads.entries, "fancy": "no_such_package_at_all:Fancy"})
    registries = replace(PLUGINS, heads=heads)
    with pytest.raises(
        RecipeError, match=r"systems\.video\.head: head 'fancy' needs the package 'no_such_pack"
    ):
        load_recipe(str(path), [], registries)


# Sections and jobs


@pytest.mark.parametrize(
    ("job", "without", "told"),
    [
        ("embed", "embed", "embed: is missing; the job embed needs this section"),
        ("train", "systems", "systems: is missing; the job train needs this section"),
        ("score", "score", "score: is missing; the job score needs this section"),
        ("fuse", "fuse", "fuse: is missing; the job fuse needs this section"),
        ("report", "report", "report: is missing; the job report needs this section"),
        ("manifest", "manifest", "manifest: is missing"),
        ("run", "embed", "embed: is missing; the job train needs this section"),
        ("run", "score", "score: is missing; the job fuse needs this section"),
    ],
)
def test_a_job_needs_its_section(faults: Faults, job: str, without: str, told: str) -> None:
    kept: list[str] = []
    for line in BASE.splitlines():
        if not line.startswith(" "):
            keep = not line.startswith(f"{without}:")
        if keep:
            kept.append(line)
    assert any(fault.startswith(f"r.yaml: {told}") for fault in faults("\n".join(kept), job=job))


def test_a_recipe_may_end_early(load: Load) -> None:
    recipe = load("run_dir: x\nmanifest: {reader: folder, root: d}\n")
    assert recipe.sections == ("manifest",)
    recipe = load("run_dir: x\nmanifest: {reader: folder, root: d}\nsystems: {}\nfuse: {}\n")
    assert recipe.sections == ("manifest",)


# All at once, and from the command line


def test_all_faults_of_a_recipe_are_told_at_once_in_the_order_of_the_file(faults: Faults) -> None:
    text = """\
run_dir: 3
manifest: {reader: foldr, rooot: data, sed: 1}
embed:
  backbons: {}
  backbones:
    acoustic: {hop: 3, patch_s: 1000}
  max_failed_share: 2
systems:
  video: {backbone: acustic, head: {name: mpl, hiden: [1], dropout: 2}, train: {epoch: 3}}
scor: {}
fuse:
  f: {systems: [video, audo], rule: wieghted}
report: {split: tset}
report: {}
"""
    told = faults(text, "systems.video.train.optimizer=adm", "nonsense")
    keys = [(fault.split(": ")[0], fault.split(": ")[1]) for fault in told]
    assert keys == [
        ("r.yaml", "score"),
        ("r.yaml:1", "run_dir"),
        ("r.yaml:2", "manifest.reader"),
        ("r.yaml:2", "manifest.root"),
        ("r.yaml:2", "manifest.rooot"),
        ("r.yaml:2", "manifest.sed"),
        ("r.yaml:4", "embed.backbons"),
        ("r.yaml:6", "embed.backbones.acoustic.patch_s"),
        ("r.yaml:6", "embed.backbones.acoustic.hop"),
        ("r.yaml:7", "embed.max_failed_share"),
        ("r.yaml:9", "systems.video.train.epoch"),
        ("r.yaml:9", "systems.video.head.name"),
        ("r.yaml:9", "systems.video.head.dropout"),
        ("r.yaml:9", "systems.video.head.hiden"),
        ("r.yaml:9", "systems.video.backbone"),
        ("r.yaml:10", "scor"),
        ("r.yaml:12", "fuse.f.rule"),
        ("r.yaml:12", "fuse.f.systems"),
        ("r.yaml:13", "report.split"),
        ("r.yaml:14", "report"),
        ("command line", "nonsense"),
        ("command line", "systems.video.train.optimizer"),
    ]


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("run", "run: is no override; allowed: section.key=value"),
        ("=3", "=3: is no override"),
        ("a..b=3", "a..b=3: is no override"),
        (
            "systems.video.train.epchs=5",
            "systems.video.train.epchs: unknown key, with the value 5; allowed: unit, task, fine, ",
        ),
        ("systems.video.train.epochs=", "systems.video.train.epochs: null is no value; allowed: a"),
        ("systems.video.train.epochs=five", "systems.video.train.epochs: 'five' is a text; allow"),
        ("run_dir.x=3", "run_dir.x: cannot be set to '3': run_dir is 'runs/x', no mapping; allow"),
        (
            "systems.video.head.hidden=[3]",
            "systems.video.head.hidden: cannot be set to '[3]': systems.video.head is 'linear', no "
            "mapping; allowed: systems.video.head={...}, the whole of it",
        ),
        ("score.splits=[val", "score.splits: '[val' is not YAML: while parsing a flow sequence"),
        ("run_dir=#1", "run_dir: '#1' is not YAML: '#' begins a comment; put the value in quotes"),
        ("run_dir=a\x07", "run_dir: 'a\\x07' is not YAML: the character '\\x07' may not stand"),
        ("run_dir=\udcff", "run_dir: '\\udcff' is not YAML: the character '\\udcff' may not"),
        ("ray={num_cpus: 1, num_cpus: 2}", "ray.num_cpus: stands twice"),
        (
            "systems.video={backbone: color, head: liner}",
            "systems.video.head: head 'liner' does not exist",
        ),
        ("systems.vidoe.train.lr=1", "systems.vidoe.backbone: is missing"),
    ],
)
def test_faults_of_overrides_name_the_command_line(
    faults: Faults, override: str, told: str
) -> None:
    assert faults(BASE, override)[0].startswith(f"command line: {told}")


def test_the_faults_can_be_read_by_programs(load: Load) -> None:
    with pytest.raises(RecipeError) as caught:
        load(changed("epochs: 3", "epoch: 3"))
    (fault,) = caught.value.faults
    assert fault == Fault(
        key="systems.video.train.epoch",
        problem="unknown key, with the value 3",
        value=3,
        allowed=fault.allowed,
        nearest="epochs",
        place="r.yaml:9",
    )
    assert fault.allowed.startswith("unit, task, fine, drop_sources, epochs, batch_size")
