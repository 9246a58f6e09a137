"""The training loop: what it reaches, which epoch it keeps, and what its settings do."""

import copy

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from torch.nn import functional as F

from audioflow.events import EpochRecord
from audioflow.systems.examples import Examples
from audioflow.systems.inputs import Pool
from audioflow.systems.network import Batch, all_logits
from audioflow.training import FitState, better, stopped
from tests.unit.small_training import (
    blobs,
    clips,
    comparable,
    network,
    of_several_labels,
    pictures,
    run,
    same,
    section,
)

pytestmark = pytest.mark.usefixtures("one_thread")

MEAN = Pool("mean", "logits", {})
NOTHING = Examples((np.zeros((0, 4), np.float32),), np.zeros(1, np.int64), np.zeros(0, np.int64))


def logits_of(made, examples: Examples) -> torch.Tensor:
    return all_logits(made, examples)[0]


# What it reaches


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
@pytest.mark.parametrize("name", ["linear", "mlp"])
def test_separable_clips_are_told_apart(name, optimizer):
    state = run(network(name), section(epochs=25, optimizer=optimizer))
    best = state.records[state.best_epoch - 1]
    assert best.metrics["val_accuracy"] == best.metrics["val_macro_f1"] == 1.0
    assert best.metrics["val_auc"] == best.metrics["val_map"] == 1.0
    assert state.records[-1].train_loss < 0.5 * state.records[0].train_loss


@pytest.mark.parametrize(
    "pool",
    [
        Pool("mean", "logits", {}),
        Pool("mean", "scores", {}),
        Pool("max", "scores", {}),
        Pool("top_k", "logits", {"k": 2}),
        Pool("learned", "logits", {}),
        Pool("attention", "embeddings", {"gated": True}),
        Pool("attention", "scores", {}),
    ],
    ids=str,
)
def test_clips_of_several_patches_are_told_apart_through_every_pooling(pool):
    lengths = [1, 3, 2, 5] * 15
    state = run(
        network(pool=pool),
        section(epochs=25),
        train=clips(lengths, seed=1),
        val=clips(lengths, seed=2),
    )
    assert state.records[-1].metrics["val_accuracy"] == 1.0


def test_patches_that_learn_by_themselves_are_pooled_when_they_are_judged():
    """And votes, through which nothing can be learned, are counted then."""
    lengths = [1, 3, 2, 5] * 15
    train, val = clips(lengths, seed=1).per_patch(), clips(lengths, seed=2)
    learned = {
        name: run(network(pool=Pool(name, "logits", {})), section(epochs=25), train=train, val=val)
        for name in ("mean", "max", "vote")
    }
    assert all(one.records[-1].metrics["val_accuracy"] == 1.0 for one in learned.values())
    assert same(learned["mean"].model, learned["vote"].model)  # pooling has no part in learning
    assert learned["vote"].records[-1].val_loss == pytest.approx(0.0, abs=1e-4)
    assert learned["mean"].records[-1].val_loss > 1e-3


def test_several_labels_are_learned_each_by_itself():
    train = of_several_labels(blobs(120, seed=1))
    val = of_several_labels(blobs(120, seed=2))
    # Without a label or with a second one are other clips of the same kind: make them to be told.
    rows = [np.concatenate([one.rows[0], one.targets], axis=1) for one in (train, val)]
    train, val = (
        Examples((wide,), one.offsets, one.targets)
        for wide, one in zip(rows, (train, val), strict=True)
    )
    made = network(widths=(7,), multi_label=True)
    state = run(made, section(epochs=40), train=train, val=val)
    assert state.records[-1].metrics["val_accuracy"] == 1.0  # all labels of a clip right
    assert state.records[-1].metrics["val_macro_f1"] == 1.0
    said = torch.sigmoid(logits_of(made, val)).numpy() > 0.5
    assert np.array_equal(said, val.targets > 0.5)
    assert not said[::4].any()  # clips without any label get none


def test_losses_and_metrics_are_those_of_the_parameters_that_are_kept():
    val = blobs(seed=2, spread=1.2)
    made = network()
    state = run(made, section(epochs=1), val=val)
    made.load_state_dict(state.model)
    logits = logits_of(made, val)
    record = state.records[0]
    loss = F.cross_entropy(logits, torch.from_numpy(val.targets))
    assert record.val_loss == pytest.approx(loss.item(), rel=1e-5)
    predicted = logits.argmax(dim=1).numpy()
    assert record.metrics["val_accuracy"] == pytest.approx((predicted == val.targets).mean())


