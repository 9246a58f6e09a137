"""What does not fit between head, pooling, layers and training is told before anything starts."""

import json

import pytest

from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.pooling import POOLINGS
from audioflow.recipe import SystemSection
from audioflow.recipe_systems import pooled_on, system_faults, usual_pooling

SEQUENCES = ("attention", "gated_attention", "vggish_finetune")
PICTURES = ("short_chunk_cnn", "vgg16_bn", "resnet18", "resnet50")
ESTIMATORS = ("linear_svm", "rbf_svm", "logistic_regression", "sgd", "sklearn_mlp", "knn")
USED = "class_weights, cpus_per_worker, drop_sources, fine, seed, select, task, temperature, unit"


def faults(head: str | dict, *, varied: bool = False, **values) -> list[str]:
    """What is wrong with a system, as it is told; without the place, which is `systems.s.`."""
    written = {"backbone": "b", "head": head} | values
    section = SystemSection.model_validate_json(json.dumps(written), strict=True)
    pooling = POOLINGS.load(section.pooling.name) if section.pooling else None
    found = system_faults("s", section, HEADS.load(section.head.name), pooling, varied=varied)
    assert all(fault.key.startswith("systems.s.") for fault in found)
    return [str(fault).removeprefix("systems.s.") for fault in found]


def on(name: str, what: str | None = None) -> dict:
    return {"pooling": {"name": name} | ({"on": what} if what else {})}


def train(**options) -> dict:
    return {"train": options}


def test_the_heads_above_are_those_that_there_are():
    takes = {name: HEADS.load(name).takes for name in HEADS.names()}
    assert {n for n, t in takes.items() if "sequences" in t} == set(SEQUENCES)
    assert {n for n, t in takes.items() if t == "pictures"} == set(PICTURES)
    assert {n for n in HEADS.names() if is_estimator(HEADS.load(n))} == set(ESTIMATORS)
    assert {n for n, t in takes.items() if t == "layers"} == {"multi_layer"}


# What fits


@pytest.mark.parametrize("name", HEADS.names())
def test_every_head_fits_by_itself(name):
    assert faults(name) == []


@pytest.mark.parametrize("name", [n for n in HEADS.names() if n not in SEQUENCES])
def test_every_head_that_does_not_pool_learns_from_patches(name):
    assert faults(name, **train(unit="patch")) == []
    usual = usual_pooling(HEADS.load(name), "patch")
    assert (usual.name, usual.on) == ("mean", "logits")


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("linear", on("mean")),
        ("linear", on("mean_std", "embeddings")),
        ("linear", on("attention", "embeddings")),
        ("linear", on("attention", "scores")),
        ("linear", on("learned", "logits")),
        ("mlp", on("top_k", "scores") | train(unit="patch")),
        ("mlp", on("vote") | train(unit="patch")),
        ("mlp", on("vote", "logits") | train(unit="patch", task="single")),
        ("mlp", train(mixup=0.2)),
        ("mlp", on("max") | train(mixup=0.2)),
        ("mlp", on("max", "logits") | train(mixup=0.2, unit="patch")),
        ("multi_layer", {"layers": ["a", "b"]} | on("max")),
        ("multi_layer", train(mixup=0.2)),
        ("multi_layer", on("top_k", "embeddings")),
        ("resnet18", on("mean", "scores") | train(spec_augment={})),
        ("resnet18", on("attention", "logits")),
        ("resnet18", train(mixup=0.2, unit="patch")),
        ("attention", train(mixup=0)),
        ("vggish_finetune", train(spec_augment={})),
        ("knn", on("mean_max")),
        ("knn", on("vote") | train(unit="patch")),
        ("knn", train(class_weights="none", temperature="fit", seed=3, select="last")),
        ("sgd", on("mean", "scores") | train(unit="patch")),
    ],
    ids=str,
)
def test_what_fits_has_no_faults(head, values):
    assert faults(head, **values) == []


# What is usual


@pytest.mark.parametrize(
    ("head", "unit", "expected"),
    [
        ("mlp", "clip", ("mean", "embeddings")),
        ("mlp", "patch", ("mean", "logits")),
        ("knn", "clip", ("mean", "embeddings")),
        ("multi_layer", "clip", ("mean", "embeddings")),
        ("resnet18", "clip", ("mean", "logits")),
        ("resnet18", "patch", ("mean", "logits")),
        ("attention", "clip", None),
        ("vggish_finetune", "clip", None),
    ],
)
def test_a_pooling_that_is_not_named_suits_the_head(head, unit, expected):
    found = usual_pooling(HEADS.load(head), unit)
    assert expected == (None if found is None else (found.name, found.on))


