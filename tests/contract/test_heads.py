"""What every registered head promises, run over all of them."""

import json

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from audioflow.heads import HEADS
from audioflow.heads.bundle import HeadBundle, HeadSpec
from audioflow.recipe import TrainSection
from audioflow.registry import Settings
from audioflow.storage import Folder
from audioflow.training import ClipSet, fit


@pytest.fixture(params=HEADS.names())
def name(request) -> str:
    return request.param


def build(name: str, width: int = 5, classes: int = 3, seed: int = 0, **options) -> nn.Module:
    torch.manual_seed(seed)
    return HEADS.build(name, options).build(width, classes)


def blobs(seed: int, classes: int = 3, width: int = 5) -> ClipSet:
    generator = np.random.default_rng(seed)
    targets = np.arange(60) % classes
    vectors = 2 * np.eye(classes, width)[targets] + 0.2 * generator.normal(size=(60, width))
    return ClipSet(vectors.astype(np.float32), targets.astype(np.int64))


def test_there_are_heads_to_test():
    assert {"linear", "mlp"} <= set(HEADS.names())


@pytest.mark.parametrize(("width", "classes"), [(1, 2), (5, 3), (200, 1), (3, 50)])
def test_a_head_gives_a_logit_per_class(name, width, classes):
    module = build(name, width, classes).eval()
    for count in (0, 1, 7):
        logits = module(torch.randn(count, width))
        assert (logits.shape, logits.dtype) == ((count, classes), torch.float32)
        assert logits.isfinite().all()


def test_clips_do_not_influence_each_other(name):
    module = build(name).eval()
    vectors = torch.randn(6, 5)
    apart = torch.cat([module(one[None]) for one in vectors])
    assert torch.allclose(apart, module(vectors), atol=1e-5)


def test_large_inputs_give_finite_logits(name):
    assert build(name).eval()(torch.full((2, 5), 1e6)).isfinite().all()


def test_a_head_trains_on_an_empty_share_of_a_batch(name):
    """What the last worker of many gets of a small batch; its gradient is zero, not missing."""
    module = build(name).train()
    module(torch.zeros(0, 5)).sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_every_build_is_fresh(name):
    made = HEADS.build(name, {})
    one, other = made.build(5, 3), made.build(5, 3)
    with torch.no_grad():
        next(one.parameters()).fill_(7.0)
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_a_seed_decides_the_first_parameters(name):
    one, other = build(name, seed=3).state_dict(), build(name, seed=3).state_dict()
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_head_learns_separable_clips_and_comes_back_from_its_bundle(name, tmp_path):
    train, val = blobs(1), blobs(2)
    options = {key: value for key, value in defaults(name).items() if key != "dropout"}
    module = build(name, **options)
    section = TrainSection(epochs=20, lr=0.05, batch_size=16)
    state = fit(module, train, val, section, on_epoch=lambda _record, _state: None)
    assert state.records[state.best_epoch - 1].metrics["val_accuracy"] == 1.0
    spec = HeadSpec(
        system="s",
        backbone="b",
        embeddings="f",
        layer="l",
        width=5,
        pooling={"name": "mean"},
        head={"name": name} | json.loads(json.dumps(options)),
        classes=["a", "b", "c"],
        trained_on={},
    )
    tensors = {f"head.{key}": value for key, value in state.best.items()}
    tensors |= {"normalise.mean": torch.zeros(5), "normalise.std": torch.ones(5)}
    bundle = HeadBundle(spec, tensors)
    bundle.save(Folder(str(tmp_path)), [])
    scores = HeadBundle.load(Folder(str(tmp_path))).scores(val.vectors)
    assert np.array_equal(scores, bundle.scores(val.vectors))
    assert np.array_equal(scores.argmax(axis=1), val.targets)
    assert scores.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


def defaults(name: str) -> dict:
    return HEADS.load(name).Settings().model_dump(mode="json")


def test_settings_are_frozen_and_strict(name):
    plugin = HEADS.load(name)
    assert issubclass(plugin.Settings, Settings)
    with pytest.raises(ValidationError, match="no_such_setting"):
        HEADS.build(name, {"no_such_setting": 1})
    settings = plugin.Settings()
    for field in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field, getattr(settings, field))


def test_options_of_plain_values_make_the_same_head(name):
    one, other = build(name).state_dict(), build(name, **defaults(name)).state_dict()
    assert {key: value.shape for key, value in one.items()} == {
        key: value.shape for key, value in other.items()
    }


# What single heads have to themselves


def test_a_linear_head_starts_with_equal_logits():
    assert not build("linear").eval()(torch.randn(4, 5)).any()


def test_an_mlp_has_the_hidden_layers_that_it_is_told():
    shapes = [tuple(p.shape) for p in build("mlp", hidden=[7, 4]).parameters() if p.dim() == 2]
    assert shapes == [(7, 5), (4, 7), (3, 4)]
    assert build("mlp", dropout=0).train()(torch.ones(2, 5)).std(dim=0).max() == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": []}, "hidden"),
        ({"hidden": [4, 0]}, "hidden has the width 0; allowed: 1 or more"),
        ({"dropout": 1.0}, "dropout"),
        ({"dropout": -0.1}, "dropout"),
        ({"dropout": float("nan")}, "dropout"),
    ],
)
def test_an_mlp_refuses_settings_out_of_range(options, message):
    with pytest.raises(ValidationError, match=message):
        HEADS.build("mlp", options)
