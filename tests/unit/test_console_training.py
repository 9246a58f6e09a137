"""What a person sees of training and of a search: rows of epochs and of trials, as they come."""

import math
import time
from collections.abc import Iterable
from typing import Any

import pytest

from audioflow import console_turns
from audioflow.console import Console
from audioflow.console_status import Status
from audioflow.console_tables import HEADER_EVERY, MOST_EPOCH_LINES, WIDTH, EpochTable, Thinned
from audioflow.console_trials import MOST_TRIAL_LINES, TrialTable
from audioflow.events import Event
from audioflow.trial_text import setting_names, value_text

METRICS = {"val_accuracy": 0.8125, "val_macro_f1": 0.75, "val_map": 0.875, "val_auc": 0.9375}


def epoch(number: int, **more: Any) -> dict[str, Any]:
    record = {
        "epoch": number,
        "done": number,
        "train_loss": 2 / number,
        "val_loss": 2.5 / number,
        "metrics": METRICS,
        "lr": 1e-3,
        "seconds": 0.5,
        "fold": None,
        "best": False,
    }
    return record | more


def trial(number: int, score: float | None, best: tuple[int, float] | None, **more: Any) -> dict:
    told = None if best is None else {"number": best[0], "score": best[1]}
    data = {"number": number, "score": score, "best": told, "state": "finished"}
    return data | {"values": {"train.lr": 0.01}, "seconds": 2.0} | more


def texts(table: EpochTable | TrialTable, events: Iterable[dict[str, Any]]) -> list[str]:
    """All lines of a table, those of its end too."""
    lines = [line.text for data in events for line in table.add(data)]
    return lines + [line.text for line in table.rest()]


def epochs_of(lines: Iterable[str], column: int = 0) -> list[int]:
    """The epochs of the rows among these lines, without the titles."""
    cells = [line.split() for line in lines]
    return [int(row[column]) for row in cells if row[column].isdigit()]


def shown(capsys: pytest.CaptureFixture[str], events: Iterable[Event]) -> list[str]:
    console = Console()
    for event in events:
        console(event)
    console.close()
    return capsys.readouterr().out.splitlines()


# Systems side by side


def of(kind: str, name: str, **data: Any) -> Event:
    return Event("train", kind, name, data)


def two_systems() -> list[Event]:
    """Of two systems that are trained side by side, the second of which is done first."""
    begin = {"total": 2, "done": 0, "select": "val_loss"}
    end = {"rows": 1, "failures": 0, "seconds": 1.0}
    return [
        of("start", "audio", **begin),
        of("start", "video", **begin),
        of("epoch", "audio", **epoch(1)),
        of("epoch", "video", **epoch(1)),
        of("epoch", "video", **epoch(2)),
        of("done", "video", **end),
        of("epoch", "audio", **epoch(2)),
        of("verdict", "audio", text="bound by the network"),
        of("done", "audio", **end),
    ]


def test_systems_that_are_trained_side_by_side_read_one_after_the_other(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, two_systems())
    place = next(i for i, line in enumerate(lines) if "done" in line) + 1
    audio, video = lines[:place], lines[place:]
    assert all("video" not in line for line in audio)
    assert all("audio" not in line for line in video)
    for part in (audio, video):
        assert epochs_of(part) == [1, 2]
        assert "2 epochs" in part[0]
        assert part[1].split()[0] == "epoch"
        assert "done: 1 head, 1.0 s" in part[-1]


def test_a_system_that_waits_for_its_worker_keeps_no_other_from_speaking(
    capsys: pytest.CaptureFixture[str],
) -> None:
    events = two_systems()
    console = Console()
    for event in (*events[:2], events[3]):  # both have begun, the second one has ended an epoch
        console(event)
    assert epochs_of(capsys.readouterr().out.splitlines()) == [1]
    for event in (events[2], *events[4:]):
        console(event)
    lines = capsys.readouterr().out.splitlines()
    place = next(i for i, line in enumerate(lines) if "video  done" in line) + 1
    assert epochs_of(lines[:place]) == [2]
    assert "audio  2 epochs" in lines[place]
    assert epochs_of(lines[place:]) == [1, 2]
    assert "audio  done" in lines[-1]


