"""What every registered head promises, run over all of them.

Shapes: B clips, N vectors or pictures, P patches of a clip, V vectors of a patch, D width of a
vector, C classes.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import nn

from audioflow.errors import TableError
from audioflow.heads import HEADS, estimators
from audioflow.heads.base import HeadShape, Takes, is_estimator
from audioflow.registry import Settings
from audioflow.storage import Folder
from audioflow.systems.bundle import HeadBundle, HeadSpec
from audioflow.systems.inputs import ClipRows
from tests.unit.small_training import blobs, clips, network, run, section

NAMES = HEADS.names()
ESTIMATORS = [name for name in NAMES if is_estimator(HEADS.load(name))]
TRAINED = [name for name in NAMES if name not in ESTIMATORS]
SEQUENCES = [name for name in TRAINED if "sequences" in HEADS.load(name).takes]
C = 3


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """Threads only get in each other's way on matrices this small."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@dataclass(frozen=True)
class Small:
    """Sizes and settings with which a head is small, or as small as it gets."""

    widths: tuple[int, ...] = (6,)
    tall: int = 1
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def shape(self) -> HeadShape:
        layers = tuple(f"layer{place}" for place in range(len(self.widths)))
        return HeadShape(layers, self.widths, self.tall)


SMALL = {
    "mlp": Small(options={"hidden": [8], "dropout": 0.0}),
    "multi_layer": Small((6, 4), options={"hidden": [8, 5], "dropout": 0.0}),
    "attention": Small(options={"num_heads": 2, "dropout": 0.0}),
    "gated_attention": Small(options={"hidden": 8}),
    "short_chunk_cnn": Small((108,), 720),
    "vgg16_bn": Small((8,), 8, {"size": 32}),
    "resnet18": Small((8,), 8),
    "resnet50": Small((8,), 8),
    "vggish_finetune": Small((64,), 96, {"weights": "random", "pool": "mean"}),
}
QUICK = [name for name in TRAINED if HEADS.load(name).takes in ("vectors", "layers", "sequences")]


def small(name: str) -> Small:
    return SMALL.get(name, Small())


