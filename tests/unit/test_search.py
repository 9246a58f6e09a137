"""Hyper-parameter search: what a space may say, what is proposed, who is stopped, what mattered."""

import json
import math
from collections import Counter

import numpy as np
import pytest

from audioflow.errors import RecipeError
from audioflow.search import SEARCHES, make_sampler, search_faults
from audioflow.search.halving import Halving
from audioflow.search.importance import importance
from audioflow.search.reading import read_space, space_faults
from audioflow.search.sampling import GridSampler, RandomSampler
from audioflow.search.space import (
    Choice,
    Integer,
    LogUniform,
    Uniform,
    active,
    applied,
    canonical,
    points,
)
from audioflow.search.tpe import OptunaSampler

MLP = {"head.name": "mlp"}
SPACE = {
    "train.lr": {"loguniform": [1e-4, 1e-1]},
    "train.weight_decay": {"choice": [0, 1e-4, 1e-2]},
    "train.epochs": {"int": [10, 60], "step": 10},
    "head.hidden": {"choice": [[128], [256], [512, 256]], "when": MLP},
    "head.dropout": {"uniform": [0.0, 0.6], "when": MLP},
    "head.name": {"choice": ["linear", "mlp"]},
    "pooling.name": ["mean", "max"],
}
SMALL = {
    "head.name": ["linear", "mlp"],
    "head.hidden": {"choice": [[8], [16, 8]], "when": MLP},
    "head.dropout": {"uniform": [0, 0.5], "steps": 3, "when": {"head.hidden": [[16, 8]]}},
    "pooling.name": ["mean", "max"],
}


def score_of(values) -> float:
    """Best at a rate of 10**-2.5 with an mlp; nothing else matters. As written: 0."""
    if not values:
        return 0.0
    return -((math.log10(values["train.lr"]) + 2.5) ** 2) + 0.5 * (values["head.name"] == "mlp")


def run(sampler, trials: int, score=score_of) -> list:
    """(values, score) of trials that are run one after the other, until none is proposed."""
    outcomes = []
    for _ in range(trials):
        trial = sampler.ask()
        if trial is None:
            break
        outcomes.append((trial.values, score(trial.values)))
        sampler.tell(trial.number, outcomes[-1][1])
    return outcomes


# --- reading


def test_a_space_is_read_with_every_parameter_behind_those_it_hangs_on():
    space = read_space(SPACE)
    when = {"head.name": ("mlp",)}
    assert space.parameters == (
        LogUniform("train.lr", 1e-4, 1e-1),
        Choice("train.weight_decay", (0, 1e-4, 1e-2)),
        Integer("train.epochs", 10, 60, 10),
        Choice("head.name", ("linear", "mlp")),
        Choice("head.hidden", ([128], [256], [512, 256]), when),
        Uniform("head.dropout", 0.0, 0.6, None, when),
        Choice("pooling.name", ("mean", "max")),
    )
    assert space.keys == tuple(parameter.key for parameter in space.parameters)
    assert space_faults(SPACE) == []


def test_conditions_name_one_value_or_several_of_choices_and_whole_numbers():
    space = read_space(
        {
            "a.b": {"choice": [None, True, [1]], "when": {"n": [1, 3.0], "c": ["x"]}},
            "n": {"int": [1, 5], "step": 2},
            "c": {"choice": ["x", "y"], "when": {"n": 5}},
        }
    )
    assert space.keys == ("n", "c", "a.b")
    assert space.parameters[2].when == {"n": (1, 3.0), "c": ("x",)}


