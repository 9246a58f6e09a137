"""A search in the report: its section of the page, its charts, its figures in report.json."""

import io
import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from audioflow.engine.report_sweeps import sweep_of
from audioflow.report import ReportData, Sweep, SweepParameter, SweepTrial, build
from audioflow.report.parallel import MOST_LINES, ParallelAxis, drawn, log_ticks, parallel
from audioflow.report.sweep_views import MAX_TRIAL_ROWS, best_so_far
from audioflow.report.words import score_text, sweep_finding
from audioflow.schemas import TRIALS_SCHEMA
from audioflow.storage import Folder
from audioflow.tables import Header, Table
from tests.unit.report_pages import Page, build_text, load, make_data, make_system, page_of

PARAMETERS = (
    SweepParameter("train.lr", low=1e-4, high=0.1, log=True),
    SweepParameter("train.epochs", low=10, high=60),
    SweepParameter("head.name", options=("linear", "mlp")),
    SweepParameter("head.hidden", options=([128], [512, 256])),
)
WRITTEN = {"train.lr": 1e-3, "train.epochs": 30, "head.name": "mlp", "head.hidden": [128]}


def make_trial(number: int, score: float | None, **more: Any) -> SweepTrial:
    values = more.pop("values", {"train.lr": 0.01, "train.epochs": 20, "head.name": "linear"})
    state = more.pop("state", "finished" if score is not None else "failed")
    return SweepTrial(number, values, score, more.pop("epochs", 20), 1.5, state, **more)


def make_sweep(*trials: SweepTrial, **more: Any) -> Sweep:
    scored = [(trial.score, -trial.number) for trial in trials if trial.score is not None]
    best = None if not scored else (-max(scored)[1], max(scored)[0])
    values: dict[str, Any] = {
        "name": "tuned",
        "system": "audio",
        "search": "random",
        "metric": "val_accuracy",
        "mode": "stacked",
        "seconds": 41.0,
        "parameters": PARAMETERS,
        "trials": trials,
        "best": best,
        "default_score": trials[0].score if trials and not trials[0].values else None,
        "written": WRITTEN,
    }
    return Sweep(**(values | more))


def random_sweep(count: int = 60, **more: Any) -> Sweep:
    """The settings as written, and others of which the best learning rate is about 0.01."""
    rng = np.random.default_rng(0)
    trials = [make_trial(0, 0.7, values={})]
    for number in range(1, count):
        lr = float(10 ** rng.uniform(-4, -1))
        values = {"train.lr": lr, "train.epochs": int(rng.integers(1, 7)) * 10}
        values |= {"head.name": "linear"}
        if rng.random() < 0.5:
            values |= {"head.name": "mlp", "head.hidden": [512, 256]}
        score = 0.9 - 0.1 * (math.log10(lr) + 2) ** 2 + float(rng.normal()) * 0.01
        state = "stopped" if number % 7 == 0 else "finished"
        trials.append(make_trial(number, score, values=values, state=state))
    importance = (("train.lr", 0.75), ("head.name", 0.25))
    return make_sweep(*trials, **({"importance": importance} | more))


def data_with(*sweeps: Sweep) -> ReportData:
    return make_data(make_system("audio"), make_system("tuned", seed=4), sweeps=sweeps)


def text_of(*sweeps: Sweep) -> str:
    return build_text(data_with(*sweeps), num_bootstrap=2)["index.html"].decode()


def axis(sweep: Sweep, key: str) -> ParallelAxis:
    return next(one for one in parallel(sweep).axes if one.key == key)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return build(data_with(random_sweep()), num_bootstrap=2)


def section(page: Page, title: str, after: str = "The data") -> str:
    return page.text.partition(title)[2].partition(after)[0]