@pytest.mark.parametrize(
    ("name", "head", "unit", "expected"),
    [
        ("mean", "mlp", "clip", "embeddings"),
        ("mean", "mlp", "patch", "logits"),
        ("mean", "resnet18", "clip", "logits"),
        ("top_k", "mlp", "clip", "embeddings"),
        ("top_k", "mlp", "patch", "logits"),
        ("learned", "resnet18", "clip", "logits"),
        ("attention", "mlp", "clip", "embeddings"),
        ("vote", "mlp", "patch", "logits"),
        ("vote", "mlp", "clip", "logits"),
        ("mean_std", "mlp", "patch", "embeddings"),  # which is a fault then
    ],
)
def test_what_a_pooling_is_used_on_follows_from_the_head_where_nobody_says(
    name, head, unit, expected
):
    choice = SystemSection(backbone="b", head="mlp", pooling=name).pooling
    assert pooled_on(choice, POOLINGS.load(name), HEADS.load(head), unit) == expected


# What does not fit


@pytest.mark.parametrize("head", [n for n in HEADS.names() if n != "multi_layer"])
def test_layers_are_for_heads_that_read_several(head):
    assert faults(head, layers=["pool5", "conv6"]) == [
        f"layers: ['pool5', 'conv6'] are given, but the head {head} reads one layer; "
        "allowed: layer: one of them"
    ]


@pytest.mark.parametrize("head", SEQUENCES)
def test_a_head_that_pools_by_itself_takes_no_pooling(head):
    assert faults(head, **on("max")) == [
        f"pooling: 'max' is given, but the head {head} pools by itself; allowed: no pooling"
    ]


@pytest.mark.parametrize("head", SEQUENCES)
def test_a_head_that_pools_by_itself_learns_from_clips(head):
    assert faults(head, **train(unit="patch")) == [
        f"train.unit: 'patch' has no use with the head {head}, which reads a clip's patches "
        "together; allowed: clip"
    ]


@pytest.mark.parametrize(
    ("name", "what", "allowed"),
    [
        ("mean_std", "logits", "embeddings"),
        ("mean_max", "scores", "embeddings"),
        ("vote", "scores", "logits"),
        ("vote", "embeddings", "logits"),
    ],
)
def test_a_pooling_is_used_on_what_it_can(name, what, allowed):
    assert faults("mlp", **on(name, what)) == [
        f"pooling.on: '{what}' is not what {name} can be used on; allowed: {allowed}"
    ]


@pytest.mark.parametrize("head", PICTURES)
def test_embeddings_of_pictures_are_not_pooled(head):
    assert faults(head, **on("max", "embeddings")) == [
        f"pooling.on: 'embeddings' cannot be pooled: the head {head} takes pictures; "
        "allowed: logits, scores"
    ]
    assert faults(head, **on("mean_std")) == [
        f"pooling.on: 'embeddings' cannot be pooled: the head {head} takes pictures; "
        "allowed: another pooling"
    ]


def test_embeddings_are_not_pooled_where_patches_learn_by_themselves():
    assert faults("mlp", **on("max", "embeddings"), **train(unit="patch")) == [
        "pooling.on: 'embeddings' cannot be pooled: the head mlp learns from patches (train.unit); "
        "allowed: logits, scores"
    ]


@pytest.mark.parametrize(
    ("name", "what"),
    [("mean", "logits"), ("max", "scores"), ("attention", "embeddings"), ("learned", "scores")],
)
def test_several_layers_are_pooled_by_what_is_not_learned_and_before_the_head(name, what):
    assert faults("multi_layer", **on(name, what)) == [
        f"pooling: {name} on {what} has no use with multi_layer, which reads several layers; "
        "allowed: on embeddings: mean, max, mean_max, mean_std, top_k"
    ]


def test_the_poolings_that_are_proposed_are_those_of_embeddings_with_nothing_to_learn():
    plain = [
        name
        for name in POOLINGS.names()
        if "embeddings" in POOLINGS.load(name).on and not POOLINGS.load(name).learned
    ]
    (told,) = faults("multi_layer", **on("mean", "logits"))
    assert sorted(told.rpartition("on embeddings: ")[2].split(", ")) == plain


@pytest.mark.parametrize("name", ["attention", "learned"])
def test_a_learned_pooling_learns_from_clips(name):
    assert faults("mlp", **on(name, "logits"), **train(unit="patch")) == [
        f"pooling: {name} is learned from clips, train.unit is patch; allowed: train.unit: clip"
    ]


def test_nothing_is_learned_through_votes():
    assert faults("mlp", **on("vote")) == [
        "train.unit: 'clip' cannot be learned through votes; allowed: patch"
    ]


def test_a_vote_is_for_one_label():
    assert faults("mlp", **on("vote"), **train(unit="patch", task="multi")) == [
        "pooling: vote gives every patch one class, but train.task is multi; "
        "allowed: on scores: mean, max, top_k"
    ]


