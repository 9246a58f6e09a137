"""What every registered pooling promises, run over all of them."""

import numpy as np
import pytest
from pydantic import ValidationError

from audioflow.embeddings import LayerRows
from audioflow.pooling import POOLINGS
from audioflow.registry import Settings

WIDTH = 4


@pytest.fixture(params=POOLINGS.names())
def pooling(request):
    """Every registered pooling, made from its own defaults."""
    return POOLINGS.build(request.param, {})


def rows(lengths: list[int], seed: int = 0) -> LayerRows:
    vectors = np.random.default_rng(seed).normal(size=(sum(lengths), WIDTH)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return LayerRows([str(index) for index in range(len(lengths))], vectors, offsets)


def alone(all_rows: LayerRows, index: int) -> LayerRows:
    vectors = all_rows.clip(index)
    return LayerRows([all_rows.clip_ids[index]], vectors, np.array([0, len(vectors)]))


def test_there_are_poolings_to_test():
    assert {"mean", "max", "mean_std"} <= set(POOLINGS.names())


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


@pytest.mark.parametrize("name", POOLINGS.names())
def test_settings_are_frozen_and_strict(name):
    plugin = POOLINGS.load(name)
    assert issubclass(plugin.Settings, Settings)
    with pytest.raises(ValidationError, match="no_such_setting"):
        POOLINGS.build(name, {"no_such_setting": 1})
    assert plugin.Settings.model_config["frozen"]