def test_the_train_loss_of_one_full_batch_is_that_before_its_step():
    state = run(network(), section(epochs=1, batch_size=1000))
    assert state.records[0].train_loss == pytest.approx(np.log(3))  # a linear head starts at zero


@pytest.mark.parametrize(
    "key",
    [
        "lr",
        "weight_decay",
        "label_smoothing",
        "mixup",
        "focal_gamma",
        "momentum",
    ],
)
def test_zero_is_a_legal_rate(key):
    beside = {"focal_gamma": {"loss": "focal"}, "momentum": {"optimizer": "sgd"}}.get(key, {})
    state = run(network("mlp", dropout=0.0), section(**{key: 0.0}, **beside))
    assert len(state.records) == 5
    assert all(np.isfinite(record.train_loss) for record in state.records)


def test_a_learning_rate_of_zero_changes_nothing():
    made = network("mlp")
    before = copy.deepcopy(made.state_dict())
    state = run(made, section(lr=0.0, weight_decay=0.1, label_smoothing=0.1))
    assert same(dict(before), state.best)
    assert state.best_epoch == 1


def test_dropout_is_on_in_every_step_and_off_in_validation():
    made = network("mlp")
    modes: list[tuple[bool, int]] = []
    made.head.register_forward_pre_hook(
        lambda head, given: modes.append((head.training, len(given[0])))
    )
    run(made, section(epochs=3, batch_size=48), train=blobs(90), val=blobs(50))
    assert modes == [(True, 48), (True, 42), (False, 50)] * 3


def test_label_smoothing_and_weight_decay_have_an_effect():
    def norm(**options) -> torch.Tensor:
        return run(network(), section(**options)).best["head.weight"].norm()

    assert norm(label_smoothing=0.4) < norm()
    assert norm(weight_decay=1.0) < norm()


def test_a_linear_head_with_l2_penalty_in_full_batches_is_logistic_regression():
    """As scikit-learn finds it; its penalty 1 / C is shared by the clips, and spares the biases."""
    train, test = blobs(120, spread=1.5), blobs(60, seed=1, spread=1.5)
    penalty = {"optimizer": "adam", "weight_decay": 1 / 120, "select": "last"}
    full = section(epochs=800, lr=0.02, batch_size=1000, **penalty)
    made = network()
    made.load_state_dict(run(made, full, train=train, val=test).best)
    known = LogisticRegression(C=1.0, max_iter=1000).fit(train.rows[0], train.targets)
    scores = logits_of(made, test).softmax(dim=1).numpy()
    assert scores == pytest.approx(known.predict_proba(test.rows[0]), abs=0.02)


# Classes of unequal size


@pytest.mark.parametrize("way", [{"class_weights": "balanced"}, {"sampling": "balanced"}])
def test_balanced_weights_and_balanced_sampling_help_a_rare_class(way):
    generator = np.random.default_rng(0)
    targets = (np.arange(300) % 15 == 0).astype(np.int64)
    rows = (targets[:, None] * 1.0 + generator.normal(size=(300, 4))).astype(np.float32)
    rare_clips = Examples((rows,), np.arange(301), targets)

    def recall(**options) -> float:
        made = network(classes=2)
        state = run(made, section(epochs=20, **options), train=rare_clips, val=rare_clips)
        made.load_state_dict(state.model)
        predicted = logits_of(made, rare_clips).argmax(dim=1).numpy()
        return float((predicted[targets == 1] == 1).mean())

    assert recall(**way) > recall() + 0.2


def test_balanced_weights_help_a_rare_label():
    generator = np.random.default_rng(0)
    targets = np.stack([np.arange(300) % 2, np.arange(300) % 15 == 0], axis=1).astype(np.float32)
    rows = (targets @ np.eye(2, 4) + generator.normal(size=(300, 4))).astype(np.float32)
    rare_clips = Examples((rows,), np.arange(301), targets)

    def said(**options) -> np.ndarray:
        made = network(classes=2, multi_label=True)
        run(made, section(epochs=20, **options), train=rare_clips, val=rare_clips)
        return (logits_of(made, rare_clips) > 0).numpy()[targets[:, 1] == 1, 1]

    assert said(class_weights="balanced").mean() > said().mean() + 0.2


# What is done to examples


