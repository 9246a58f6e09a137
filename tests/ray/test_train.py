"""The job `train` on a real Ray: streamed, killed, cross-validated, and with heads of all kinds."""

import inspect
import signal
from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from audioflow.division import CROSS_VALIDATED
from audioflow.engine import train_epochs, train_together
from audioflow.engine.flow import run_job
from audioflow.engine.room import Room
from audioflow.engine.run import Run
from audioflow.engine.train import train_task
from audioflow.engine.train_data import example_sets
from audioflow.engine.train_fits import Fits
from audioflow.engine.train_loop import streaming
from audioflow.engine.train_stream import StreamSource, StreamTask, plan_stream
from audioflow.engine.train_task import TrainTask
from audioflow.errors import InputError
from audioflow.events import EpochRecord
from audioflow.planning.machines import Need
from audioflow.storage import local_path
from audioflow.systems.examples import Examples
from audioflow.systems.network import network_for
from audioflow.training import Workers, class_weights, fit
from audioflow.training.batches import Share, loss_weights
from audioflow.verify import verify
from tests.ray.vectors import (
    CLASSES,
    Corpus,
    FatalTeller,
    bundle_of,
    heard,
    kill_when,
    make_run,
    most_apart,
    records_of,
    scored,
    weights_of,
    write_tables,
)

pytestmark = pytest.mark.usefixtures("ray_session")

UNEVEN = [150, 15, 15, 3, 17, 20, 10, 10]
"""Clips in shards: one has ten times as many as others; the fourth has none to learn from."""
TRAIN = {"epochs": 4, "lr": 0.01, "batch_size": 32, "cpus_per_worker": 0.5}


def anywhere(needs: Sequence[Need], name: str = "") -> Room:
    """Room that is waited for as long as a recipe without a word of it waits."""
    return Room(needs, None, print)


def system(head: Any = "linear", **more: Any) -> dict[str, Any]:
    train = TRAIN | more.pop("train", {})
    return {"backbone": "feats", "head": head, "train": train} | more


def fitted(head: Any, **train: Any) -> dict[str, Any]:
    """A system of a head that scikit-learn fits."""
    return {"backbone": "feats", "head": head, "train": {"cpus_per_worker": 0.5} | train}


def uneven() -> Corpus:
    """Clips of 1, 2 or 3 patches; those of the fourth shard are all for the test."""
    splits = (["train", "train", "val", "test"] * 60)[:240]
    splits[180:183] = ["test"] * 3
    return Corpus(splits=splits, patches=(1, 3, 2))


def trained(folder: Path, corpus: Corpus, shards: Any = None, **sections: Any) -> Run:
    run = make_run(folder, **sections)
    write_tables(run, corpus, shards=shards)
    run_job("train", run)
    return run


def task_of(run: Run, name: str) -> TrainTask:
    return train_task(run, name, run.recipe.systems[name])


@pytest.mark.slow
def test_streamed_heads_are_the_same_by_one_worker_and_by_two(tmp_path: Path) -> None:
    ways = {
        "memory": {"ingest": "memory"},
        "one": {"ingest": "stream"},
        "two": {"ingest": "stream", "workers": 2},
    }
    systems = {name: system(train=way) for name, way in ways.items()}
    run = trained(tmp_path, uneven(), UNEVEN, systems=systems)
    losses = {name: [r["val_loss"] for r in records_of(run, name)] for name in ways}
    assert len(losses["one"]) == TRAIN["epochs"]
    assert losses["one"] == pytest.approx(losses["two"], abs=1e-4)
    assert losses["one"] == pytest.approx(losses["memory"], abs=0.05)
    assert losses["one"][-1] < losses["one"][0] - 0.1
    assert most_apart(weights_of(run, "one"), weights_of(run, "two")) < 1e-4
    for name in ways:
        assert [r["epoch"] for r in heard(run).of("epoch", name)] == [1, 2, 3, 4]


_FAST = {"cpus_per_worker": 0.5, "ingest": "stream", "optimizer": "sgd", "lr": 0.1}
STREAMED: dict[str, dict[str, Any]] = {
    "clips": system(train=_FAST | {"class_weights": "balanced"}),
    "patches": system(train=_FAST | {"unit": "patch"}),
    "logits": system({"name": "mlp", "hidden": [8], "dropout": 0.0}, pooling="attention"),
    "sequences": system({"name": "gated_attention", "hidden": 4}, train=_FAST),
    "pictures": system({"name": "resnet18"}, train=_FAST),
    "layers": system("multi_layer", layers=["pool5", "pool1"], train=_FAST),
}