def test_a_system_that_fails_lets_the_next_one_speak(capsys: pytest.CaptureFixture[str]) -> None:
    events = two_systems()
    failed = of("failed", "audio", error="clip 'x' has no patch")
    lines = shown(capsys, [*events[:4], failed, *events[4:6]])
    place = next(i for i, line in enumerate(lines) if "failed" in line)
    assert "audio  failed, and the others go on: clip 'x' has no patch" in lines[place]
    assert epochs_of(lines[place + 1 :]) == [1, 2]
    assert "video  done" in lines[-1]


def test_where_it_takes_long_the_end_of_another_system_is_told_at_once(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(console_turns, "_LONG_S", 0.0)
    lines = shown(capsys, two_systems())
    (told,) = [line for line in lines if "more of it when audio has ended" in line]
    assert "video  is done" in told
    assert lines.index(told) < next(i for i, line in enumerate(lines) if "audio  done" in line)


# Epochs


def test_epochs_are_aligned_rows_under_titles_with_the_best_ones_marked() -> None:
    table = EpochTable(total=3)
    first, second = epoch(1, best=True), epoch(2, train_loss=0.12344, lr=3.16e-5, seconds=12.25)
    assert texts(table, [first, second, epoch(3, val_loss=math.nan, best=True)]) == [
        "epoch  train loss  val loss  accuracy  macro F1        lr  seconds",
        "    1      2.0000    2.5000     0.812     0.750     0.001     0.50  best",
        "    2      0.1234    1.2500     0.812     0.750  3.16e-05     12.2",
        "    3      0.6667       nan     0.812     0.750     0.001     0.50  best",
    ]


@pytest.mark.parametrize(
    ("select", "title", "value"),
    [
        ("val_map", "mAP", "0.875"),
        ("val_auc", "AUC", "0.938"),
        ("val_accuracy", "macro F1", "0.750"),
        ("last", "macro F1", "0.750"),
    ],
)
def test_the_metric_that_selects_has_a_column(select: str, title: str, value: str) -> None:
    head, row = texts(EpochTable(total=1, select=select), [epoch(1)])
    assert head.index(title) + len(title) == row.index(value) + len(value)
    assert ("macro F1" in head) == (title == "macro F1")


def test_where_the_last_epoch_is_kept_none_is_called_best() -> None:
    assert "best" not in " ".join(texts(EpochTable(2, select="last"), [epoch(1, best=True)]))


def test_without_val_there_are_no_columns_of_it() -> None:
    lines = texts(EpochTable(total=1, select="last"), [epoch(1, val_loss=None, metrics={})])
    assert lines[0].split() == ["epoch", "train", "loss", "lr", "seconds"]
    assert lines[1].split() == ["1", "2.0000", "0.001", "0.50"]


def test_a_head_that_is_fitted_in_one_go_has_one_row_without_a_learning_rate() -> None:
    lines = texts(EpochTable(total=1, fitted=True), [epoch(1, lr=0.0, best=True)])
    assert len(lines) == 2
    assert "lr" not in lines[0].split()
    assert lines[1].split() == ["1", "2.0000", "2.5000", "0.812", "0.750", "0.50"]


def test_a_learning_rate_of_0_is_shown() -> None:
    assert texts(EpochTable(total=1), [epoch(1, lr=0.0)])[1].split()[-2] == "0"


def test_folds_have_a_column() -> None:
    folds = ["1", "2", "site-north-east"]
    lines = texts(EpochTable(total=3, folds=folds), [epoch(1, fold=fold) for fold in folds])
    assert [line[:10].strip() for line in lines] == ["fold", "1", "2", "site-no..."]
    assert max(map(len, lines)) <= WIDTH


@pytest.mark.parametrize("count", [2, 4, 9])
def test_layers_have_their_accuracies_as_far_as_there_is_room(count: int) -> None:
    names = [f"conv{number}_objects" for number in range(1, count + 1)]
    layers = {f"val_accuracy[{name}]": 0.1 + 0.001 * place for place, name in enumerate(names)}
    table = EpochTable(total=1000, folds=["a" * 20, "b"], select="val_map")
    lines = texts(table, [epoch(1, metrics=METRICS | layers, fold="b", best=True)])
    row = lines[-1]
    hidden = lines[0].split("accuracy of ")[1].split(", ") if len(lines) == 3 else []
    assert [f"{value:.3f}" in row for value in layers.values()] == [n not in hidden for n in names]
    assert len(hidden) < count
    assert all(len(line) <= WIDTH for line in lines[-2:])


def test_titles_come_again_after_some_rows() -> None:
    table = EpochTable(total=MOST_EPOCH_LINES)
    lines = texts(table, map(epoch, range(1, MOST_EPOCH_LINES + 1)))
    titles = [place for place, line in enumerate(lines) if line.startswith("epoch")]
    assert titles == [0, HEADER_EVERY + 1]


@pytest.mark.parametrize("total", [60, 61, 100, 1000, 9999])
@pytest.mark.parametrize("often", [1, 2, 7, 5000])
def test_of_many_epochs_first_last_and_best_are_shown(total: int, often: int) -> None:
    records = [epoch(n, best=n % often == 0 and n < total) for n in range(1, total + 1)]
    rows = epochs_of(texts(EpochTable(total), records))
    best = [record["epoch"] for record in records if record["best"]]
    assert rows == sorted(set(rows))
    assert len(rows) <= MOST_EPOCH_LINES
    assert {1, total} <= set(rows)
    assert set(best[-1:]) <= set(rows)  # the one that is kept in the end


def test_the_rows_of_all_folds_together_are_few_too() -> None:
    folds = list("abcde")
    records = [
        epoch(n, fold=fold, best=n in (1, 33)) for n in range(1, 101) for fold in folds
    ]  # they are trained side by side
    lines = texts(EpochTable(500, folds), records)
    rows = [line for line in lines if not line.startswith("fold")]
    assert len(rows) <= MOST_EPOCH_LINES
    for fold in folds:
        mine = epochs_of([row for row in rows if row.split()[0] == fold], column=1)
        assert {1, 33, 100} <= set(mine)


def test_a_training_that_ends_early_shows_its_last_epoch() -> None:
    records = [epoch(number, best=number == 30) for number in range(1, 41)]
    assert epochs_of(texts(EpochTable(1000), records)) == [1, 18, 30, 40]


def test_a_training_that_is_taken_up_again_begins_where_it_was() -> None:
    rows = epochs_of(texts(EpochTable(300), [epoch(n) for n in range(151, 301)]))
    assert (rows[0], rows[-1]) == (151, 300)


@pytest.mark.parametrize("most", [1, 2, 3, 7])
def test_thinned_rows_are_about_as_many_as_asked_for(most: int) -> None:
    thinned = Thinned(100, most)
    rows = [row for n in range(1, 101) for row in thinned.add(n, {"n": n}, best=n == 42)]
    rows += thinned.rest()
    assert len(rows) <= most + 1
    assert {"n": 42} in rows


# Trials


def test_trials_are_rows_with_their_score_the_best_so_far_and_their_settings() -> None:
    lines = texts(
        TrialTable(total=4, select="val_accuracy"),
        [
            trial(0, 0.8, (0, 0.8), values={}),
            trial(2, 0.5, (0, 0.8), state="stopped"),
            trial(1, None, (0, 0.8), state="failed"),
            trial(3, 0.9, (3, 0.9), values={"head.name": "mlp", "head.hidden": [256, 128]}),
        ],
    )
    assert lines == [
        "trial  accuracy    best so far  settings",
        "    0    0.8000           best  as written",
        "    2    0.5000     0.8000 (0)  (stopped) lr=0.01",
        "    1         -     0.8000 (0)  (failed) lr=0.01",
        "    3    0.9000           best  head=mlp hidden=[256,128]",
        "best: trial 3, accuracy 0.9000 (as written 0.8000): head=mlp hidden=[256,128]",
    ]


def test_a_loss_is_shown_without_the_minus_of_its_score() -> None:
    lines = texts(TrialTable(1, "val_loss"), [trial(0, -0.25, (0, -0.25), values={})])
    assert lines[0].split() == ["trial", "val", "loss", "best", "so", "far", "settings"]
    assert lines[1].split()[1] == "0.2500"
    assert lines[2] == "best: trial 0, val loss 0.2500 (as written 0.2500): as written"


def test_settings_that_are_as_written_are_left_out() -> None:
    table = TrialTable(1, default={"train.lr": 0.01, "train.mixup": 0})
    lines = texts(table, [trial(1, 0.5, (1, 0.5), values={"train.lr": 0.01, "train.mixup": 0.2})])
    assert lines[1].endswith("best  mixup=0.2")


def test_a_search_without_a_score_has_no_best_trial() -> None:
    lines = texts(TrialTable(1), [trial(0, None, None, state="failed")])
    assert lines[1].split()[:3] == ["0", "-", "-"]
    assert len(lines) == 2


def test_of_many_trials_few_are_shown_and_the_best_ones_always() -> None:
    best: tuple[int, float] | None = None
    events, records = [], set()
    for number in range(1000):
        score = math.sin(number) + number / 400
        if best is None or score > best[1]:
            best = (number, score)
            records = {number}
        values = {f"train.setting_{place}": 0.123456 for place in range(12)}
        events.append(trial(number, score, best, values=values))
    lines = texts(TrialTable(1000), events)
    rows = epochs_of(line for line in lines if not line.startswith("best:"))
    assert len(rows) <= MOST_TRIAL_LINES
    assert {0, 999} | records <= set(rows)
    assert max(len(line) for line in lines[:-1]) <= WIDTH
    assert lines[-1].count("setting_") == 12  # the best one's settings are never cut off


def test_a_best_trial_from_before_an_interruption_is_named_without_its_settings() -> None:
    lines = texts(TrialTable(1), [trial(8, 0.5, (3, 0.9))])
    assert lines[-1] == "best: trial 3, score 0.9000"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.000316227766, "0.000316"),
        (0, "0"),
        (64, "64"),
        (None, "none"),
        (True, "true"),
        ("mlp", "mlp"),
        ([512, 256], "[512,256]"),
    ],
)
def test_values_are_short(value: Any, text: str) -> None:
    assert value_text(value) == text