def test_spec_augment_hides_training_pictures_and_no_others():
    shown: list[tuple[bool, float]] = []
    made = network("resnet18", pool=MEAN, widths=(8,), vectors_per_patch=6)
    made.head.register_forward_pre_hook(
        lambda head, given: shown.append(
            (head.training, len(torch.unique(given[0])) / given[0].numel())
        )
    )
    ones = pictures([1] * 4, (6, 8))
    options = {"time_masks": 1, "time_share": 1.0, "mel_masks": 0}
    run(made, section(epochs=4, lr=0.0, spec_augment=options), train=ones, val=ones)
    assert all(share == 1.0 for training, share in shown if not training)
    assert all(share < 1.0 for training, share in shown if training)


def test_mixup_is_in_the_train_loss_and_not_in_validation():
    """With alpha so large that halves are mixed, and a linear head that knows the corners."""
    made, corners = network(), blobs(spread=0.0)
    with torch.no_grad():
        made.head.weight.copy_(10 * torch.eye(3, 4))

    def judged(mixup: float) -> EpochRecord:
        options = section(lr=0.0, epochs=1, batch_size=1000, mixup=mixup)
        return run(made, options, train=corners, val=corners).records[0]

    plain, mixed = judged(0.0), judged(1e6)
    assert plain.train_loss == pytest.approx(plain.val_loss)
    assert plain.train_loss < 1e-6
    assert mixed.val_loss == plain.val_loss
    # Of three pairs two are of different corners, and half right either way.
    assert mixed.train_loss == pytest.approx(2 / 3 * np.log(2), rel=0.15)


def test_the_train_loss_of_mixed_clips_is_that_of_both_targets():
    """Shares near 0 and 1: what is nearly its partner has its partner's target."""
    made, corners = network(), blobs(spread=0.0)
    with torch.no_grad():
        made.head.weight.copy_(torch.eye(3, 4))
    options = section(lr=0.0, epochs=30, batch_size=1000, mixup=0.1)
    losses = [r.train_loss for r in run(made, options, train=corners, val=corners).records]
    own = np.log(np.exp(2) + 2) - 2
    assert min(losses) == pytest.approx(own, abs=0.01)
    assert max(losses) < 0.85  # against their own targets alone: up to 1.6


def test_mixup_of_clips_with_several_patches_is_refused():
    with pytest.raises(ValueError, match=r"mixup \(0\.2\) mixes .* not 4 clips of 8 patches"):
        run(network(pool=MEAN), section(mixup=0.2), train=clips([2] * 4))


def test_mixup_still_learns():
    state = run(network(), section(epochs=25, mixup=0.2))
    assert state.records[-1].metrics["val_accuracy"] == 1.0


# Gradients


@pytest.mark.parametrize("limit", [0.01, 1e9])
def test_a_gradient_is_not_longer_than_clip_norm(limit):
    """One step of plain SGD moves the parameters by the rate times the gradient."""
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "lr": 1.0, "epochs": 1}
    made, free = network(), network()
    run(made, section(**plain, batch_size=1000, clip_norm=limit))
    run(free, section(**plain, batch_size=1000))
    moved = torch.cat([value.flatten() for value in made.state_dict().values()])
    freely = torch.cat([value.flatten() for value in free.state_dict().values()])
    assert freely.norm() > 0.1
    assert moved.norm().item() == pytest.approx(min(limit, freely.norm().item()), rel=1e-4)
    assert F.cosine_similarity(moved, freely, dim=0).item() == pytest.approx(1.0, abs=1e-5)


def test_the_momentum_of_sgd_is_that_of_the_recipe():
    def end(**options) -> torch.Tensor:
        return run(network(), section(optimizer="sgd", lr=0.01, **options)).model["head.weight"]

    assert end().equal(end(momentum=0.9))
    assert end(momentum=0.0).norm() < end(momentum=0.5).norm() < end().norm()


def test_bfloat16_trains_about_as_well_and_its_records_are_plain_numbers():
    exact = run(network("mlp"), section(epochs=15))
    coarse = run(network("mlp"), section(epochs=15, precision="bfloat16"))
    assert coarse.records[-1].metrics["val_accuracy"] == 1.0
    assert coarse.records[-1].val_loss == pytest.approx(exact.records[-1].val_loss, abs=0.05)
    assert coarse.records[-1].val_loss != exact.records[-1].val_loss
    assert {value.dtype for value in coarse.best.values()} == {torch.float32}