ONE_FAULT = [
    ({}, "space", "is empty; allowed: settings with their values"),
    (["train.lr"], "space", r"\['train.lr'\] is no mapping"),
    ({"a": 0.1}, "space.a", "0.1 is no list of values; allowed: a list, or a mapping with one of"),
    ({"a": "mlp"}, "space.a", "'mlp' is no list of values"),
    ({"a": None}, "space.a", "null is no list of values"),
    ({"a..b": [1]}, "space.a..b", r"'a\.\.b' is no setting"),
    ({"a": ["x"], "a.b": [1]}, "space.a", "and a.b, a part of it, .*a.name in place of a"),
    ({"a": {}}, "space.a", "{} has no kind; allowed: one of choice, uniform, loguniform, int"),
    ({"a": {"step": 2}}, "space.a", "{step: 2} has no kind"),
    ({"a": {"logunifrom": [1, 2]}}, "space.a.logunifrom", "unknown kind, .*'loguniform'"),
    ({"a": {"Int": [1, 2], "step": 1}}, "space.a.Int", "unknown kind, .*'int'"),
    ({"a": {"int": [1, 2], "choice": [1]}}, "space.a", "has 2 kinds: choice, int"),
    ({"a": {"uniform": [0, 1], "stepz": 3}}, "space.a.stepz", "unknown key, .*value 3.*'steps'"),
    ({"a": {"uniform": [0, 1], "log": True}}, "space.a.log", "true does not go with uniform"),
    ({"a": {"choice": [1], "step": 3}}, "space.a.step", "3 does not go with choice"),
    ({"a": []}, "space.a", r"\[\] is empty"),
    ({"a": {"choice": []}}, "space.a.choice", r"\[\] is empty"),
    ({"a": {"choice": 7}}, "space.a.choice", "7 is no list"),
    ({"a": [1, 2, 1.0]}, "space.a.2", "1.0 stands there already"),
    ({"a": {"choice": [[1, 2], [1, 2]]}}, "space.a.choice.1", r"\[1, 2\] stands there already"),
    ({"a": [1, math.nan]}, "space.a.1", "nan cannot be a value; allowed: finite numbers"),
    ({"a": [[1, math.inf]]}, "space.a.0", r"\[1, inf\] cannot be a value"),
    ({"a": [{"name": "x"}]}, "space.a.0", "{name: 'x'} cannot be a value"),
    ({"a": {"uniform": 0.5}}, "space.a.uniform", "0.5 is no list of two numbers"),
    ({"a": {"uniform": [0, 1, 2]}}, "space.a.uniform", r"\[0, 1, 2\] is no list of two"),
    ({"a": {"uniform": [True, 2]}}, "space.a.uniform.0", "true is not a finite number"),
    ({"a": {"uniform": [0, "1"]}}, "space.a.uniform.1", "'1' is not a finite number"),
    ({"a": {"uniform": [0, math.nan]}}, "space.a.uniform.1", "nan is not a finite number"),
    ({"a": {"uniform": [-math.inf, 0]}}, "space.a.uniform.0", "-inf is not a finite number"),
    ({"a": {"uniform": [0, 10**400]}}, "space.a.uniform.1", "1000.* is out of range"),
    ({"a": {"uniform": [-1e308, 1e308]}}, "space.a.uniform", "is too wide"),
    (
        {"a": {"uniform": [0.6, 0.1]}},
        "space.a.uniform",
        "low end 0.6 is not below its high end 0.1",
    ),
    ({"a": {"int": [3, 3]}}, "space.a.int", "low end 3 is not below its high end 3"),
    ({"a": {"int": [1, 2.0]}}, "space.a.int.1", "2.0 is not a whole number"),
    ({"a": {"int": [False, 2]}}, "space.a.int.0", "false is not a whole number"),
    ({"a": {"loguniform": [0, 1]}}, "space.a.loguniform", "low end 0 has no logarithm"),
    ({"a": {"loguniform": [-0.5, 1]}}, "space.a.loguniform", "low end -0.5 has no logarithm"),
    ({"a": {"int": [0, 9], "log": True}}, "space.a.int", "low end 0 has no logarithm"),
    ({"a": {"int": [1, 9], "log": 1}}, "space.a.log", "1 is no truth value"),
    ({"a": {"int": [1, 9], "log": True, "step": 2}}, "space.a.step", "2 does not go with log"),
    ({"a": {"int": [0, 9], "step": 0}}, "space.a.step", "0 is no step"),
    ({"a": {"int": [0, 9], "step": True}}, "space.a.step", "true is no step"),
    (
        {"a": {"int": [10, 60], "step": 20}},
        "space.a.step",
        r"20 does not divide 60 - 10 = 50; allowed: a divisor of 50, or int: \[10, 50\]",
    ),
    ({"a": {"int": [0, 9], "step": 10}}, "space.a.step", "10 does not .* allowed: a divisor of 9$"),
    ({"a": {"uniform": [0, 1], "steps": 1}}, "space.a.steps", "1 is no number of values.* 2 to"),
    ({"a": {"uniform": [0, 1], "steps": None}}, "space.a.steps", "null is no number of values"),
    ({"a": {"choice": [1], "when": "mlp"}}, "space.a.when", "'mlp' is no mapping"),
    ({"a": {"choice": [1], "when": {"b": []}}, "b": [1]}, "space.a.when.b", "is an empty list"),
    (
        {"head.name": ["linear"], "a": {"choice": [1], "when": {"head.nam": "linear"}}},
        "space.a.when.head.nam",
        "'head.nam' is not in the space; allowed: head.name; did you mean 'head.name'",
    ),
    (
        {"head.name": ["linear", "mlp"], "a": {"choice": [1], "when": {"head.name": "mpl"}}},
        "space.a.when.head.name",
        "head.name is never 'mpl'; allowed: 'linear', 'mlp'; did you mean 'mlp'",
    ),
    (
        {"b": [1, 2], "a": {"choice": [1], "when": {"b": [2, True]}}},
        "space.a.when.b",
        "b is never true; allowed: 1, 2$",
    ),
    (
        {"b": {"int": [0, 100], "step": 5}, "a": {"choice": [1], "when": {"b": 7}}},
        "space.a.when.b",
        r"b is never 7; allowed: 0, 5, 10, .*, \.\.\.$",
    ),
    (
        {"b": {"int": [0, 1]}, "a": {"choice": [1], "when": {"b": True}}},
        "space.a.when.b",
        "b is never true",
    ),
    (
        {"b": {"uniform": [0, 1]}, "a": {"choice": [1], "when": {"b": 0.5}}},
        "space.a.when.b",
        "b is any number of a range.*allowed: keys with a choice or an int",
    ),
    ({"a": {"choice": [1], "when": {"a": 1}}}, "space.a.when", "hangs on itself: a when a;"),
    (
        {
            "c": {"choice": [1], "when": {"a": 1}},
            "a": {"choice": [1], "when": {"b": 1}},
            "b": {"choice": [1], "when": {"c": 1}},
        },
        "space.c.when",
        "hangs on itself: c when a when b when c",
    ),
]


