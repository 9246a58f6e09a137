"""The training loop: what it reaches and keeps; workers and resumption change nothing."""

import copy
import multiprocessing as mp

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from audioflow.engine.train_data import _parts
from audioflow.heads import HEADS
from audioflow.recipe import TrainSection
from audioflow.training import (
    ClipSet,
    EpochRecord,
    FitState,
    Workers,
    better,
    class_weights,
    epoch_order,
    fit,
    normalisation,
)
from tests.unit.training_workers import make_model, train_as_worker


@pytest.fixture(autouse=True)
def one_thread():
    """Threads only get in each other's way on matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def blobs(count: int = 60, classes: int = 3, width: int = 4, seed: int = 0, spread=0.3) -> ClipSet:
    """Clips around one corner per class: separable for a small spread."""
    generator = np.random.default_rng(seed)
    targets = np.arange(count) % classes
    centres = 2 * np.eye(classes, width)
    vectors = centres[targets] + spread * generator.normal(size=(count, width))
    return ClipSet(vectors.astype(np.float32), targets.astype(np.int64))


def section(**options) -> TrainSection:
    return TrainSection(**({"epochs": 5, "lr": 0.05, "batch_size": 16} | options))


def head(name: str = "linear", classes: int = 3, width: int = 4, seed: int = 0, **options):
    torch.manual_seed(seed)
    return HEADS.build(name, options).build(width, classes)


def run(
    model, options: TrainSection, *, train=None, val=None, resume=None, workers=None, listen=None
) -> FitState:
    train, val = train or blobs(seed=1), val or blobs(seed=2)
    return fit(
        model,
        train,
        val,
        options,
        on_epoch=listen or (lambda _record, _state: None),
        resume=resume,
        workers=workers,
    )


def same(one: dict, other: dict) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def comparable(records: list[EpochRecord]) -> list[tuple]:
    """Everything of them but how long they took."""
    return [(r.epoch, r.train_loss, r.val_loss, tuple(r.metrics.items()), r.lr) for r in records]


# What it reaches


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("name", HEADS.names())
def test_separable_clips_are_told_apart(name, optimizer):
    state = run(head(name), section(epochs=25, optimizer=optimizer))
    best = state.records[state.best_epoch - 1]
    assert best.metrics == {"val_accuracy": 1.0, "val_macro_f1": 1.0}
    assert state.records[-1].train_loss < 0.5 * state.records[0].train_loss


def test_losses_and_metrics_are_those_of_the_parameters_that_are_kept():
    val = blobs(seed=2, spread=1.2)
    state = run(head(), section(epochs=1), val=val)
    model = head()
    model.load_state_dict(state.model)
    logits = model(torch.from_numpy(val.vectors))
    record = state.records[0]
    loss = F.cross_entropy(logits, torch.from_numpy(val.targets))
    assert record.val_loss == pytest.approx(loss.item(), rel=1e-5)
    predicted = logits.argmax(dim=1).numpy()
    assert record.metrics["val_accuracy"] == pytest.approx((predicted == val.targets).mean())


def test_macro_f1_weighs_classes_alike():
    """9 of 10 clips are of class 0 and all are called 0: accuracy 0.9, F1 (18/19 + 0) / 2."""
    targets = np.array([0] * 9 + [1], np.int64)
    val = ClipSet(np.zeros((10, 4), np.float32), targets)
    model = head(classes=2)
    with torch.no_grad():
        model.bias[0] = 1.0
    record = run(model, section(epochs=1, lr=0), train=val, val=val).records[0]
    assert record.metrics["val_accuracy"] == pytest.approx(0.9)
    assert record.metrics["val_macro_f1"] == pytest.approx(18 / 19 / 2)


def test_the_train_loss_of_one_full_batch_is_that_before_its_step():
    train = blobs(seed=1)
    state = run(head(), section(epochs=1, batch_size=1000), train=train)
    assert state.records[0].train_loss == pytest.approx(np.log(3))  # a linear head starts at zero


@pytest.mark.parametrize("key", ["lr", "weight_decay", "label_smoothing"])
def test_zero_is_a_legal_rate(key):
    state = run(head("mlp", dropout=0.0), section(**{key: 0.0}))
    assert len(state.records) == 5
    assert all(np.isfinite(record.train_loss) for record in state.records)


def test_a_learning_rate_of_zero_changes_nothing():
    model = head("mlp")
    before = copy.deepcopy(model.state_dict())
    state = run(model, section(lr=0.0, weight_decay=0.1, label_smoothing=0.1))
    assert same(dict(before), state.best)
    assert state.best_epoch == 1


def test_dropout_is_on_in_every_step_and_off_in_validation():
    modes: list[tuple[bool, int]] = []

    class Watched(torch.nn.Linear):
        def forward(self, vectors):
            modes.append((self.training, len(vectors)))
            return super().forward(vectors)

    run(Watched(4, 3), section(epochs=3, batch_size=48), train=blobs(90), val=blobs(50))
    assert modes[1:] == [(True, 48), (True, 42), (False, 50)] * 3


def test_label_smoothing_and_weight_decay_have_an_effect():
    plain = run(head(), section()).best["weight"].norm()
    assert run(head(), section(label_smoothing=0.4)).best["weight"].norm() < plain
    assert run(head(), section(weight_decay=1.0)).best["weight"].norm() < plain


# Classes of unequal size


def test_balanced_weights_are_inverse_to_frequency_with_mean_one_over_clips():
    targets = np.array([0] * 6 + [1] * 3 + [2], np.int64)
    weights = class_weights(targets, "balanced", 4)
    assert weights[:3].tolist() == pytest.approx([10 / (3 * 6), 10 / (3 * 3), 10 / 3])
    assert weights[targets].mean() == pytest.approx(1.0)
    assert weights[3].isfinite()  # no clip, no matter
    assert class_weights(targets, "none", 4).tolist() == [1.0] * 4


def test_balanced_weights_help_a_rare_class():
    generator = np.random.default_rng(0)
    targets = (np.arange(300) % 15 == 0).astype(np.int64)
    vectors = (targets[:, None] * 1.0 + generator.normal(size=(300, 4))).astype(np.float32)
    clips = ClipSet(vectors, targets)

    def rare(rule: str) -> float:
        model = head(classes=2)
        state = run(model, section(class_weights=rule, epochs=20), train=clips, val=clips)
        model.load_state_dict(state.model)
        predicted = model(torch.from_numpy(vectors)).argmax(dim=1).numpy()
        return (predicted[targets == 1] == 1).mean()

    assert rare("balanced") > rare("none") + 0.2


# Which epoch is kept


def record(epoch: int, accuracy: float, f1: float, loss: float | None) -> EpochRecord:
    return EpochRecord(epoch, 1.0, loss, {"val_accuracy": accuracy, "val_macro_f1": f1}, 0.1, 0.0)


@pytest.mark.parametrize(
    ("select", "new", "old", "expected"),
    [
        ("val_accuracy", (0.9, 0.1, 5.0), (0.8, 0.9, 1.0), True),
        ("val_accuracy", (0.8, 0.9, 1.0), (0.9, 0.1, 5.0), False),
        ("val_macro_f1", (0.1, 0.9, 5.0), (0.9, 0.8, 1.0), True),
        ("val_loss", (0.1, 0.1, 1.0), (0.9, 0.9, 2.0), True),
        ("val_loss", (0.9, 0.9, 2.0), (0.1, 0.1, 1.0), False),
        ("val_accuracy", (0.9, 0.5, 1.0), (0.9, 0.5, 2.0), True),  # a tie: the lower loss
        ("val_accuracy", (0.9, 0.5, 2.0), (0.9, 0.5, 2.0), False),  # equal: the earlier epoch
        ("val_loss", (0.9, 0.5, 1.0), (0.9, 0.5, float("nan")), True),
        ("val_loss", (0.9, 0.5, float("nan")), (0.9, 0.5, 1.0), False),
        ("last", (0.1, 0.1, 9.0), (0.9, 0.9, 0.1), True),
    ],
)
def test_the_better_epoch_is_that_of_the_named_metric(select, new, old, expected):
    assert better(record(2, *new), record(1, *old), section(select=select)) is expected
    assert better(record(1, *new), None, section(select=select))


@pytest.mark.parametrize("select", ["val_accuracy", "val_macro_f1", "val_loss"])
def test_the_best_epochs_parameters_are_kept_and_not_the_last(select):
    seen: list[dict] = []

    def listen(_record, state):
        seen.append({key: value.clone() for key, value in state.model.items()})

    val = blobs(seed=9, spread=1.0)
    state = run(head(), section(epochs=12, lr=0.8, select=select), val=val, listen=listen)
    quality = [
        (-r.val_loss,) if select == "val_loss" else (r.metrics[select], -r.val_loss)
        for r in state.records
    ]
    assert state.best_epoch == 1 + quality.index(max(quality))
    assert state.best_epoch != 12
    assert same(state.best, seen[state.best_epoch - 1])
    assert same(state.model, seen[-1])


def test_without_val_clips_the_train_loss_decides():
    nothing = ClipSet(np.zeros((0, 4), np.float32), np.zeros(0, np.int64))
    state = fit(head(), blobs(), nothing, section(epochs=4), on_epoch=lambda _record, _state: None)
    assert all(r.val_loss is None and r.metrics == {} for r in state.records)
    losses = [r.train_loss for r in state.records]
    assert state.best_epoch == 1 + losses.index(min(losses))


def test_the_last_epoch_is_kept_where_that_is_asked_for():
    state = run(head(), section(epochs=12, lr=0.8, select="last"), val=blobs(seed=9, spread=1.0))
    assert state.best_epoch == 12
    assert same(state.best, state.model)


@pytest.mark.parametrize(
    ("select", "expected"),
    [
        ("val_loss", {"a": "train", "b": "train", "c": "test", "d": "val"}),
        ("last", {"a": "train", "b": "train", "c": "test", "d": "train"}),
    ],
)
def test_of_the_folds_one_is_tested_and_one_selects_unless_the_last_epoch_is_kept(select, expected):
    manifest = {"clip_id": ["a", "b", "c", "d"], "split": ["cv"] * 4, "fold": ["1", "2", "3", "4"]}
    assert _parts(manifest, "3", unselected=select == "last") == expected


def test_a_linear_head_with_l2_penalty_in_full_batches_is_logistic_regression():
    """As scikit-learn finds it; its penalty 1 / C is shared by the clips, and spares the biases."""
    train, test = blobs(120, spread=1.5), blobs(60, seed=1, spread=1.5)
    penalty = {"optimizer": "adam", "weight_decay": 1 / 120, "select": "last"}
    full = section(epochs=800, lr=0.02, batch_size=1000, **penalty)
    state = fit(head(), train, test, full, on_epoch=lambda *_: None)
    model = LogisticRegression(C=1.0, max_iter=1000).fit(train.vectors, train.targets)
    module = head()
    module.load_state_dict(state.best)
    with torch.inference_mode():
        scores = module(torch.from_numpy(test.vectors)).softmax(dim=1).numpy()
    assert scores == pytest.approx(model.predict_proba(test.vectors), abs=0.02)


# The same again


def test_a_seed_gives_the_same_run_and_another_seed_another():
    def outcome(seed: int):
        return run(head("mlp", dropout=0.5), section(seed=seed))

    first, again, other = outcome(3), outcome(3), outcome(4)
    assert same(first.model, again.model)
    assert comparable(first.records) == comparable(again.records)
    assert not same(first.model, other.model)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_every_seed_that_a_recipe_may_have_works(seed):
    assert len(run(head(), section(seed=seed, epochs=1)).records) == 1


def test_every_epoch_has_its_own_order_and_every_clip_once():
    orders = [epoch_order(20, 1, epoch).tolist() for epoch in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == list(range(20))


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_run_taken_up_in_the_middle_ends_as_if_undisturbed(optimizer, after):
    options = section(optimizer=optimizer, epochs=5)
    whole = run(head("mlp", dropout=0.3), options)
    kept: list[FitState] = []

    def keep(record, state):
        if record.epoch == after:
            kept.append(copy.deepcopy(state))

    run(head("mlp", dropout=0.3), options, listen=keep)
    torch.manual_seed(999)
    taken_up = run(head("mlp", seed=77, dropout=0.3), options, resume=kept[0])
    assert same(taken_up.model, whole.model)
    assert same(taken_up.best, whole.best)
    assert taken_up.best_epoch == whole.best_epoch
    assert comparable(taken_up.records) == comparable(whole.records)


def test_a_state_that_was_kept_is_not_changed_by_later_epochs():
    moments: list[torch.Tensor] = []

    def listen(_record, state):
        moments.append(state.optimizer["state"][0]["exp_avg"])

    run(head(), section(epochs=3), listen=listen)
    assert not torch.equal(moments[0], moments[2])


# Several workers


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize("clips", [16, 13, 2, 1])
@pytest.mark.parametrize("rule", ["none", "balanced"])
def test_the_mean_of_the_workers_gradients_is_that_of_one_worker(count, clips, rule):
    """One batch of 16, 13 (uneven shares), 2 and 1 (an empty share) clips."""
    train = blobs(clips, seed=1, spread=1.0)
    options = section(batch_size=64, epochs=1, lr=0.0, class_weights=rule, label_smoothing=0.1)

    def gradient(workers: Workers) -> torch.Tensor:
        model = make_model()
        run(model, options, train=train, workers=workers)
        return torch.cat([p.grad.flatten() for p in model.parameters()])

    alone = gradient(Workers())
    together = [gradient(Workers(rank, count)) for rank in range(count)]
    assert alone.abs().max() > 1e-3
    assert torch.allclose(torch.stack(together).mean(dim=0), alone, atol=1e-6)


def test_two_ddp_workers_take_the_steps_of_one(tmp_path):
    """Two real processes over gloo. 15 clips in batches of 7, 7 and 1: uneven and empty shares."""
    train = blobs(15, seed=1, spread=1.0)
    options = section(epochs=3, batch_size=7, class_weights="balanced").model_dump()
    given = (2, str(tmp_path / "store"), train.vectors, train.targets, options)
    with mp.get_context("spawn").Pool(2) as pool:
        jobs = [pool.apply_async(train_as_worker, (rank, *given)) for rank in range(2)]
        ranks = [job.get(timeout=120) for job in jobs]
    alone = run(make_model(), TrainSection(**options), train=train, val=train)
    for parameters, losses in ranks:
        for name, value in parameters.items():
            assert torch.allclose(torch.from_numpy(value), alone.model[name], atol=1e-5)
        assert losses == pytest.approx([r.val_loss for r in alone.records], abs=1e-5)


# Normalisation


def test_normalised_columns_have_mean_zero_and_deviation_one():
    vectors = np.random.default_rng(0).normal(5, [1, 10, 0.1, 1000], (500, 4)).astype(np.float32)
    mean, std = normalisation(vectors)
    normal = (torch.from_numpy(vectors) - mean) / std
    assert normal.mean(dim=0).tolist() == pytest.approx([0] * 4, abs=1e-3)
    assert normal.std(dim=0, correction=0).tolist() == pytest.approx([1] * 4, abs=1e-3)


@pytest.mark.parametrize("constant", [0.0, 1.0, -100.0, 1e6, 1e-12])
def test_a_constant_column_is_divided_by_one(constant):
    mean, std = normalisation(np.full((100, 2), constant, np.float32))
    assert std.tolist() == [1.0, 1.0]
    assert mean.tolist() == pytest.approx([constant] * 2)