def test_settings_are_named_by_their_shortest_ends_that_differ() -> None:
    keys = ("train.lr", "head.name", "head.dropout", "pooling.dropout", "train.schedule.name")
    assert list(setting_names(keys).values()) == [
        "lr",
        "head",
        "head.dropout",
        "pooling.dropout",
        "schedule",
    ]


# The console


def taken_up() -> list[Event]:
    """Training that goes on after 370 of 400 epochs, as its worker says when it begins."""
    return [
        of("start", "audio", total=400, done=0, select="val_loss"),
        of("progress", "audio", done=370, total=400, before=370),
        of("note", "audio", text="goes on after epoch 370"),
        *(of("epoch", "audio", **epoch(number)) for number in range(371, 377)),
    ]


def test_a_training_that_goes_on_counts_from_where_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(capsys, taken_up())
    assert lines[0].endswith("train audio  400 epochs, the best one by val loss is kept")
    assert lines[1].endswith("train audio  goes on after epoch 370")
    status = Status("train", 400)
    for place, event in enumerate(taken_up()[1:]):
        status.add(event, late_s=100 - 0.5 * place)
    assert status.text().startswith("376/400 epochs  ")
    assert "left" in status.text()


def test_what_a_job_needs_to_start_is_no_part_of_rate_and_time_left() -> None:
    status = Status("embed", 4000, late_s=60.0)
    assert status.text() == "0/4000 clips  starting, 60 s"
    for shard in range(1, 11):  # of 20 clips each, one a second
        late_s = 10.0 - shard
        status.add(Event("embed", "shard", "a", {"wall_s": 1.0, "seconds": {}}), late_s)
        progress = {"done": 20 * shard, "media_s": 100.0 * shard, "failures": 2}
        status.add(Event("embed", "progress", "a", progress), late_s)
    assert status.text() == (
        "200/4000 clips  20.0 clips/s  100x real time  2 failures  3.2 min left"
    )
    status.add(Event("embed", "progress", "a, b", progress), 0.0)
    assert "  2 failures in 2 tables  " in status.text()