def test_the_page_says_what_was_found_and_shows_every_trial(files: dict[str, bytes]) -> None:
    sweep, page, text = random_sweep(), page_of(files), files["index.html"].decode()
    assert sweep.best is not None
    number, score = sweep.best
    told = section(page, "The search tuned")
    assert f"Trial {number} is best, with accuracy {score:.4f} on val" in told
    assert f"{score - 0.7:.4f} more than the settings as written" in told
    assert "What matters most is train.lr: 75 % of what scores vary by." in told
    assert "random search on audio 60 trials: 52 finished, 8 stopped early" in told
    rows = trial_rows(text, "search-0-trials")
    assert sorted(int(row[0]) for row in rows) == list(range(60))
    scores = [float(row[1]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    assert rows[0] == [str(number), f"{score:.4f}", *rows[0][2:-1], "best"]
    assert next(row for row in rows if row[0] == "0")[-1] == "as written"


def trial_rows(text: str, id_: str) -> list[list[str]]:
    start = text.index(f'id="{id_}"')
    body = text[text.index("<tbody>", start) : text.index("</table>", start)]
    return [re.findall(r"<t[hd][^>]*>([^<]*)", row) for row in body.split("<tr")[1:]]


def test_the_settings_of_the_best_trial_stand_beside_those_as_written() -> None:
    values = {"train.lr": 0.0123456, "train.epochs": 30, "head.name": "linear"}
    written = {key: value for key, value in WRITTEN.items() if key != "train.epochs"}
    trials = make_trial(0, 0.5, values={}), make_trial(1, 0.75, values=values)
    sweep = make_sweep(*trials, written=written)
    told = section(page_of({"index.html": text_of(sweep).encode()}), "The search tuned")
    assert (
        "setting best trial as written train.lr 0.0123 0.001 train.epochs 30 not given "
        "head.name linear mlp head.hidden – [128]"
    ) in told


def test_where_the_settings_as_written_are_best_none_are_proposed() -> None:
    sweep = make_sweep(make_trial(0, 0.75, values={}), make_trial(1, 0.5))
    text = text_of(sweep)
    assert "<span>2 trials</span>" in text  # all finished
    assert "No trial was better than the settings as written, with accuracy 0.7500 on val." in text
    assert "best-settings" not in text.partition("</style>")[2]
    assert trial_rows(text, "search-0-trials")[0][-1] == "best, as written"


def test_every_search_has_a_section_and_a_link() -> None:
    page = page_of({"index.html": text_of(random_sweep(), random_sweep(name="other")).encode()})
    links = {a.get("href") for tag, a in page.tags if tag == "a"}
    assert {"#search-0", "#search-1"} <= links
    assert {"search-0", "search-1"} <= set(page.ids())
    assert "Search tuned Search other" in page.text


def test_without_a_search_the_page_has_no_such_section() -> None:
    page = page_of({"index.html": text_of().encode()})
    assert not [id_ for id_ in page.ids() if id_.startswith("search")]


def test_the_page_stands_without_its_script(files: dict[str, bytes]) -> None:
    page = page_of(files)
    charts = [a for tag, a in page.tags if tag == "svg" and "parallel" in (a.get("class") or "")]
    assert len(charts) == 1
    ways = [a for tag, a in page.tags if tag == "path" and "way" in (a.get("class") or "").split()]
    assert len(ways) == 60 + 1  # the best one lies on a band that parts it from the others
    assert [a["class"] for a in ways[-2:]] == ["way under", "way first"]
    assert page.text.count("best so far") == 1


def test_scores_that_are_losses_are_shown_as_losses() -> None:
    trials = (make_trial(0, -0.5, values={}), make_trial(1, -0.25), make_trial(2, -1.0))
    sweep = make_sweep(*trials, metric="val_loss")
    assert sweep_finding(sweep) == (
        "Trial 1 is best, with loss 0.2500 on val: 0.2500 less than the settings as written."
    )
    text = text_of(sweep)
    assert [row[1] for row in trial_rows(text, "search-0-trials")] == ["0.2500", "0.5000", "1.0000"]
    top, *_, bottom = sorted(axis(sweep, "val_loss").marks, reverse=True)
    assert float(top[1]) < float(bottom[1])
    assert axis(sweep, "val_loss").places == pytest.approx({0: 2 / 3, 1: 1.0, 2: 0.0})
    assert score_text(sweep, None) == "–"


def test_failed_trials_are_told_with_their_reason_and_not_drawn() -> None:
    failed = make_trial(1, None, reason="<b>the loss is NaN</b>")
    text = text_of(make_sweep(make_trial(0, 0.5, values={}), failed))
    assert "&lt;b&gt;the loss is NaN" in text
    assert "2 trials: 1 finished, 1 failed" in text
    assert trial_rows(text, "search-0-trials")[1][:2] == ["1", "–"]
    assert 1 not in axis(make_sweep(make_trial(0, 0.5, values={}), failed), "train.lr").places


def test_a_search_in_which_all_failed_says_so() -> None:
    sweep = make_sweep(make_trial(0, None, values={}), make_trial(1, None))
    files = build(data_with(sweep), num_bootstrap=2)
    told = section(page_of(files), "The search tuned")
    assert told.strip().startswith("No trial got a score.")
    assert not [name for name in files if name.startswith(("search", "trials"))]


def test_with_folds_the_page_says_which_setting_each_head_got() -> None:
    sweep = random_sweep(chosen={"1": 12, "2": 3, "3": 12})
    told = "has what was best on the other folds: trial 3 for fold 2; trial 12 for folds 1 and 3."
    assert told in text_of(sweep)
    assert "on the other folds" not in text_of(random_sweep(chosen={"": 12}))


def test_names_of_settings_and_values_from_outside_are_escaped() -> None:
    evil = "</title><script>alert(1)</script>"
    parameter = SweepParameter("head.<i>", options=(evil, "b"))
    trials = [make_trial(n, n / 4, values={"head.<i>": (evil, "b")[n % 2]}) for n in range(3)]
    sweep = make_sweep(*trials, parameters=(parameter,), written={}, name="<b>tuned")
    page = page_of({"index.html": text_of(sweep).encode()})
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert [attrs for attrs in scripts if attrs.get("type") != "application/json"] == [{}]
    assert evil in page.text


def test_only_the_best_of_very_many_trials_are_listed_and_drawn() -> None:
    sweep = random_sweep(count=2000)
    text = text_of(sweep)
    rows = trial_rows(text, "search-0-trials")
    best = sorted((t.score for t in sweep.trials if t.score is not None), reverse=True)
    assert [row[1] for row in rows] == [f"{score:.4f}" for score in best[:MAX_TRIAL_ROWS]]
    assert "Shown are the best 300 of 2,000; all are in report.json." in text
    shown = drawn(sweep.trials)
    assert len(shown) <= MOST_LINES
    assert shown[-1].number == (sweep.best or (None,))[0]
    assert min(trial.score or 0 for trial in shown) == best[-1]
    assert len(text) < 700_000


# Axes


def test_a_logarithmic_axis_has_every_factor_alike() -> None:
    rates = {0: 1e-4, 1: 1e-3, 2: 1e-2, 3: 1e-1}
    sweep = make_sweep(*(make_trial(n, n / 4, values={"train.lr": lr}) for n, lr in rates.items()))
    assert axis(sweep, "train.lr").places == pytest.approx({0: 0, 1: 1 / 3, 2: 2 / 3, 3: 1})
    assert axis(sweep, "train.lr").marks == tuple(
        (pytest.approx(place / 3), text)
        for place, text in enumerate(("0.0001", "0.001", "0.01", "0.1"))
    )


def test_a_number_axis_has_room_below_it_for_trials_without_a_value() -> None:
    with_it = make_trial(0, 0.5, values={"train.epochs": 10})
    top = make_trial(1, 0.25, values={"train.epochs": 60})
    without = make_trial(2, 0.75, values={"train.lr": 0.01})
    places = axis(make_sweep(with_it, top, without), "train.epochs").places
    assert places[2] == 0
    assert 0 < places[0] < places[1] == 1
    assert axis(make_sweep(with_it, top), "train.epochs").places == {0: 0.0, 1: 1.0}


def test_a_value_beyond_the_space_widens_its_axis() -> None:
    sweep = make_sweep(make_trial(0, 0.5, values={}), written={"train.epochs": 110})
    found = axis(sweep, "train.epochs")
    assert found.places[0] == 1
    assert found.marks[-1][1] == "100"


def test_options_are_rows_of_their_own_with_the_better_trials_higher() -> None:
    names = ["linear", "mlp", "mlp", "linear", "mlp"]
    trials = [make_trial(n, n / 8, values={"head.name": name}) for n, name in enumerate(names)]
    places = axis(make_sweep(*trials), "head.name").places
    assert places[1] < places[2] < places[4] < 0.5 < places[0] < places[3]
    odd = make_trial(5, 0.1, values={"head.name": "gated"})
    marks = axis(make_sweep(*trials, odd), "head.name").marks
    assert [text for _, text in marks] == ["gated", "mlp", "linear"]


def test_what_a_trial_leaves_as_written_is_drawn_where_it_is_known() -> None:
    default = make_trial(0, 0.5, values={})
    found = axis(make_sweep(default, written={"train.lr": 1e-3}), "train.lr")
    assert found.places == pytest.approx({0: 1 / 3})
    assert axis(make_sweep(default, written={}), "train.lr").places == {0: 0.0}


def test_lines_are_ranked_by_score_and_the_best_comes_last() -> None:
    lines = parallel(random_sweep())
    assert [way.is_best for way in lines.ways] == [False] * 59 + [True]
    assert all(a.trial.score <= b.trial.score for a, b in pairwise(lines.ways))  # type: ignore[operator]
    assert (lines.ways[0].rank, lines.ways[-1].rank) == (0, 1)
    assert all(0 <= place <= 1 for way in lines.ways for place in way.places)
    assert all(len(way.places) == len(PARAMETERS) + 1 for way in lines.ways)


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (1e-4, 0.1, [1e-4, 1e-3, 1e-2, 0.1]),
        (3e-4, 2e-2, [5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2]),
        (0.3, 0.4, [0.3, 0.4]),
    ],
)
def test_logarithmic_ticks_are_round(low: float, high: float, expected: list[float]) -> None:
    assert log_ticks(low, high) == pytest.approx(expected)


