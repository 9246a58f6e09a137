"""What every registered pooling promises, run over all of them.

Shapes: B clips, P patches of a clip, D width of an embedding, K columns of what is pooled.
"""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from audioflow.embeddings import LayerRows
from audioflow.pooling import POOLINGS
from audioflow.registry import Settings

WIDTH = 4
NAMES = POOLINGS.names()
ANYWHERE = ("embeddings", "logits", "scores")


def on(name: str) -> tuple[str, ...]:
    return POOLINGS.load(name).on


WHILE_READING = [n for n in NAMES if "embeddings" in on(n) and not POOLINGS.load(n).learned]
"""Those that are applied as embeddings are read."""
IN_NETWORKS = [n for n in NAMES if POOLINGS.load(n).learned or set(on(n)) - {"embeddings"}]
"""Those that are part of a network."""


@pytest.fixture(params=WHILE_READING)
def pooling(request):
    """Every pooling of embeddings without parameters, made from its own defaults."""
    return POOLINGS.build(request.param, {})


@pytest.fixture(params=IN_NETWORKS)
def name(request) -> str:
    return request.param


def rows(lengths: list[int], seed: int = 0) -> LayerRows:
    vectors = np.random.default_rng(seed).normal(size=(sum(lengths), WIDTH)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return LayerRows([str(index) for index in range(len(lengths))], vectors, offsets)


def alone(all_rows: LayerRows, index: int) -> LayerRows:
    vectors = all_rows.clip(index)
    return LayerRows([all_rows.clip_ids[index]], vectors, np.array([0, len(vectors)]))


def test_there_are_poolings_to_test():
    assert {"mean", "max", "mean_max", "mean_std", "top_k"} == set(WHILE_READING)
    assert {"mean", "max", "top_k", "attention", "learned", "vote"} == set(IN_NETWORKS)


@pytest.mark.parametrize("name", NAMES)
def test_a_pooling_says_what_it_is_used_on_and_whether_it_learns(name):
    plugin = POOLINGS.load(name)
    assert plugin.on
    assert len(set(plugin.on)) == len(plugin.on)
    assert set(plugin.on) <= set(ANYWHERE)
    assert isinstance(plugin.learned, bool)
    assert hasattr(plugin, "pool") == (name in WHILE_READING)
    assert name in WHILE_READING or name in IN_NETWORKS


@pytest.mark.parametrize("name", NAMES)
def test_settings_are_frozen_and_strict(name):
    plugin = POOLINGS.load(name)
    assert issubclass(plugin.Settings, Settings)
    with pytest.raises(ValidationError, match="no_such_setting"):
        POOLINGS.build(name, {"no_such_setting": 1})
    assert plugin.Settings.model_config["frozen"]


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("top_k", {"k": 0}, "k"),
        ("attention", {"hidden": 0}, "hidden"),
        ("learned", {"alpha": -1}, "alpha"),
        ("learned", {"alpha": float("nan")}, "alpha"),
    ],
)
def test_settings_out_of_range_are_refused(name, options, told):
    with pytest.raises(ValidationError, match=told):
        POOLINGS.build(name, options)


# As embeddings are read


@pytest.mark.parametrize("lengths", [[1], [3, 1, 7], [1] * 20, []])
def test_a_pooling_gives_one_finite_float32_vector_per_clip(pooling, lengths):
    found = pooling.pool(rows(lengths))
    assert found.shape == (len(lengths), pooling.width(WIDTH))
    assert found.dtype == np.float32
    assert np.isfinite(found).all()


def test_clips_do_not_influence_each_other(pooling):
    together = rows([3, 1, 7, 2])
    apart = np.concatenate([pooling.pool(alone(together, index)) for index in range(4)])
    assert pooling.pool(together) == pytest.approx(apart, abs=1e-5)


def test_the_order_of_patches_does_not_matter(pooling):
    one = rows([6])
    turned = LayerRows(one.clip_ids, one.vectors[::-1].copy(), one.offsets)
    assert pooling.pool(one) == pytest.approx(pooling.pool(turned), abs=1e-5)


def test_equal_patches_pool_to_that_patch(pooling):
    patch = rows([1])
    many = LayerRows(["a"], np.repeat(patch.vectors, 9, axis=0), np.array([0, 9]))
    assert pooling.pool(many)[0, :WIDTH] == pytest.approx(patch.vectors[0], abs=1e-6)
    assert pooling.pool(many) == pytest.approx(pooling.pool(patch), abs=1e-6)