@pytest.mark.parametrize("multi_label", [False, True])
def test_bfloat16_and_poolings_of_scores_go_together(multi_label):
    """A sigmoid of 8 rounds to 1 there, of which the logit is infinite."""
    lengths = [1, 2] * 30
    one = clips(lengths)
    train = of_several_labels(one) if multi_label else one
    made = network(pool=Pool("max", "scores", {}), multi_label=multi_label)
    with torch.no_grad():
        made.head.weight.copy_(10 * torch.eye(3, 4))
    state = run(made, section(precision="bfloat16"), train=train, val=train)
    assert all(np.isfinite([r.train_loss, r.val_loss]).all() for r in state.records)
    assert all(value.isfinite().all() for value in state.model.values())


# Parts with a rate of their own


class Rated(torch.nn.Module):
    """A head of two layers of which the first has a factor."""

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.trunk = torch.nn.Linear(4, 4)
        self.top = torch.nn.Linear(4, 3)
        self._factor = factor

    def rates(self) -> dict[str, float]:
        return {"trunk.": self._factor}

    def forward(self, vectors):
        return self.top(self.trunk(vectors))


def rated(factor: float):
    made = network()
    torch.manual_seed(3)
    made.head = Rated(factor)
    return made


@pytest.mark.parametrize("optimizer", ["adamw", "adam", "sgd"])
def test_a_part_of_rate_zero_does_not_move(optimizer):
    made = rated(0.0)
    before = copy.deepcopy(made.state_dict())
    state = run(made, section(optimizer=optimizer, weight_decay=0.5))
    assert same(before | {k: v for k, v in state.model.items() if "top" in k}, state.model)
    assert not state.model["head.top.weight"].equal(before["head.top.weight"])
    assert not made.head.trunk.weight.requires_grad


def test_a_factor_scales_the_step():
    """In one step of plain SGD, twice the rate is twice the way."""
    plain = {"optimizer": "sgd", "momentum": 0.0, "weight_decay": 0.0, "epochs": 1, "lr": 0.1}

    def moved(factor: float) -> dict[str, torch.Tensor]:
        made = rated(factor)
        before = copy.deepcopy(made.state_dict())
        after = run(made, section(**plain, batch_size=1000)).model
        return {name: after[name] - before[name] for name in before}

    once, half, twice = moved(1.0), moved(0.5), moved(2.0)
    for name in ("head.trunk.weight", "head.trunk.bias"):
        assert torch.allclose(twice[name], 2 * once[name], atol=1e-6)
        assert torch.allclose(half[name], 0.5 * once[name], atol=1e-6)
    assert half["head.top.weight"].equal(twice["head.top.weight"])


def test_a_factor_follows_the_schedule_and_survives_resumption():
    options = section(schedule={"name": "step", "every": 2}, epochs=4)
    kept: list[FitState] = []

    def keep(record, state):
        if record.epoch == 2:
            kept.append(copy.deepcopy(state))

    whole = run(rated(0.5), options, listen=keep)
    taken_up = run(rated(0.5), options, resume=kept[0])
    assert same(whole.model, taken_up.model)
    groups = taken_up.optimizer["param_groups"]
    assert sorted(group["lr"] for group in groups) == pytest.approx([0.5 * 0.005, 0.005])


# Which epoch is kept


def record(epoch: int, accuracy: float, f1: float, loss: float | None, **more) -> EpochRecord:
    metrics = {"val_accuracy": accuracy, "val_macro_f1": f1} | more
    return EpochRecord(epoch, 1.0, loss, metrics, 0.1, 0.0)


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
        ("val_macro_f1", (0.9, float("nan"), 1.0), (0.9, 0.1, 2.0), False),
        ("val_macro_f1", (0.9, float("nan"), 1.0), (0.9, float("nan"), 2.0), True),
        ("last", (0.1, 0.1, 9.0), (0.9, 0.9, 0.1), True),
    ],
)
def test_the_better_epoch_is_that_of_the_named_metric(select, new, old, expected):
    assert better(record(2, *new), record(1, *old), section(select=select)) is expected
    assert better(record(1, *new), None, section(select=select))


@pytest.mark.parametrize("select", ["val_map", "val_auc", "val_weighted_auc"])
def test_epochs_are_compared_by_metrics_of_rankings_too(select):
    old, new = (record(1, 1.0, 1.0, 0.1, **{select: 0.5}), record(2, 0, 0, 9.0, **{select: 0.6}))
    assert better(new, old, section(select=select))
    assert not better(old, new, section(select=select))