def test_the_best_so_far_only_rises() -> None:
    trials = [make_trial(n, score) for n, score in enumerate((0.5, None, 0.4, 0.7, 0.7, 0.9))]
    assert best_so_far(make_sweep(*reversed(trials))) == [(0, 0.5), (3, 0.7), (5, 0.9)]


# Files


def test_json_has_every_trial(files: dict[str, bytes]) -> None:
    (found,) = load(files)["sweeps"]
    sweep = random_sweep()
    assert found["best"] == list(sweep.best or ())
    assert found["importance"] == [["train.lr", 0.75], ["head.name", 0.25]]
    assert [trial["score"] for trial in found["trials"]] == [t.score for t in sweep.trials]
    assert found["trials"][3]["values"] == dict(sweep.trials[3].values)
    assert load(build_text(data_with(), num_bootstrap=2))["sweeps"] == []


def test_the_charts_are_pictures_too(files: dict[str, bytes]) -> None:
    names = sorted(name for name in files if name.startswith(("search", "trials")))
    assert names == ["search_tuned.png", "trials_tuned.png"]
    for name in names:
        picture = Image.open(io.BytesIO(files[name])).convert("RGB")
        assert min(picture.size) > 300, name
        assert len(picture.getcolors(2**24) or []) > 20, name
    assert (
        build(data_with(random_sweep()), num_bootstrap=2)["search_tuned.png"]
        == (files["search_tuned.png"])
    )