def test_training_the_best_head_of_a_search_is_none_of_its_trials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("audioflow.console.STATUS_EVERY_S", 0.0)
    console = Console()
    console.begin("tune", "runs/x")
    console(Event("tune", "start", "found", {"total": 3, "done": 1}))
    console(of("progress", "found", done=20, total=30, before=20))
    until = time.monotonic() + 30
    while "/3 trials" not in (told := capsys.readouterr().out):
        assert time.monotonic() < until
        time.sleep(0.1)
    console.close()
    assert "1/3 trials" in told


def test_the_console_shows_a_training_as_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    start = {"total": 4, "done": 0, "folds": ["1", "2"], "select": "val_map", "fitted": False}
    records = [epoch(n, fold=fold, best=True) for n in (1, 2) for fold in ("1", "2")]
    lines = shown(
        capsys,
        [
            Event("train", "start", "audio", start),
            *(Event("train", "epoch", "audio", record) for record in records),
            Event("train", "done", "audio", {"rows": 2, "failures": 0, "seconds": 3.0}),
        ],
    )
    assert lines[0].endswith("train audio  4 epochs in 2 folds, the best one by val map is kept")
    assert lines[1].split() == "fold epoch train loss val loss accuracy mAP lr seconds".split()
    assert [line.split()[:2] for line in lines[2:6]] == [[f, e] for e in "12" for f in "12"]
    assert lines[6].endswith("train audio  done: 2 heads, 3.0 s")