@pytest.mark.parametrize(
    "select", ["val_accuracy", "val_macro_f1", "val_loss", "val_map", "val_auc", "val_weighted_auc"]
)
def test_the_best_epochs_parameters_are_kept_and_not_the_last(select):
    seen: list[dict] = []

    def listen(_record, state):
        seen.append({key: value.clone() for key, value in state.model.items()})

    val = blobs(seed=9, spread=1.0)
    state = run(network(), section(epochs=12, lr=0.8, select=select), val=val, listen=listen)
    quality = [
        (-r.val_loss,) if select == "val_loss" else (r.metrics[select], -r.val_loss)
        for r in state.records
    ]
    assert state.best_epoch == 1 + quality.index(max(quality))
    assert state.best_epoch != 12
    assert same(state.best, seen[state.best_epoch - 1])
    assert same(state.model, seen[-1])


def test_without_val_clips_the_train_loss_decides():
    state = run(network(), section(epochs=4, select="val_accuracy"), train=blobs(), val=NOTHING)
    assert all(r.val_loss is None and r.metrics == {} for r in state.records)
    losses = [r.train_loss for r in state.records]
    assert state.best_epoch == 1 + losses.index(min(losses))


def test_the_last_epoch_is_kept_where_that_is_asked_for():
    val = blobs(seed=9, spread=1.0)
    state = run(network(), section(epochs=12, lr=0.8, select="last"), val=val)
    assert state.best_epoch == 12
    assert same(state.best, state.model)


@pytest.mark.parametrize("multi_label", [False, True])
def test_a_run_that_diverges_is_judged_and_keeps_its_best_epoch(multi_label):
    train = of_several_labels(blobs()) if multi_label else blobs()
    made = network("mlp", multi_label=multi_label)
    options = section(epochs=3, lr=1e30, optimizer="sgd", batch_size=1000)
    state = run(made, options, train=train, val=train)
    assert np.isnan(state.records[-1].val_loss)
    assert state.best_epoch == 1


# When it ends


@pytest.mark.parametrize("patience", [1, 2, 4])
@pytest.mark.parametrize("select", ["val_loss", "val_accuracy"])
def test_training_ends_after_so_many_epochs_without_a_better_one(patience, select):
    val, options = blobs(seed=9, spread=1.0), {"epochs": 30, "lr": 0.8, "select": select}
    whole = run(network(), section(**options), val=val)
    state = run(network(), section(**options, patience=patience), val=val)
    best, waited, ends = whole.records[0], 0, 30
    for one in whole.records[1:]:
        if better(one, best, section(select=select)):
            best, waited = one, 0
        else:
            waited += 1
        if waited == patience:
            ends = one.epoch
            break
    assert ends < 30
    assert len(state.records) == ends
    assert state.best_epoch == ends - patience
    assert comparable(state.records) == comparable(whole.records[:ends])


@pytest.mark.parametrize(
    ("epochs", "best", "patience", "expected"),
    [(1, 1, 1, False), (2, 1, 1, True), (5, 3, 3, False), (6, 3, 3, True)],
)
def test_who_waits_for_a_better_epoch_stops_after_patience(epochs, best, patience, expected):
    records = [record(epoch, 0.5, 0.5, 1.0) for epoch in range(1, epochs + 1)]
    assert stopped(records, best, section(patience=patience)) is expected
    assert not stopped(records, best, section())


# The same again


def test_a_seed_gives_the_same_run_and_another_seed_another():
    def outcome(seed: int):
        return run(network("mlp", dropout=0.5), section(seed=seed))

    first, again, other = outcome(3), outcome(3), outcome(4)
    assert same(first.model, again.model)
    assert comparable(first.records) == comparable(again.records)
    assert not same(first.model, other.model)


@pytest.mark.parametrize("seed", [0, 2**32 - 1])
def test_every_seed_that_a_recipe_may_have_works(seed):
    for sampling in ("shuffle", "balanced"):
        options = section(seed=seed, epochs=1, sampling=sampling, mixup=0.1)
        assert len(run(network(), options).records) == 1


def test_networks_of_one_seed_are_equal_and_of_another_different():
    made = [network("mlp", seed=seed).state_dict() for seed in (1, 1, 2)]
    assert same(made[0], made[1])
    assert not same(made[0], made[2])


def test_a_batch_of_one_and_a_batch_of_nothing_have_finite_gradients():
    made = network("mlp", norm="batch", pool=MEAN).train()
    for lengths in ([1], [3], []):
        batch = Batch.of(clips(lengths) if lengths else NOTHING)
        made.zero_grad()
        made(batch).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters())