@pytest.mark.parametrize(("given", "key", "text"), ONE_FAULT)
def test_what_is_wrong_with_a_space_is_told_at_its_key(given, key, text):
    with pytest.raises(RecipeError, match=text) as caught:
        read_space(given)
    assert [fault.key for fault in caught.value.faults] == [key]


def test_all_faults_are_told_at_once():
    given = {
        "train.lr": {"loguniform": [0, "x"], "steps": 0},
        "train.epochs": {"int": [60, 10], "step": 0},
        "head.name": [],
        "head.dropout": {"uniform": [0.0, 0.6], "when": {"head.name": "mlp", "heads": 1}},
        "a": {"choice": [1], "when": {"b": 1}},
        "b": {"choice": [1], "when": {"a": 1}},
        "c": {"choice": [1], "when": {"d": 1}},
        "d": {"choice": [1], "when": {"c": 1}},
    }
    assert Counter(fault.key for fault in space_faults(given)) == Counter(
        [
            "space.train.lr.steps",
            "space.train.lr.loguniform.1",
            "space.train.epochs.int",
            "space.train.epochs.step",
            "space.head.name",
            "space.head.dropout.when.heads",
            "space.a.when",
            "space.c.when",
        ]
    )


# --- values


def test_one_and_one_point_zero_are_the_same_value_and_true_is_another():
    assert canonical([1, {"x": 2.0}]) == canonical([1.0, {"x": 2}])
    assert len({canonical(value) for value in (1, True, "1", [1], None, 1.5)}) == 6