def test_the_console_says_that_a_head_is_fitted_in_one_go(
    capsys: pytest.CaptureFixture[str],
) -> None:
    start = {"total": 1, "done": 0, "folds": [], "select": "val_loss", "fitted": True}
    lines = shown(capsys, [Event("train", "start", "audio", start)])
    assert [line.split("  ")[1] for line in lines] == ["fitted in one go"]


def test_every_system_has_titles_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    events = []
    for name in ("audio", "video"):
        events.append(Event("train", "start", name, {"total": 1, "done": 0}))
        events.append(Event("train", "epoch", name, epoch(1)))
        events.append(Event("train", "done", name, {"rows": 1}))
    assert sum(line.startswith("epoch") for line in shown(capsys, events)) == 2


def test_the_console_shows_a_search_and_its_best_trial(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = shown(
        capsys,
        [
            Event("tune", "start", "tuned", {"total": 3, "done": 1}),
            Event("tune", "trial", "tuned", trial(1, 0.5, (1, 0.5))),
            Event("tune", "trial", "tuned", trial(2, 0.4, (1, 0.5))),
            Event("train", "epoch", "tuned", epoch(1)),  # the best setting is trained at the end
            Event("tune", "done", "tuned", {"rows": 3, "failures": 0, "seconds": 7.5}),
        ],
    )
    assert lines[0].endswith("tune tuned  3 trials, 1 of them done before")
    assert [line.split()[0] for line in lines[1:4]] == ["trial", "1", "2"]
    assert lines[4] == "best: trial 1, score 0.5000: lr=0.01"
    assert lines[5].endswith("tune tuned  done: 3 trials, 7.5 s")
    assert len(lines) == 6


def test_a_terminal_has_a_bar_of_trials(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    out = "\n".join(
        shown(
            capsys,
            [
                Event("tune", "start", "tuned", {"total": 2, "done": 0}),
                Event("tune", "trial", "tuned", trial(0, 0.5, (0, 0.5))),
                Event("tune", "trial", "tuned", trial(1, 0.4, (0, 0.5))),
                Event("tune", "done", "tuned", {"rows": 2}),
            ],
        )
    )
    assert "2/2 trials" in out
    assert "best: trial 0" in out