@pytest.mark.parametrize("what", ["logits", "scores"])
@pytest.mark.parametrize("head", ESTIMATORS)
def test_scikit_learn_learns_through_no_pooling(head, what):
    assert faults(head, **on("max", what)) == [
        f"train.unit: 'clip' cannot be learned through the {what} of {head}; allowed: patch"
    ]


@pytest.mark.parametrize("name", ["attention", "learned"])
@pytest.mark.parametrize("head", ["knn", "sgd"])
def test_scikit_learn_learns_no_pooling(head, name):
    assert faults(head, **on(name, "embeddings")) == [
        f"pooling: {name} has to be learned, but scikit-learn fits {head} alone; "
        "allowed: on embeddings: mean, max, mean_max, mean_std, top_k"
    ]


@pytest.mark.parametrize(
    ("key", "value", "shown"),
    [
        ("lr", 0.01, "0.01"),
        ("epochs", 5, "5"),
        ("mixup", 0.2, "0.2"),
        ("loss", "focal", "'focal'"),
        ("patience", 3, "3"),
        ("normalise", True, "true"),
        ("memory_gb", 2.0, "2.0"),
        ("workers", 2, "2"),
        ("sampling", "balanced", "'balanced'"),
    ],
)
@pytest.mark.parametrize("head", ["knn", "rbf_svm"])
def test_what_scikit_learn_does_not_ask_is_refused(head, key, value, shown):
    assert faults(head, **train(**{key: value})) == [
        f"train.{key}: {shown} has no use with the head {head}, which scikit-learn fits; "
        f"allowed: {USED}"
    ]
    assert faults(head, varied=True, **train(**{key: value})) == []  # left over by a search


def test_groups_of_settings_that_scikit_learn_does_not_ask_are_refused_once_each():
    found = faults("sgd", **train(schedule="cosine", spec_augment={}))
    assert [text.partition(":")[0] for text in found] == ["train.schedule", "train.spec_augment"]
    assert "{name: 'cosine', " in found[0]


@pytest.mark.parametrize("varied", [False, True])
def test_weights_of_classes_are_not_for_a_head_that_cannot_weigh_vectors(varied):
    assert faults("knn", varied=varied, **train(class_weights="balanced")) == [
        "train.class_weights: 'balanced' has no use with the head knn, which cannot weigh vectors; "
        "allowed: none"
    ]


@pytest.mark.parametrize("head", ["linear_svm", "rbf_svm", "logistic_regression", "sgd"])
def test_weights_of_classes_are_given_once(head):
    twice = {"name": head, "class_weight": "balanced"}
    assert faults(twice, **train(class_weights="balanced")) == [
        "train.class_weights: 'balanced' would count twice: head.class_weight is balanced, too; "
        "allowed: none, or head.class_weight: none"
    ]
    assert faults(twice) == []
    assert faults(twice | {"class_weight": "none"}, **train(class_weights="balanced")) == []


def test_every_head_but_knn_can_weigh_the_classes():
    able = [name for name in HEADS.names() if not faults(name, **train(class_weights="balanced"))]
    assert able == [name for name in HEADS.names() if name != "knn"]


@pytest.mark.parametrize("head", ["mlp", "multi_layer", "attention"])
def test_masks_are_for_pictures(head):
    takes = HEADS.load(head).takes
    assert faults(head, **train(spec_augment={})) == [
        f"train.spec_augment: is for pictures, the head {head} takes {takes}; "
        "allowed: no spec_augment"
    ]


@pytest.mark.parametrize("head", SEQUENCES)
def test_whole_clips_are_not_mixed(head):
    assert faults(head, **train(mixup=0.2)) == [
        f"train.mixup: 0.2 has no use with the head {head}, which reads whole clips; allowed: 0"
    ]


@pytest.mark.parametrize(
    ("head", "values"),
    [
        ("mlp", on("mean", "logits")),
        ("mlp", on("learned", "scores")),
        ("mlp", on("attention", "embeddings")),
        ("resnet18", {}),
        ("short_chunk_cnn", on("max")),
    ],
    ids=str,
)
def test_clips_of_several_patches_are_not_mixed(head, values):
    assert faults(head, **values, **train(mixup=0.25)) == [
        "train.mixup: 0.25 mixes examples of one patch each, but train.unit is clip; "
        "allowed: 0, or train.unit: patch beside it"
    ]


def test_all_faults_are_told_at_once():
    found = faults(
        "resnet18",
        layers=["a"],
        **on("mean", "embeddings"),
        **train(mixup=0.1, unit="clip"),
    )
    assert [text.partition(":")[0] for text in found] == ["layers", "pooling.on"]
    found = faults("attention", layers=["a"], **on("max"), **train(mixup=1, unit="patch"))
    assert [text.partition(":")[0] for text in found] == [
        "layers",
        "pooling",
        "train.unit",
        "train.mixup",
    ]