def build(name: str, seed: int = 0, classes: int = C, **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    given = small(name).options | options
    return HEADS.build(name, given).build(small(name).shape, classes)


def given_to(name: str, count: int, patches: int = 3, seed: int = 0) -> tuple[Any, ...]:
    """What a head takes of so many clips (or patches): tensors, a list of them, or with a mask."""
    generator, takes = torch.Generator().manual_seed(seed), HEADS.load(name).takes
    widths, tall = small(name).widths, small(name).tall
    if takes == "layers":
        return ([torch.randn(count, width, generator=generator) for width in widths],)
    rows = (count, patches) if "sequences" in takes else (count,)
    picture = (tall, widths[0]) if "picture" in takes else (widths[0],)
    values = torch.randn(*rows, *picture, generator=generator)
    if "sequences" not in takes:
        return (values,)
    lengths = torch.arange(count) % patches + 1
    return values, torch.arange(patches) < lengths[:, None]


def logits_of(module: nn.Module, given: tuple[Any, ...]) -> torch.Tensor:
    """(R, B, C), whatever a head takes."""
    with torch.no_grad():
        found = module(*given)
    return found if found.ndim == 3 else found[None]


def part(given: tuple[Any, ...], place: int) -> tuple[Any, ...]:
    """One of the clips."""
    here = slice(place, place + 1)
    return tuple(
        [layer[here] for layer in one] if isinstance(one, list) else one[here] for one in given
    )


def test_there_are_heads_of_every_kind():
    assert {"linear", "mlp"} <= set(NAMES)
    assert {HEADS.load(name).takes for name in NAMES} == set(get_args(Takes))
    assert len(ESTIMATORS) == 6
    assert set(SMALL) <= set(NAMES)


# Settings


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_and_strict(name):
    plugin = HEADS.load(name)
    assert issubclass(plugin.Settings, Settings)
    with pytest.raises(ValidationError, match="no_such_setting"):
        HEADS.build(name, {"no_such_setting": 1})
    settings = plugin.Settings()
    for field_name in plugin.Settings.model_fields:
        with pytest.raises(ValidationError, match="frozen"):
            setattr(settings, field_name, getattr(settings, field_name))


@pytest.mark.parametrize("name", NAMES)
def test_a_head_says_what_it_takes(name):
    plugin = HEADS.load(name)
    assert plugin.takes in get_args(Takes)
    assert isinstance(getattr(plugin, "normalised", None), bool) == (name in TRAINED)
    assert hasattr(plugin, "build") == (name in TRAINED)


@pytest.mark.parametrize("name", NAMES)
def test_options_of_plain_values_make_the_same_settings(name):
    settings = HEADS.load(name).Settings.model_validate(small(name).options)
    plain = json.loads(json.dumps(settings.model_dump(mode="json")))
    assert HEADS.load(name).Settings.model_validate(plain) == settings


# Heads that torch trains


@pytest.fixture(scope="module", params=TRAINED)
def made(request) -> tuple[str, nn.Module]:
    """Every head that torch trains, built once."""
    return request.param, build(request.param)


@pytest.mark.parametrize("count", [0, 1, 4])
def test_a_head_gives_a_finite_logit_per_class(made, count):
    name, module = made
    logits = logits_of(module.eval(), given_to(name, count))
    readouts = len(small(name).widths)
    assert (logits.shape, logits.dtype) == ((readouts, count, C), torch.float32)
    assert logits.isfinite().all()


def test_clips_do_not_influence_each_other(made):
    name, module = made
    module.eval()
    given = given_to(name, 4)
    together = logits_of(module, given)
    apart = [logits_of(module, part(given, place)) for place in range(4)]
    assert torch.allclose(torch.cat(apart, dim=1), together, atol=1e-4)


def test_the_same_clips_have_the_same_logits_in_evaluation(made):
    name, module = made
    given = given_to(name, 2)
    module.eval()
    assert logits_of(module, given).equal(logits_of(module, given))


def test_large_inputs_give_finite_logits(made):
    name, module = made
    values, *mask = given_to(name, 2)
    loud = [1e6 * one for one in values] if isinstance(values, list) else 1e6 * values
    assert logits_of(module.eval(), (loud, *mask)).isfinite().all()


def test_a_head_trains_on_an_empty_share_of_a_batch(made):
    """What the last worker of many gets of a small batch; its gradient is zero, not missing."""
    name, module = made
    module.train()
    before = {key: value.clone() for key, value in module.named_buffers()}
    module(*given_to(name, 0)).sum().backward()
    for parameter in module.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    assert all(value.equal(before[key]) for key, value in module.named_buffers())
    module.zero_grad()


def test_a_bundle_scores_as_the_head_that_went_into_it(made, tmp_path):
    name, module = made
    values, *mask = given_to(name, 4)
    layers = values if isinstance(values, list) else [values]
    lengths = mask[0].sum(dim=1).tolist() if mask else [1] * 4
    rows = tuple((layer[mask[0]] if mask else layer).numpy() for layer in layers)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    bundle = HeadBundle(spec_of(name), state_of(module))
    bundle.save(Folder(str(tmp_path)), [])
    given = ClipRows(list("abcd"), rows, offsets)
    scores = HeadBundle.load(Folder(str(tmp_path))).scores(given)
    assert np.array_equal(scores, bundle.scores(given))
    logits = logits_of(module.eval(), (values, *mask)).mean(dim=0)
    assert scores == pytest.approx(torch.softmax(logits, dim=1).numpy(), abs=1e-5)


def test_rates_are_of_parameters_that_there_are(made):
    _, module = made
    rates = module.rates() if hasattr(module, "rates") else {}
    for prefix, factor in rates.items():
        assert factor >= 0
        assert any(key.startswith(prefix) for key, _ in module.named_parameters())


def state_of(module: nn.Module) -> dict[str, torch.Tensor]:
    return {f"head.{key}": value for key, value in module.state_dict().items()}


def spec_of(name: str, **changes: Any) -> HeadSpec:
    """A bundle's description of a small head that is not normalised."""
    takes = HEADS.load(name).takes
    pooling = {"name": "mean", "on": "logits" if takes == "pictures" else "embeddings"}
    shape = small(name).shape
    values = {
        "system": "s",
        "backbone": "b",
        "embeddings": "f",
        "layers": dict(zip(shape.layers, shape.widths, strict=True)),
        "vectors_per_patch": shape.vectors_per_patch,
        "pooling": None if "sequences" in takes else pooling,
        "head": {"name": name} | json.loads(json.dumps(small(name).options)),
        "classes": ["a", "b", "c"],
        "head_classes": ["a", "b", "c"],
        "merge": None,
        "multi_label": False,
        "temperature": 1.0,
        "normalised": False,
        "trained_on": {},
    }
    return HeadSpec(**(values | changes))


@pytest.fixture(scope="module", params=SEQUENCES)
def pooling(request) -> tuple[str, nn.Module]:
    """Every head that pools by itself, built once."""
    return request.param, build(request.param).eval()


@pytest.mark.parametrize("filling", [0.0, 1e9, float("nan")])
def test_what_is_not_in_the_mask_does_not_count(pooling, filling):
    name, module = pooling
    values, mask = given_to(name, 4)
    expected = logits_of(module, (values, mask))
    filled = values.clone()
    filled[~mask] = filling
    assert torch.allclose(logits_of(module, (filled, mask)), expected, atol=1e-5)
    longer = torch.nn.functional.pad(mask, (0, 2))
    wide = torch.full((4, 5, *values.shape[2:]), filling)
    wide[:, :3] = filled
    assert torch.allclose(logits_of(module, (wide, longer)), expected, atol=1e-5)


@pytest.mark.parametrize("name", [*QUICK, "short_chunk_cnn"])
def test_every_build_is_fresh_and_a_seed_decides_the_first_parameters(name):
    one, same, other = (build(name, seed).state_dict() for seed in (3, 3, 4))
    assert all(one[key].equal(same[key]) for key in one)
    assert name == "linear" or any(not one[key].equal(other[key]) for key in one)
    next(iter(one.values())).fill_(7.0)
    assert not all(one[key].equal(same[key]) for key in one)


@pytest.mark.parametrize("name", QUICK)
@pytest.mark.parametrize(("width", "classes"), [(2, 2), (200, 1), (4, 50)])
def test_widths_and_classes_are_as_they_come(name, width, classes):
    shape = HeadShape(small(name).shape.layers, (width,) * len(small(name).widths))
    module = HEADS.build(name, small(name).options).build(shape, classes).eval()
    rows = (
        torch.randn(5, 2, width) if HEADS.load(name).takes == "sequences" else torch.randn(5, width)
    )
    given = {
        "vectors": (rows,),
        "layers": ([rows] * len(shape.widths),),
        "sequences": (rows, torch.ones(5, 2, dtype=torch.bool)),
    }[HEADS.load(name).takes]
    assert logits_of(module, given).shape == (len(shape.widths), 5, classes)


@pytest.mark.parametrize("name", TRAINED)
def test_a_head_is_built_without_memory_where_only_its_shape_is_asked(name):
    """On torch's meta device: how a bundle is loaded, and how its parameters are counted."""
    with torch.device("meta"):
        module = HEADS.build(name, small(name).options).build(small(name).shape, C)
    assert all(value.is_meta for value in [*module.parameters(), *module.buffers()])
    kept = {key for key, _ in [*module.named_parameters(), *module.named_buffers()]}
    assert kept == set(module.state_dict())  # a buffer that is not kept would stay empty


@pytest.mark.parametrize("name", QUICK)
def test_a_head_learns_separable_clips_through_the_loop_and_comes_back(name, tmp_path):
    takes, widths = HEADS.load(name).takes, small(name).widths
    lengths = [1, 3, 2] * 20 if takes == "sequences" else [1] * 60
    train, val = (clips(lengths, C, widths[0], seed=seed) for seed in (1, 2))
    if takes == "layers":
        train, val = (
            type(one)((one.rows[0], one.rows[0][:, : widths[1]]), one.offsets, one.targets)
            for one in (train, val)
        )
    system = network(name, widths=widths, normalised=True, **small(name).options)
    state = run(system, section(epochs=30), train=train, val=val)
    assert state.records[state.best_epoch - 1].metrics["val_accuracy"] == 1.0
    bundle = HeadBundle(spec_of(name, normalised=True), state.best)
    bundle.save(Folder(str(tmp_path)), [])
    given = ClipRows([str(n) for n in range(60)], val.rows, val.offsets)
    scores = HeadBundle.load(Folder(str(tmp_path))).scores(given)
    assert np.array_equal(scores, bundle.scores(given))
    assert np.array_equal(scores.argmax(axis=1), val.targets)
    assert scores.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


# Heads that scikit-learn fits


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_learns_separable_vectors_and_comes_back(name, multi_label, tmp_path):
    train, val = (blobs(60, C, 6, seed=seed) for seed in (1, 2))
    fitted = HEADS.build(name, {}).estimator(seed=0)
    targets = train.targets
    if multi_label:
        fitted, targets = estimators.multi_label(fitted), np.eye(C, dtype=np.float32)[targets]
    estimators.fit(fitted, train.rows[0], targets)
    bundle = HeadBundle(spec_of(name, multi_label=multi_label), estimators.save(fitted))
    bundle.save(Folder(str(tmp_path)), [])
    given = ClipRows([str(n) for n in range(60)], val.rows, val.offsets)
    scores = HeadBundle.load(Folder(str(tmp_path))).scores(given)
    assert np.array_equal(scores, bundle.scores(given))
    assert scores == pytest.approx(estimators.scores(fitted, val.rows[0], C), abs=1e-5)
    assert np.array_equal(scores.argmax(axis=1), val.targets)
    assert multi_label or scores.sum(axis=1) == pytest.approx(np.ones(60), abs=1e-5)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_estimator_takes_vectors_and_is_not_fitted_yet(name):
    assert HEADS.load(name).takes == "vectors"
    made = HEADS.build(name, {})
    one, other = made.estimator(seed=0), made.estimator(seed=0)
    assert one is not other
    assert one.steps[-1][0] == name
    assert not hasattr(one.steps[-1][1], "classes_")


@pytest.mark.parametrize("name", ESTIMATORS)
def test_the_file_of_an_estimator_is_not_that_of_weights(name, tmp_path: Path):
    """A head that torch trains has no estimator, and is refused where one lies."""
    train = blobs(60, C, 6)
    fitted = HEADS.build(name, {}).estimator(seed=0)
    estimators.fit(fitted, train.rows[0], train.targets)
    folder = Folder(str(tmp_path / "s"))
    HeadBundle(spec_of(name), estimators.save(fitted)).save(folder, [])
    assert set(folder.names()) == {"head.json", "epochs.json", "estimator.skops"}
    told = json.loads(folder.read("head.json")) | {"head": {"name": "linear"}}
    folder.write("head.json", json.dumps(told).encode())
    with pytest.raises(TableError, match=r"s holds a damaged head bundle: .*weights\.safetensors"):
        HeadBundle.load(folder)