def test_the_vectors_are_left_as_they_were_and_the_same_again_is_the_same(pooling):
    given = rows([3, 2])
    given.vectors.flags.writeable = False  # as they are when they come from a table
    before = given.vectors.copy()
    assert np.array_equal(pooling.pool(given), pooling.pool(given))
    assert np.array_equal(given.vectors, before)


@pytest.mark.parametrize("width", [1, 108, 2048])
def test_the_width_follows_from_the_layers(pooling, width):
    given = LayerRows(["a"], np.ones((2, width), np.float32), np.array([0, 2]))
    assert pooling.pool(given).shape == (1, pooling.width(width))


def test_a_clip_without_a_patch_is_an_error_that_names_it(pooling):
    with pytest.raises(ValueError, match="clip '1' has no patch to pool"):
        pooling.pool(rows([2, 0, 3]))


# In a network


K = 3
LENGTHS = [4, 1, 7, 2]


def module(name: str, num_columns: int = K, **options) -> torch.nn.Module:
    """Of parameters that are not as at first."""
    made = POOLINGS.build(name, options).module(WIDTH, num_columns)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in made.parameters():
            value.copy_(torch.randn(value.shape, generator=generator))
    return made.eval()


def padded(lengths: list[int], filling: float = 0.0, longest: int = 0) -> tuple[torch.Tensor, ...]:
    """Values (B, P, K), vectors (B, P, D) and mask (B, P) of clips with so many patches."""
    generator = torch.Generator().manual_seed(1)
    longest = max([longest, *lengths])
    values = torch.full((len(lengths), longest, K), filling)
    vectors = torch.full((len(lengths), longest, WIDTH), filling)
    mask = torch.zeros(len(lengths), longest, dtype=torch.bool)
    for place, length in enumerate(lengths):
        values[place, :length] = torch.randn(length, K, generator=generator)
        vectors[place, :length] = torch.randn(length, WIDTH, generator=generator)
        mask[place, :length] = True
    return values, vectors, mask


def test_a_module_gives_finite_values_per_clip(name):
    for lengths in (LENGTHS, [1], [1] * 20):
        found = module(name)(*padded(lengths))
        assert (found.shape, found.dtype) == ((len(lengths), K), torch.float32)
        assert found.isfinite().all()


def test_of_no_clip_there_is_nothing_and_gradients_are_zero(name):
    made = module(name)
    values, vectors, mask = padded([2])
    found = made(values[:0], vectors[:0], mask[:0])
    assert found.shape == (0, K)
    if list(made.parameters()):
        found.sum().backward()
        assert all(not value.grad.any() for value in made.parameters())


@pytest.mark.parametrize("filling", [0.0, 1e9, -1e9, float("nan"), float("inf")])
@pytest.mark.parametrize("longest", [7, 12])
def test_what_stands_where_there_is_no_patch_has_no_influence(name, filling, longest):
    made = module(name)
    expected = made(*padded(LENGTHS))
    assert torch.allclose(made(*padded(LENGTHS, filling, longest)), expected, atol=1e-6)


@pytest.mark.parametrize("name", [n for n in IN_NETWORKS if n != "vote"])
def test_gradients_ignore_what_stands_where_there_is_no_patch(name):
    made = module(name)

    def gradients(filling: float) -> list[torch.Tensor]:
        values, vectors, mask = padded(LENGTHS, filling)
        values.requires_grad_()
        made.zero_grad()
        made(values, vectors, mask).square().sum().backward()
        assert values.grad is not None
        assert not values.grad[~mask].any()
        return [values.grad, *(value.grad.clone() for value in made.parameters())]

    for plain, odd in zip(gradients(0.0), gradients(float("nan")), strict=True):
        assert plain.isfinite().all()
        assert torch.allclose(plain, odd, atol=1e-6)
        assert plain.any()


def test_other_clips_have_no_influence(name):
    made, (values, vectors, mask) = module(name), padded(LENGTHS)
    together = made(values, vectors, mask)
    for place, length in enumerate(LENGTHS):
        here = (slice(place, place + 1), slice(0, length))
        alone_there = made(values[here], vectors[here], mask[here])
        assert torch.allclose(together[place], alone_there[0], atol=1e-5)