@pytest.fixture(scope="module")
def streamed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Tables of uneven shards with a system of every kind, to stream from."""
    run = make_run(tmp_path_factory.mktemp("streamed"), systems=STREAMED)
    corpus = replace(uneven(), layers={"pool5": 8, "pool1": 6}, vectors_per_patch=2)
    write_tables(run, corpus, shards=UNEVEN)
    return run


def shares_of(stream: StreamTask, epoch: int = 1, count: int = 1) -> list[list[Share]]:
    """The shares of every worker, step by step."""
    found = []
    for rank in range(count):
        weights = torch.ones(len(CLASSES))
        found.append(list(StreamSource(stream, weights, Workers(rank, count)).epoch(epoch)))
    return found


def rows_of(parts: Sequence[Examples]) -> list[tuple[Any, ...]]:
    """What every example holds, in an order of its own."""
    found = []
    for part in parts:
        for place in range(len(part)):
            one = part.take(np.array([place]))
            held = tuple(layer.tobytes() for layer in one.rows)
            found.append((*held, one.targets.tobytes()))
    return sorted(found)


@pytest.mark.parametrize("name", STREAMED)
def test_workers_stream_every_example_once_in_equal_steps(streamed: Run, name: str) -> None:
    task = task_of(streamed, name)
    stream = plan_stream(task, anywhere)
    expected = rows_of([example_sets(task).train])
    alone, *_ = shares_of(stream)
    pair = shares_of(stream, count=2)
    assert rows_of([share.examples for share in alone]) == expected
    assert rows_of([share.examples for shares in pair for share in shares]) == expected
    assert len(pair[0]) == len(pair[1]) == len(alone) == -(-len(expected) // TRAIN["batch_size"])
    for whole, one, other in zip(alone, *pair, strict=True):
        assert len(whole.examples) == whole.whole == one.whole == other.whole
        assert rows_of([one.examples, other.examples]) == rows_of([whole.examples])
    assert rows_of([alone[0].examples]) != rows_of([shares_of(stream, epoch=2)[0][0].examples])


def first_step(task: TrainTask, stream: StreamTask, count: int) -> dict[str, NDArray[np.float32]]:
    """The parameters after one step of plain SGD, averaged over the workers as gradients are."""
    told: list[EpochRecord] = []

    def agree(record: Any) -> Any:
        told.append(record)
        return told[0]

    targets = np.concatenate([shard.targets for shard in stream.train])
    rule = task.section.train.class_weights
    whole = float(loss_weights(class_weights(targets, rule, len(CLASSES)), targets).sum())
    found = []
    for rank in range(count):
        workers = Workers(rank, count, total=lambda mine: whole, agree=agree)
        data = streaming(stream, workers)
        state = fit(
            data.network,
            data.material,
            task.section.train,
            on_epoch=lambda record, state: None,
            workers=workers,
        )
        found.append({name: value.numpy().copy() for name, value in state.model.items()})
    return {name: np.mean([one[name] for one in found], axis=0) for name in found[0]}


@pytest.mark.parametrize("name", ["clips", "logits", "sequences"])
def test_the_first_step_is_the_same_by_one_worker_and_by_two(streamed: Run, name: str) -> None:
    """And a batch may be larger than all clips together."""
    task = task_of(streamed, name)
    train = task.section.train.model_copy(
        update={"optimizer": "sgd", "lr": 1.0, "weight_decay": 0.0, "momentum": 0.0}
        | {"epochs": 1, "batch_size": 1000}
    )
    task = replace(task, section=task.section.model_copy(update={"train": train}))
    stream = plan_stream(task, anywhere)
    one, two = (first_step(task, stream, count) for count in (1, 2))
    fresh = {name: v.numpy() for name, v in network_for(task.network, 0).state_dict().items()}
    assert most_apart(one, fresh) > 1e-3
    assert most_apart(one, two) < 1e-5


def test_a_streaming_worker_holds_a_small_part_of_the_table(tmp_path: Path) -> None:
    shards = [20] * 40
    train = {"ingest": "stream", "memory_gb": 1e-5, "batch_size": 64}
    run = make_run(tmp_path, systems={"a": system(train=train)})
    write_tables(run, Corpus(count=800, splits=("train",) * 9 + ("val",)), shards=shards)
    task = task_of(run, "a")
    stream = plan_stream(task, anywhere)
    source = StreamSource(stream, torch.ones(len(CLASSES)), Workers())
    held, shares = [], source.epoch(1)
    assert isinstance(shares, Generator)
    for share in shares:
        assert len(share.examples)
        lanes = inspect.getgeneratorlocals(shares)["buffers"].values()
        held.append(sum(lane.nbytes for lane in lanes))
    assert len(held) == source.steps == 12
    assert 0 < max(held) < example_sets(task).train.nbytes / 3


def test_workers_that_leave_no_cpu_to_read_with_are_refused(tmp_path: Path) -> None:
    train = {"ingest": "stream", "workers": 2, "cpus_per_worker": 1}
    with pytest.raises(InputError, match=r"hold all 2 CPUs.* set train.cpus_per_worker to 0.875"):
        trained(tmp_path, Corpus(count=60), systems={"a": system(train=train)})


@pytest.mark.slow
def test_folds_stream_one_after_the_other(tmp_path: Path) -> None:
    corpus = Corpus(count=90, splits=(CROSS_VALIDATED,), folds=("1", "2"))
    train = {"ingest": "stream", "epochs": 2, "select": "last"}
    run = trained(tmp_path, corpus, [30] * 3, systems={"a": system(train=train)})
    for fold in ("1", "2"):
        spec = bundle_of(run, "a", fold).spec
        assert spec.fold == fold
        assert spec.trained_on["clips"] == {"train": 45, "val": 0}
    told = Counter(record["fold"] for record in heard(run).of("epoch"))
    assert told == {"1": 2, "2": 2}


def assert_taken_up(run: Run, name: str, epoch: int) -> None:
    """It is told, once, that this command goes on after this epoch, which it had done itself."""
    told = [event.data["text"] for event in heard(run) if event.kind == "note"]
    assert told == [f"goes on after epoch {epoch}"]
    counts = heard(run).of("epoch", name)
    assert [one["done"] for one in counts] == [one["epoch"] for one in counts]
    (progress,) = heard(run).of("progress", name)
    assert progress == {"done": epoch, "total": 14, "before": 0}


def test_a_killed_worker_of_two_costs_nothing_and_checkpoints_lie_on_s3(
    tmp_path: Path, s3_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import s3fs

    bucket = s3fs.S3FileSystem(endpoint_url=s3_server)
    bucket.mkdir("heads")
    settings = {"epochs": 14, "workers": 2}
    whole = trained(tmp_path / "whole", uneven(), systems={"a": system(train={"epochs": 14})})
    run = make_run(
        tmp_path / "killed", run_dir="s3://heads/run", systems={"a": system(train=settings)}
    )
    write_tables(run, uneven())
    mark = tmp_path / "mark"
    monkeypatch.setattr(train_epochs, "Teller", partial(FatalTeller, epoch=12, mark=mark))
    run_job("train", run)
    assert mark.exists()
    epochs = [record["epoch"] for record in heard(run).of("epoch")]
    assert epochs[:12] == list(range(1, 13))
    assert epochs[12:] in ([11, 12, 13, 14], [12, 13, 14]), "it goes on from its checkpoint"
    (again,) = heard(run).of("retry")
    assert (again["workers"], again["wanted"]) == (2, 2)
    assert_taken_up(run, "a", epochs[12] - 1)
    assert most_apart(weights_of(run, "a"), weights_of(whole, "a")) < 1e-4
    losses = [[r["val_loss"] for r in records_of(each, "a")] for each in (run, whole)]
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)
    left = bucket.find("heads/run/train")
    assert not [path for path in left if not path.endswith("/")]  # Ray Train leaves a folder's name


def test_a_killed_worker_alone_costs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = {"a": system(train={"epochs": 14})}
    whole = trained(tmp_path / "whole", uneven(), systems=systems)
    run = make_run(tmp_path / "killed", systems=systems)
    write_tables(run, uneven())
    fatal = partial(FatalTeller, epoch=12, mark=tmp_path / "mark")
    monkeypatch.setattr(train_epochs, "Teller", fatal)
    run_job("train", run)
    epochs = [record["epoch"] for record in heard(run).of("epoch")]
    assert epochs == [*range(1, 13), *range(11, 15)]
    assert_taken_up(run, "a", 10)
    assert most_apart(weights_of(run, "a"), weights_of(whole, "a")) < 1e-6


def test_a_killed_command_goes_on_when_it_is_run_again(tmp_path: Path) -> None:
    systems = {"a": system({"name": "mlp", "hidden": [64]}, train={"epochs": 150, "batch_size": 8})}
    whole = trained(tmp_path / "whole", uneven(), systems=systems)
    run = make_run(tmp_path / "killed", systems=systems)
    write_tables(run, uneven())
    code, said = kill_when(run, "train", lambda kept: bool(list(kept.glob("a-*/checkpoint.pt"))))
    assert code == -signal.SIGKILL, said
    assert run.head("a").header() is None
    run_job("train", run)
    first = heard(run).of("epoch")[0]["epoch"]
    assert 10 < first < 150
    assert heard(run).of("progress") == [{"done": first - 1, "total": 150, "before": first - 1}]
    assert {"text": f"goes on after epoch {first - 1}"} in heard(run).of("note")
    assert heard(run).of("epoch")[-1]["done"] == 150
    assert most_apart(weights_of(run, "a"), weights_of(whole, "a")) < 1e-6
    assert len(records_of(run, "a")) == 150


def test_a_killed_command_with_folds_goes_on_counting_where_each_of_them_was(
    tmp_path: Path,
) -> None:
    heads = {name: system(train={"epochs": 300, "batch_size": 8}) for name in "ab"}
    run = make_run(tmp_path, systems=heads)
    write_tables(run, Corpus(count=90, splits=(CROSS_VALIDATED,), folds=("1", "2", "3")))

    def some_have_begun(kept: Path) -> bool:
        return len({path.parent for path in kept.glob("*/checkpoint-*.pt")}) == 2

    code, said = kill_when(run, "train", some_have_begun)
    assert code == -signal.SIGKILL, said
    run_job("train", run)
    half_way = 0
    for name in heads:
        begun: dict[str, int] = {}
        for record in heard(run).of("epoch", name):
            begun.setdefault(record["fold"], record["epoch"] - 1)
        before = heard(run).of("progress", name)[-1]["before"]
        told = {one.data["text"] for one in heard(run) if (one.kind, one.name) == ("note", name)}
        assert {f"fold {fold} goes on after epoch {n}" for fold, n in begun.items() if n} <= told
        assert sum(begun.values()) <= before
        half_way += sum(begun.values())
        last = heard(run).of("epoch", name)[-1]
        assert (last["done"], last["total"]) == (900, 900)
        assert len(heard(run).of("epoch", name)) == 900 - before
    assert half_way >= 10


def test_ctrl_c_ends_all_systems_and_leaves_their_checkpoints(tmp_path: Path) -> None:
    """Two are trained at once, and a third one waits for its turn."""
    train = {"epochs": 100_000, "batch_size": 120, "cpus_per_worker": 1}
    run = make_run(tmp_path, systems={name: system(train=train) for name in "abc"})
    write_tables(run, uneven())

    def two(kept: Path) -> bool:
        return len(list(kept.glob("*/checkpoint.pt"))) >= 2

    code, said = kill_when(run, "train", two, signal.SIGINT)
    assert code == 1, said
    assert "stopped; what is committed stays" in said
    assert "Traceback" not in said
    kept = Path(local_path(run.folder.url)) / "train"
    assert len(list(kept.glob("*/checkpoint.pt"))) == 2
    assert not any(run.head(name).header() for name in "abc")


def test_time_in_which_a_task_waited_for_others_is_none_of_its_start() -> None:
    fits = Fits(anywhere)
    fits._ends = [100.0, 160.0, 220.0]
    result = {"began": 161.5, "wall_s": 30.0, "records": [{"seconds": 9.0}, {"seconds": 19.0}]}
    assert fits._start_s([result], asked=90.0) == pytest.approx(1.5 + 2.0)
    assert fits._start_s([result], asked=160.5) == pytest.approx(1.0 + 2.0)
    other = result | {"began": 225.0}
    assert fits._start_s([result, other], asked=90.0) == pytest.approx(1.5 + 2.0 + 2.0)


def test_a_system_that_fails_leaves_the_others_alone(tmp_path: Path) -> None:
    systems = {"bad": system(), "good": system(train={"drop_sources": ["odd"]})}
    run = make_run(tmp_path, systems=systems)
    odd = [number == 33 for number in range(40)]
    corpus = Corpus(
        count=40,
        patches=[1 - one for one in odd],
        sources=["odd" if one else "main" for one in odd],
    )
    write_tables(run, corpus, shards=[20, 20])  # only who reads the second shard is in trouble
    with pytest.raises(InputError, match=r"clip 'clip\d+' has no patch in the embeddings"):
        run_job("train", run)
    assert run.head("bad").header() is None
    assert len(records_of(run, "good")) == TRAIN["epochs"]
    (failed,) = heard(run).of("failed", "bad")
    assert "has no patch" in failed["error"]
    assert len(heard(run).of("done", "good")) == 1


@pytest.mark.slow
def test_a_command_killed_between_training_and_saving_trains_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(tmp_path, systems={"a": system(train={"workers": 2})})
    write_tables(run, uneven())

    class Killed(BaseException):
        pass

    def killed(*_: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(train_together, "load_result", killed)
        with pytest.raises(Killed):
            run_job("train", run)
    heard(run).clear()
    run_job("train", run)
    assert not heard(run).of("epoch")
    assert len(records_of(run, "a")) == TRAIN["epochs"]


def test_what_a_worker_of_two_says_is_told_at_once(tmp_path: Path) -> None:
    run = make_run(tmp_path, systems={"a": system(train={"workers": 2})})
    write_tables(run, Corpus(count=40, patches=(1, 1, 1, 1, 0)))
    with pytest.raises(InputError, match=r"clip 'clip\d+' has no patch in the embeddings"):
        run_job("train", run)


def test_folds_and_a_test_split(tmp_path: Path) -> None:
    """Four data sets in one: clips in two folds, others held out, and a source that is learned
    from, which must not be tested on."""
    splits = [CROSS_VALIDATED, CROSS_VALIDATED, "test", "train"]
    corpus = Corpus(
        count=160, splits=splits, folds=("1", "2", None, None),
        sources=("main", "main", "main", "more"),
    )  # fmt: skip
    systems = {
        "a": system(train={"select": "last"}),
        "without": system(train={"select": "last", "drop_sources": ["more"]}),
    }
    run = trained(tmp_path, corpus, systems=systems, score={"splits": ["val", "test"]})
    run_job("score", run)
    rows = scored(run, "a")
    ids = corpus.ids
    assert sorted(rows) == [name for n, name in enumerate(ids) if n % 4 != 3]
    assert {rows[ids[n]]["split"] for n in (0, 1)} == {"val"}
    assert rows[ids[2]]["split"] == "test"
    heads = {fold: bundle_of(run, "a", fold) for fold in ("1", "2")}
    task = task_of(run, "a")
    clips = task.inputs.read(run.embeddings("feats").read())
    by_head = {
        fold: dict(zip(clips.clip_ids, head.scores(clips), strict=True))
        for fold, head in heads.items()
    }
    for name, expected in (
        (ids[0], by_head["1"][ids[0]]),
        (ids[1], by_head["2"][ids[1]]),
        (ids[2], (by_head["1"][ids[2]] + by_head["2"][ids[2]]) / 2),
    ):
        assert rows[name]["scores"] == pytest.approx(expected.tolist(), abs=1e-6)
    assert most_apart(*(weights_of(run, "a", fold) for fold in ("1", "2"))) > 1e-3
    for fold in ("1", "2"):
        assert heads[fold].spec.trained_on["clips"] == {"train": 80, "val": 0}
        assert bundle_of(run, "without", fold).spec.trained_on["clips"] == {"train": 40, "val": 0}


def test_heads_of_scikit_learn_train_and_score(tmp_path: Path) -> None:
    heads: dict[str, Any] = {
        "logistic": "logistic_regression",
        "neighbours": {"name": "knn", "k": 3, "pca": 6},
        "vectors": "linear_svm",
    }
    systems = {name: fitted(head) for name, head in heads.items()}
    systems["voted"] = fitted("sgd", unit="patch") | {"pooling": "vote"}
    corpus = Corpus(patches=(1, 3, 2), spread=0.6)
    run = trained(tmp_path, corpus, systems=systems, score={"splits": ["val", "test"]})
    run_job("score", run)
    for name in systems:
        rows = scored(run, name).values()
        assert len(rows) == 120
        right = np.mean([row["predicted"] == row["labels"][0] for row in rows])
        assert right > 0.85, name
        assert isinstance(bundle_of(run, name).weights, bytes)
        assert [r["epoch"] for r in heard(run).of("epoch", name)] == [1]
    votes = np.array([row["scores"] for row in scored(run, "voted").values()])
    assert np.allclose(votes.sum(axis=1), 1, atol=1e-5)
    assert not verify(run.folder).faults


def test_clips_with_several_labels_are_learned_and_scored_class_by_class(tmp_path: Path) -> None:
    labels: list[list[str]] = [["ant"], ["ant", "bee"], ["cat"], [], ["bee", "cat"], ["bee"]]
    splits = ["train"] * 12 + ["val"] * 6 + ["test"] * 6
    corpus = Corpus(labels=labels, splits=splits, spread=0.4)
    systems = {
        "torch": system(train={"epochs": 30, "lr": 0.05, "select": "val_map"}),
        "fitted": fitted("logistic_regression"),
    }
    run = trained(tmp_path, corpus, systems=systems, score={"splits": ["test"]})
    run_job("score", run)
    for name in systems:
        assert bundle_of(run, name).spec.multi_label
        rows = list(scored(run, name).values())
        assert len(rows) == 60
        scores = np.array([row["scores"] for row in rows])
        truth = np.array([[label in row["labels"] for label in CLASSES] for row in rows])
        assert ((scores > 0.5) == truth).mean() > 0.9, name
        sums = scores.sum(axis=1)
        assert sums.max() > 1.5
        assert sums.min() < 0.5


@pytest.mark.parametrize(
    ("system_of_several", "fault"),
    [
        (fitted("linear_svm", class_weights="balanced"), "class_weights .balanced."),
        (system(pooling="vote", train={"unit": "patch"}), "vote gives every patch one class"),
    ],
)
def test_what_several_labels_do_not_go_with_is_told_before_training(
    tmp_path: Path, system_of_several: dict[str, Any], fault: str
) -> None:
    run = make_run(tmp_path, systems={"a": system_of_several})
    write_tables(run, Corpus(count=40, labels=[["ant"], ["ant", "bee"]]))
    with pytest.raises(InputError, match=f"system 'a': clips have several labels.*{fault}"):
        run_job("train", run)


def test_fine_labels_are_learned_and_merged_classes_are_scored(tmp_path: Path) -> None:
    fine = ["queen", "worker", "bee", "cat"]
    merge = {"queen": "ant", "worker": "ant"}
    corpus = Corpus(
        labels=[[merge.get(name, name)] for name in fine for _ in range(4)],
        fine=[[name] for name in fine for _ in range(4)],
        merge=merge,
        spread=0.5,
    )
    systems = {
        "fine": system(train={"fine": True, "epochs": 12, "lr": 0.05}),
        "coarse": system(train={"epochs": 12, "lr": 0.05}),
    }
    run = trained(tmp_path, corpus, systems=systems, score={"splits": ["test"]})
    run_job("score", run)
    spec = bundle_of(run, "fine").spec
    assert spec.head_classes == sorted(fine)
    assert spec.classes == CLASSES
    assert spec.merge == {"bee": "bee", "cat": "cat", "queen": "ant", "worker": "ant"}
    for name in systems:
        rows = scored(run, name).values()
        assert all(len(row["scores"]) == 3 for row in rows)
        assert np.mean([row["predicted"] == row["labels"][0] for row in rows]) > 0.9
        assert np.allclose([sum(row["scores"]) for row in rows], 1, atol=1e-5)


def test_several_layers_and_other_poolings(tmp_path: Path) -> None:
    layers = {"pool5": 8, "pool1": 6, "conv7": 8}
    train = {"epochs": 15, "lr": 0.05}
    systems = {
        "all": system("multi_layer", train=train | {"select": "val_accuracy"}),
        "two": system("multi_layer", layers=["conv7", "pool1"], train=train),
        "logits": system(pooling={"name": "mean", "on": "logits"}, train=train),
        "votes": system(pooling="vote", train=train | {"unit": "patch"}),
    }
    corpus = Corpus(patches=(1, 3, 2), layers=layers, spread=0.6)
    run = trained(tmp_path, corpus, systems=systems, score={"splits": ["test"]})
    run_job("score", run)
    assert list(bundle_of(run, "all").spec.layers) == list(layers)
    assert list(bundle_of(run, "two").spec.layers) == ["conv7", "pool1"]
    metrics = records_of(run, "all")[0]["metrics"]
    assert {f"val_accuracy[{name}]" for name in layers} <= metrics.keys()
    for name in systems:
        rows = scored(run, name)
        right = [row["predicted"] == row["labels"][0] for row in rows.values()]
        assert np.mean(right) > 0.9, name
    patches = {clip: corpus.patches[n % 3] for n, clip in enumerate(corpus.ids)}
    for clip, row in scored(run, "votes").items():
        shares = np.array(row["scores"]) * patches[clip]
        assert np.allclose(shares, shares.round(), atol=1e-4), clip