def test_a_parameter_is_active_only_where_all_its_conditions_hold():
    dropout = read_space(SMALL).parameters[2]
    assert dropout.key == "head.dropout"
    assert active(dropout, {"head.name": "mlp", "head.hidden": [16.0, 8]})
    assert not active(dropout, {"head.name": "mlp", "head.hidden": [8]})
    assert not active(dropout, {"head.name": "linear"})
    both = Choice("a", (1,), {"b": (0, 2), "c": ("x",)})
    assert active(both, {"b": 0, "c": "x"})
    assert not active(both, {"b": False, "c": "x"})
    assert not active(both, {"b": 2, "c": "y"})
    assert not active(both, {"b": 2})


def test_the_values_of_a_parameter_that_can_be_counted():
    assert points(Uniform("a", 0.0, 0.6, 7)) == [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert points(LogUniform("a", 1e-4, 1e-1, 4)) == [1e-4, 1e-3, 1e-2, 1e-1]
    assert list(points(Integer("a", 10, 60, 25))) == [10, 35, 60]
    assert points(Choice("a", ([1], None))) == ([1], None)
    assert points(Uniform("a", 0.0, 1.0)) is None


def test_values_are_set_in_a_copy_of_the_settings():
    settings = {"backbone": "acoustic", "train": {"lr": 0.1, "epochs": 3}, "head": {"name": "mlp"}}
    before = json.dumps(settings)
    values = {"train.lr": 0, "head.hidden": [8], "layer": None}
    result = applied(settings, values)
    assert result == {
        "backbone": "acoustic",
        "train": {"lr": 0, "epochs": 3},
        "head": {"name": "mlp", "hidden": [8]},
        "layer": None,
    }
    result["head"]["hidden"].append(9)
    result["train"]["epochs"] = 4
    assert json.dumps(settings) == before
    assert values["head.hidden"] == [8]
    assert applied(settings, {}) == settings


@pytest.mark.parametrize(
    ("head", "values", "expected"),
    [
        (None, {"head.name": "mlp"}, {"name": "mlp"}),
        ("linear", {"head.name": "linear"}, {"name": "linear"}),
        ("mlp", {"head.dropout": 0}, {"name": "mlp", "dropout": 0}),
        ("linear", {"head.dropout": 0.1, "head.name": "mlp"}, {"name": "mlp", "dropout": 0.1}),
        (
            {"name": "mlp", "hidden": [8], "dropout": 0.2},
            {"head.name": "linear"},
            {"name": "linear"},
        ),
        (
            {"name": "mlp", "hidden": [8], "dropout": 0.2},
            {"head.name": "mlp", "head.dropout": 0.3},
            {"name": "mlp", "hidden": [8], "dropout": 0.3},
        ),
        (
            {"name": "mlp", "hidden": [8], "dropout": 0.2},
            {"head.dropout": 0.3, "head.name": "deep"},
            {"name": "deep", "dropout": 0.3},
        ),
        (
            {"name": "mlp", "inner": {"name": "x", "size": 3}},
            {"head.inner.name": "y", "head.inner.depth": 2, "head.name": "mlp"},
            {"name": "mlp", "inner": {"name": "y", "depth": 2}},
        ),
        (
            {"name": "mlp", "inner": {"name": "x", "size": 3}},
            {"head.inner.depth": 2, "head.name": "deep"},
            {"name": "deep", "inner": {"depth": 2}},
        ),
    ],
)
def test_a_plug_in_of_another_name_leaves_the_settings_of_the_old_one(head, values, expected):
    settings = {"train": {"lr": 1}} if head is None else {"train": {"lr": 1}, "head": head}
    assert applied(settings, values) == {"train": {"lr": 1}, "head": expected}


def test_a_value_cannot_be_set_below_what_is_no_mapping():
    with pytest.raises(RecipeError, match=r"space.train.lr.x: cannot be set: train.lr is 3, no"):
        applied({"train": {"lr": 3}}, {"train.lr.x": 1})


# --- samplers


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_the_first_trial_is_the_settings_as_written_and_the_others_lie_in_the_space(search):
    space = read_space(SPACE | {"train.batch_size": {"int": [1, 512], "log": True}})
    outcomes = run(make_sampler(search, space, 3), 60)
    assert outcomes[0][0] == {}
    assert len(outcomes) == 60
    for values, _ in outcomes[1:]:
        assert json.loads(json.dumps(values)) == values
        assert list(values) == [each.key for each in space.parameters if active(each, values)]
        assert (
            ("head.hidden" in values)
            == ("head.dropout" in values)
            == (values["head.name"] == "mlp")
        )
        assert 1e-4 <= values["train.lr"] <= 1e-1
        assert values["train.weight_decay"] in (0, 1e-4, 1e-2)
        assert values["train.epochs"] in range(10, 61, 10)
        assert values["pooling.name"] in ("mean", "max")
        assert 0 <= values.get("head.dropout", 0) <= 0.6
        assert values.get("head.hidden", [128]) in ([128], [256], [512, 256])
        assert type(values["train.batch_size"]) is int
        assert 1 <= values["train.batch_size"] <= 512
    assert {values["head.name"] for values, _ in outcomes[1:]} == {"linear", "mlp"}


def test_random_values_are_spread_as_their_kinds_say():
    given = {
        "u": {"uniform": [-1, 3]},
        "l": {"loguniform": [1e-4, 1]},
        "i": {"int": [0, 9], "step": 3},
        "g": {"int": [1, 100], "log": True},
        "c": ["x", "y", "z"],
    }
    sampler = RandomSampler(read_space(given), 0)
    drawn = [sampler.ask().values for _ in range(2001)][1:]
    columns = {key: np.array([values[key] for values in drawn]) for key in given}
    assert np.histogram(columns["u"], 4, (-1, 3))[0] == pytest.approx(500, abs=90)
    assert np.histogram(np.log10(columns["l"]), 4, (-4, 0))[0] == pytest.approx(500, abs=90)
    counts = Counter(columns["i"].tolist())
    assert [counts[value] for value in (0, 3, 6, 9)] == pytest.approx([500] * 4, abs=90)
    assert (columns["g"] <= 10).mean() == pytest.approx(
        math.log(10.5 / 0.5) / math.log(100.5 / 0.5), abs=0.04
    )
    counts = Counter(columns["c"].tolist())
    assert [counts[value] for value in "xyz"] == pytest.approx([2000 / 3] * 3, abs=90)


@pytest.mark.parametrize("search", ["random", "optuna"])
def test_another_seed_proposes_other_values(search):
    space = read_space(SPACE)
    one, same, other = (run(make_sampler(search, space, seed), 15) for seed in (0, 0, 1))
    assert one == same
    assert all(mine[0] != theirs[0] for mine, theirs in zip(one[1:], other[1:], strict=True))


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("stop", [0, 1, 7, 14])
def test_an_interrupted_search_goes_on_as_if_nothing_had_happened(search, stop):
    steps = {"train.lr": {"loguniform": [1e-4, 1e-1], "steps": 5}, "head.dropout": [0.0, 0.3]}
    space = read_space(SPACE | (steps if search == "grid" else {}))
    whole = run(make_sampler(search, space, 5), 24)
    again = make_sampler(search, space, 5)
    again.replay(json.loads(json.dumps(whole[:stop])))
    assert whole[:stop] + run(again, 24 - stop) == whole


@pytest.mark.parametrize("search", SEARCHES)
def test_trials_that_were_open_are_handed_out_again_before_new_ones(search):
    """Three run at a time and end in any order; two are open when the search is interrupted."""
    space = read_space(SPACE if search != "grid" else SMALL)
    score = score_of if search != "grid" else (lambda values: float(values["head.name"] == "mlp"))
    sampler = make_sampler(search, space, 1)
    rng = np.random.default_rng(0)
    known: dict[int, list] = {}
    open_numbers: list[int] = []
    for turn in range(14 if search != "grid" else 6):
        trial = sampler.ask()
        known[trial.number] = [trial.values, None]
        open_numbers.append(trial.number)
        if turn >= 2:
            ended = open_numbers.pop(rng.integers(3))
            known[ended][1] = score(known[ended][0])
            sampler.tell(ended, known[ended][1])
    assert len(open_numbers) == 2

    again = make_sampler(search, space, 1)
    again.replay([known[number] for number in range(len(known))])
    for number in open_numbers:
        trial = again.ask()
        assert (trial.number, trial.values) == (number, known[number][0])
    for _ in range(3):
        assert again.ask() == sampler.ask()
    for number in open_numbers:
        again.tell(number, 0.5)
        sampler.tell(number, 0.5)
    assert again.ask() == sampler.ask()


@pytest.mark.parametrize("search", SEARCHES)
def test_every_combination_of_a_small_space_comes_once_and_then_none(search):
    expected = [
        {"head.name": "linear"},
        {"head.name": "mlp", "head.hidden": [8]},
        *({"head.name": "mlp", "head.hidden": [16, 8], "head.dropout": x} for x in (0, 0.25, 0.5)),
    ]
    expected = [{**head, "pooling.name": name} for head in expected for name in ("mean", "max")]
    sampler = make_sampler(search, read_space(SMALL), 0)
    proposed = [values for values, _ in run(sampler, 100, lambda values: float(len(values)))]
    assert sampler.ask() is None
    if search == "grid":
        assert proposed == expected
        assert sampler.size == len(expected)
    else:
        assert proposed[0] == {}
        assert sorted(map(canonical, proposed[1:])) == sorted(map(canonical, expected))


def test_a_large_grid_is_counted_without_going_through_it():
    given = {f"k{index}": {"int": [1, 1000]} for index in range(6)}
    given |= {"a": ["x", "y"], "b": {"int": [0, 9], "when": {"a": "y"}}}
    sampler = GridSampler(read_space(given))
    assert sampler.size == 1000**6 * (1 + 10)
    assert sampler.ask().values == dict.fromkeys(list(given)[:6], 1) | {"a": "x"}


def test_a_grid_refuses_what_it_cannot_count():
    given = SPACE | {"train.batch_size": {"int": [1, 512], "log": True}}
    space = read_space(given)
    keys = ["space.train.lr", "space.head.dropout", "space.train.batch_size.log"]
    assert [fault.key for fault in search_faults("grid", space)] == keys
    assert search_faults("random", space) == search_faults("optuna", space) == []
    with pytest.raises(RecipeError, match=r"train.lr: has endlessly many.*allowed: steps: 5 besi"):
        GridSampler(space)


def test_optuna_comes_to_propose_what_scored_best():
    space = read_space(SPACE)
    for seed in range(3):
        outcomes = run(OptunaSampler(space, seed), 60)
        early, late = ([score for _, score in part] for part in (outcomes[1:11], outcomes[-10:]))
        assert np.mean(late) > np.mean(early) + 0.3
        assert max(late) > 0.45


def test_optuna_keeps_away_from_what_failed():
    space = read_space({"train.lr": {"uniform": [0, 1]}})

    def score(values):
        return math.nan if values.get("train.lr", 0) > 0.5 else 0.5

    failed = [
        math.isnan(reached)
        for seed in range(4)
        for _, reached in run(OptunaSampler(space, seed), 40, score)[-15:]
    ]
    assert np.mean(failed) < 0.5


def test_optuna_says_nothing_on_standard_error(capfd):
    run(OptunaSampler(read_space(SMALL), 0), 15, lambda values: 0.0)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("search", SEARCHES)
def test_a_score_is_told_once_and_only_for_a_trial_that_was_handed_out(search):
    sampler = make_sampler(search, read_space(SMALL), 0)
    number = sampler.ask().number
    sampler.tell(number, 0.0)
    with pytest.raises(ValueError, match="trial 0 has ended already; 1 were handed out"):
        sampler.tell(number, 0.0)
    with pytest.raises(ValueError, match="trial 7 was never handed out"):
        sampler.tell(7, 0.0)
    with pytest.raises(ValueError, match="replay comes first: 1 trials were handed out"):
        sampler.replay([])


def test_what_a_caller_does_to_a_trial_does_not_reach_the_space():
    space = read_space({"head.hidden": [[128], [256]]})
    for search in SEARCHES:
        sampler = make_sampler(search, space, 0)
        while trial := sampler.ask():
            trial.values.get("head.hidden", []).append(7)
    assert space.parameters[0].options == ([128], [256])


# --- halving


def test_rungs_lie_a_factor_apart_below_the_longest():
    assert Halving(1, longest=27).rungs == (1, 3, 9)
    assert Halving(1, longest=28).rungs == (1, 3, 9, 27)
    assert Halving(5, 2, longest=40).rungs == (5, 10, 20)
    assert Halving(4, longest=4).rungs == ()


@pytest.mark.parametrize(
    ("grace", "factor", "longest", "text"),
    [
        (0, 3, 9, "grace is 0; allowed: 1 or more"),
        (1, 1, 9, "factor is 1; allowed: 2 or more"),
        (5, 3, 4, "longest is 4; allowed: grace, which is 5, or more"),
    ],
)
def test_numbers_that_make_no_rungs_are_refused(grace, factor, longest, text):
    with pytest.raises(ValueError, match=text):
        Halving(grace, factor, longest=longest)


def test_a_trial_goes_on_if_it_is_in_the_best_third_of_those_that_came_so_far():
    halving = Halving(2, longest=18)
    scores = [0.5, 0.4, 0.6, 0.55, 0.7, 0.65, 0.6, 0.1, 0.62]
    assert all(halving.decide(number, 1, 0.0) for number in range(9)), "before the first rung"
    went_on = [halving.decide(number, 2, score) for number, score in enumerate(scores)]
    expected = []
    for count, score in enumerate(scores, 1):
        rank = sorted(scores[:count], reverse=True).index(score)
        expected.append(rank < max(1, count // 3))
    assert went_on == expected
    assert went_on == [True, False, True, False, True, True, False, False, True]


def test_between_rungs_only_those_that_were_stopped_stop():
    halving = Halving(2, longest=18)
    assert halving.decide(0, 2, 0.9)
    assert not halving.decide(1, 2, 0.1)
    assert not halving.decide(1, 3, 1.0), "stopped is stopped"
    assert halving.decide(0, 3, 0.0)
    assert halving.decide(0, 4, 0.0)
    assert halving.decide(0, 2, 0.0), "a rung counts once"
    assert halving.decide(2, 2, 0.8) is False, "0.9 counts there, not what came later"


def test_a_rung_that_was_jumped_over_counts_at_the_next_epoch_told():
    halving = Halving(2, longest=100)
    assert halving.decide(0, 20, 0.5), "at 2, 6 and 18"
    assert not halving.decide(1, 7, 0.4)
    assert halving.decide(2, 5, 0.6)
    assert not halving.decide(2, 50, 0.3), "0.5 is better at 18"


def test_ties_go_on_and_a_score_that_is_no_number_stops():
    halving = Halving(1, longest=9)
    assert [halving.decide(number, 1, 0.5) for number in range(4)] == [True] * 4
    assert not halving.decide(4, 1, math.nan)
    assert not halving.decide(4, 2, 0.9)
    assert not halving.decide(0, 2, math.nan), "between rungs too"
    alone = Halving(1, longest=9)
    assert not alone.decide(0, 1, math.nan)
    assert alone.decide(1, 1, -5.0)


def test_nothing_goes_on_beyond_the_longest():
    halving = Halving(1, longest=9)
    assert halving.decide(0, 8, 1.0)
    assert not halving.decide(0, 9, 1.0)
    assert not halving.decide(1, 30, 2.0)


def test_side_by_side_the_best_third_survives_every_rung():
    halving = Halving(1, longest=27)
    scores = np.random.default_rng(0).permutation(27).astype(np.float64)
    alive = halving.survivors(scores, 1)
    assert set(scores[alive]) == set(range(18, 27))
    scores[~alive] = np.nan
    np.testing.assert_array_equal(halving.survivors(scores, 2), alive)
    alive = halving.survivors(scores, 3)
    assert set(scores[alive]) == {24, 25, 26}
    scores[~alive] = np.nan
    assert scores[halving.survivors(scores, 9)].tolist() == [26]
    np.testing.assert_array_equal(halving.survivors(scores, 27), alive)


def test_side_by_side_exactly_as_many_survive_and_never_one_without_a_score():
    halving = Halving(1, 2, longest=8)
    assert halving.survivors(np.zeros(5), 1).tolist() == [True, True, False, False, False]
    few = np.array([np.nan, -np.inf, np.nan], np.float32)
    assert halving.survivors(few, 1).tolist() == [False, True, False]
    assert halving.survivors(np.full(3, np.nan), 1).tolist() == [False] * 3
    assert halving.survivors(np.array([np.nan, 1.0]), 3).tolist() == [False, True]
    assert halving.survivors(np.zeros(0), 1).shape == (0,)


# --- importance


def test_what_mattered_comes_first_and_shares_sum_to_one():
    space = read_space(SPACE)
    outcomes = run(RandomSampler(space, 0), 60)
    shares = importance(space, outcomes)
    assert [key for key, _ in shares[:2]] == ["train.lr", "head.name"]
    assert sum(share for _, share in shares) == pytest.approx(1)
    assert {key for key, _ in shares} == set(space.keys)
    assert [share for _, share in shares] == sorted((share for _, share in shares), reverse=True)
    assert shares[0][1] > 0.8
    assert sum(share for _, share in shares[2:]) < 0.05
    assert importance(space, outcomes) == shares


def test_shares_are_those_of_the_variance_where_parameters_add_up():
    """Of a sum of independent parts, each explains the share of its own variance."""
    space = read_space({key: {"uniform": [-1, 1]} for key in "abc"})
    weights = {"a": 3.0, "b": 2.0, "c": 0.0}

    def score(values):
        return sum(weights[key] * value for key, value in values.items())

    shares = dict(importance(space, run(RandomSampler(space, 0), 300, score)))
    assert shares == pytest.approx({"a": 9 / 13, "b": 4 / 13, "c": 0}, abs=0.08)


def test_a_conditional_parameter_has_its_own_share_beside_what_it_hangs_on():
    """Of y = x d, the mean squares of what x (0 or 1) and d (0 to 1) change are as 2 to 1."""
    given = {
        "head.name": ["linear", "mlp"],
        "head.dropout": {"uniform": [0, 1], "when": MLP},
        "head.hidden": {"choice": [[1], [2]], "when": MLP},
        "train.lr": {"uniform": [0, 1]},
    }

    def score(values):
        return values.get("head.dropout", 0.0)

    space = read_space(given)
    shares = dict(importance(space, run(RandomSampler(space, 0), 300, score)))
    expected = {"head.name": 2 / 3, "head.dropout": 1 / 3, "head.hidden": 0, "train.lr": 0}
    assert shares == pytest.approx(expected, abs=0.08)


def test_fewer_than_eight_finished_trials_tell_nothing():
    space = read_space({"train.lr": {"loguniform": [1e-4, 1]}})
    outcomes = [({"train.lr": 10**-power}, -power) for power in np.linspace(0, 4, 8).tolist()]
    unfinished = [({"train.lr": 0.5}, score) for score in (None, math.nan, -math.inf)]
    as_written = [({}, 0.3)]
    assert importance(space, outcomes[1:] + unfinished + as_written) == []
    assert importance(space, outcomes + unfinished) == [("train.lr", 1.0)]


def test_scores_that_are_all_the_same_tell_nothing():
    space = read_space({"train.lr": {"loguniform": [1e-4, 1]}, "a": ["x", "y"]})
    outcomes = [(values, 0.7) for values, _ in run(RandomSampler(space, 0), 20, len)]
    assert importance(space, outcomes) == []