def test_a_search_in_the_colour_of_its_tuned_system(files: dict[str, bytes]) -> None:
    page = page_of(files)
    charts = [a["class"] for tag, a in page.tags if "parallel" in (a.get("class") or "")]
    assert charts == ["parallel s1"]
    other = page_of({"index.html": text_of(random_sweep(name="unscored")).encode()})
    charts = [a["class"] for tag, a in other.tags if "parallel" in (a.get("class") or "")]
    assert charts == ["parallel s0"]


# The table


def write_table(folder: Path, rows: list[dict[str, Any]], **stats: Any) -> tuple[Table, Header]:
    base = {"backbone": "acoustic", "head": {"name": "mlp", "hidden": [128]}, "pooling": None}
    base |= {"train": {"lr": 1e-3, "select": "val_macro_f1"}}
    space = {
        "train.lr": {"loguniform": [1e-4, 0.1]},
        "head.name": ["linear", "mlp"],
        "head.hidden": {"choice": [[128], [512, 256]], "when": {"head.name": "mlp"}},
        "train.epochs": {"int": [10, 60], "step": 10},
        "pooling.name": ["mean", "max"],
    }
    settings = {"system": "audio", "search": "optuna", "trials": 3, "space": space, "base": base}
    table = Table(Folder(str(folder)))
    receipt = table.commit("trials-0", pa.Table.from_pylist(rows, schema=TRIALS_SCHEMA))
    header = Header(
        kind="tune",
        name="tuned",
        fingerprint="0" * 32,
        parents={},
        settings=settings,
        rows=len(rows),
        failures=0,
        shards=[receipt],
        stats={"seconds": 4.5, "mode": "stacked"} | stats,
    )
    return table, table.finish(header)