def test_the_order_of_patches_has_no_influence(name):
    made, (values, vectors, mask) = module(name), padded([6, 6])
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    turned = made(values[:, order], vectors[:, order], mask)
    assert torch.allclose(made(values, vectors, mask), turned, atol=1e-5)


@pytest.mark.parametrize("count", [1, 9])
def test_equal_patches_give_what_one_gives(name, count):
    made, (values, vectors, _) = module(name), padded([1])
    mask = torch.ones(1, count, dtype=torch.bool)
    found = made(values.expand(1, count, K), vectors.expand(1, count, WIDTH), mask)
    expected = values[:, 0]
    if name == "vote":
        expected = torch.where(expected == expected.max(), 1.0, 1e-6).log()
    assert torch.allclose(found, expected, atol=1e-5)


def test_pooled_values_lie_between_those_of_the_patches(name):
    values, vectors, mask = padded([6] * 5)
    found = module(name)(values, vectors, mask)
    if name == "vote":
        found, values = found.exp(), torch.tensor([[[0.0], [1.0]]])
    assert (found <= values.amax(dim=1) + 1e-5).all()
    assert (found >= values.amin(dim=1) - 1e-5).all()


@pytest.mark.parametrize("name", [n for n in WHILE_READING if n in IN_NETWORKS])
def test_torch_and_numpy_agree(name):
    """Vectors are the values themselves."""
    given = rows(LENGTHS)
    made = POOLINGS.build(name, {})
    values = torch.zeros(len(LENGTHS), max(LENGTHS), WIDTH)
    mask = torch.zeros(len(LENGTHS), max(LENGTHS), dtype=torch.bool)
    for place, length in enumerate(LENGTHS):
        values[place, :length] = torch.from_numpy(given.clip(place))
        mask[place, :length] = True
    found = made.module(WIDTH, WIDTH)(values, values, mask)
    assert found.numpy() == pytest.approx(made.pool(given), abs=1e-6)


@pytest.mark.parametrize("name", [n for n in WHILE_READING if n not in IN_NETWORKS])
def test_what_widens_vectors_is_no_part_of_a_network(name):
    with pytest.raises(NotImplementedError, match=f"{name} is applied as embeddings are read"):
        POOLINGS.build(name, {}).module(WIDTH, K)


def test_only_what_learns_has_parameters(name):
    parameters = list(POOLINGS.build(name, {}).module(WIDTH, K).parameters())
    assert bool(parameters) == POOLINGS.load(name).learned


# What single ones begin with


def test_attention_begins_as_a_mean_and_learned_pooling_between_mean_and_max():
    values, vectors, mask = padded(LENGTHS)
    mean = POOLINGS.build("mean", {}).module(WIDTH, K)(values, vectors, mask)
    largest = POOLINGS.build("max", {}).module(WIDTH, K)(values, vectors, mask)
    for options in ({}, {"gated": True}):
        first = POOLINGS.build("attention", options).module(WIDTH, K)
        assert torch.allclose(first(values, vectors, mask), mean, atol=1e-6)

    def learned(alpha: float) -> torch.Tensor:
        return POOLINGS.build("learned", {"alpha": alpha}).module(WIDTH, K)(values, vectors, mask)

    assert torch.allclose(learned(0.0), mean, atol=1e-6)
    assert torch.allclose(learned(100.0), largest, atol=1e-3)
    several = [place for place, length in enumerate(LENGTHS) if length > 1]
    assert (learned(1.0)[several] > mean[several]).all()
    assert (learned(1.0)[several] < largest[several]).all()


def test_top_k_goes_from_the_largest_to_the_mean():
    values, vectors, mask = padded(LENGTHS)

    def top(k: int) -> torch.Tensor:
        return POOLINGS.build("top_k", {"k": k}).module(WIDTH, K)(values, vectors, mask)

    largest = POOLINGS.build("max", {}).module(WIDTH, K)(values, vectors, mask)
    mean = POOLINGS.build("mean", {}).module(WIDTH, K)(values, vectors, mask)
    assert torch.allclose(top(1), largest)
    assert torch.allclose(top(99), mean, atol=1e-6)
    assert torch.allclose(top(2)[2], values[2].topk(2, dim=0).values.mean(dim=0))