def row(number: int, values: dict[str, Any], score: float | None, **more: Any) -> dict[str, Any]:
    found = {"number": number, "values": json.dumps(values), "score": score, "scores": [0.5, 0.7]}
    return found | {"epochs": 9, "seconds": 1.5, "state": "finished", "reason": None} | more


def test_a_table_of_trials_is_read_as_plain_values(tmp_path: Path) -> None:
    rows = [
        row(2, {"train.lr": 0.01, "head.name": "mlp", "head.hidden": [512, 256]}, 0.75),
        row(0, {}, 0.5) | {"values": ""},
        row(1, {"train.lr": 0.1}, None, state="failed", reason="diverged", scores=[]),
    ]
    stats = {"best": {"number": 2, "score": 0.75}, "default_score": 0.5}
    stats |= {"importance": [["train.lr", 0.9], ["head.name", 0.1]], "chosen": {"a": 2}}
    sweep = sweep_of(*write_table(tmp_path, rows, **stats))
    assert [trial.number for trial in sweep.trials] == [0, 1, 2]
    assert sweep.trials[0] == SweepTrial(0, {}, 0.5, 9, 1.5, "finished", "", (0.5, 0.7))
    assert sweep.trials[1].reason == "diverged"
    assert sweep.trials[2].values["head.hidden"] == [512, 256]
    assert {parameter.key: parameter for parameter in sweep.parameters} == {
        "train.lr": SweepParameter("train.lr", low=1e-4, high=0.1, log=True),
        "head.name": SweepParameter("head.name", options=("linear", "mlp")),
        "head.hidden": SweepParameter("head.hidden", options=([128], [512, 256])),
        "train.epochs": SweepParameter("train.epochs", low=10, high=60),
        "pooling.name": SweepParameter("pooling.name", options=("mean", "max")),
    }
    assert sweep.best == (2, 0.75)
    assert sweep.default_score == 0.5
    assert sweep.importance == (("train.lr", 0.9), ("head.name", 0.1))
    assert sweep.written == {"train.lr": 1e-3, "head.name": "mlp", "head.hidden": [128]}
    assert (sweep.metric, sweep.system, sweep.search) == ("val_macro_f1", "audio", "optuna")
    assert sweep.chosen == {"a": 2}
    assert "Trial 2 is best, with macro F1 0.7500 on val" in text_of(sweep)


def test_a_score_that_is_no_number_is_none(tmp_path: Path) -> None:
    rows = [row(0, {}, math.nan), row(1, {"train.lr": 0.1}, None)]
    sweep = sweep_of(*write_table(tmp_path, rows, best=None, default_score=math.nan))
    assert [trial.score for trial in sweep.trials] == [None, None]
    assert (sweep.best, sweep.default_score) == (None, None)
    assert "No trial got a score." in text_of(replace(sweep, importance=()))
