"""From rows of an embeddings table to examples: what is read, pooled, refused, taken and joined."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.errors import InputError
from audioflow.systems.examples import Examples, joined, multi_hot
from audioflow.systems.inputs import InputSpec, Pool, vectors_per_patch

LAYERS = {"pool5": 3, "conv6": 2}
PATCHES = [2, 1, 4]
IDS = ["a", "b", "c"]


def table(
    patches: list[int] = PATCHES, tall: dict[str, int] | None = None, layers=LAYERS
) -> pa.Table:
    """Clips with so many patches, and vectors per patch of each layer (1)."""
    tall = dict.fromkeys(layers, 1) | (tall or {})
    generator = np.random.default_rng(0)
    clips = [
        ClipEmbedding(
            {
                name: generator.normal(size=(count * tall[name], width)).astype(np.float32)
                for name, width in layers.items()
            },
            np.arange(count) * 0.5,
            float(count),
            1.0,
        )
        for count in patches
    ]
    return embedding_rows(IDS[: len(patches)], clips, layers)


def vectors(rows: pa.Table, layer: str) -> list[np.ndarray]:
    return [np.array(one, np.float32) for one in rows[layer].to_pylist()]


def spec(takes="vectors", pool=None, layers=("pool5",), tall=1) -> InputSpec:
    return InputSpec(layers, tuple(LAYERS[name] for name in layers), takes, pool, tall)


# Reading


def test_patches_are_read_as_they_are_where_they_are_pooled_later():
    rows = table()
    for pool in (Pool("mean", "logits", {}), Pool("attention", "embeddings", {}), None):
        found = spec("sequences", pool).read(rows)
        assert found.clip_ids == IDS
        assert found.offsets.tolist() == [0, 2, 3, 7]
        assert np.array_equal(found.rows[0], np.concatenate(vectors(rows, "pool5")))
        assert found.rows[0].dtype == np.float32


@pytest.mark.parametrize(
    ("name", "options", "formula"),
    [
        ("mean", {}, lambda v: v.mean(axis=0)),
        ("max", {}, lambda v: v.max(axis=0)),
        ("mean_max", {}, lambda v: np.concatenate([v.mean(axis=0), v.max(axis=0)])),
        ("mean_std", {}, lambda v: np.concatenate([v.mean(axis=0), v.std(axis=0)])),
        ("top_k", {"k": 2}, lambda v: np.sort(v, axis=0)[-2:].mean(axis=0)),
    ],
)
def test_a_pooling_of_embeddings_without_parameters_is_applied_as_they_are_read(
    name, options, formula
):
    rows, told = table(), spec(pool=Pool(name, "embeddings", options))
    found = told.read(rows)
    assert found.offsets.tolist() == [0, 1, 2, 3]
    assert found.rows[0] == pytest.approx(np.stack([formula(v) for v in vectors(rows, "pool5")]))
    assert told.shape.widths == (found.rows[0].shape[1],)


def test_layers_of_any_number_of_vectors_are_pooled_each_by_itself():
    rows = table(tall={"conv6": 3})
    told = spec("layers", Pool("mean", "embeddings", {}), ("conv6", "pool5"))
    found = told.read(rows)
    for values, layer in zip(found.rows, ("conv6", "pool5"), strict=True):
        expected = np.stack([one.mean(axis=0) for one in vectors(rows, layer)])
        assert values == pytest.approx(expected, abs=1e-6)
    assert told.shape.widths == (2, 3)


def test_layers_that_are_pooled_later_need_as_many_vectors():
    told = spec("layers", Pool("mean", "logits", {}), ("pool5", "conv6"))
    assert [rows.shape for rows in told.read(table()).rows] == [(7, 3), (7, 2)]
    with pytest.raises(
        InputError, match=r"'a' has unequal .* 'pool5' and 'conv6'; pool embeddings"
    ):
        told.read(table(tall={"conv6": 3}))


@pytest.mark.parametrize("takes", ["pictures", "picture_sequences"])
def test_pictures_are_the_vectors_of_a_patch(takes):
    rows = table(tall={"pool5": 4})
    found = spec(takes, Pool("mean", "logits", {}), tall=4).read(rows)
    assert found.rows[0].shape == (7, 4, 3)
    assert found.offsets.tolist() == [0, 2, 3, 7]
    assert np.array_equal(found.rows[0][2], vectors(rows, "pool5")[1])
    assert vectors_per_patch(rows, "pool5") == 4


def test_pictures_of_unequal_height_are_refused():
    with pytest.raises(
        InputError, match=r"clip 'a' has 8 vectors of the layer 'pool5' in 2 patches.* have 5 in"
    ):
        spec("pictures", tall=5).read(table(tall={"pool5": 4}))


@pytest.mark.parametrize("takes", ["vectors", "sequences", "pictures"])
def test_a_clip_without_a_patch_is_refused(takes):
    with pytest.raises(InputError, match="clip 'b' has no patch in the embeddings"):
        spec(takes, Pool("mean", "embeddings", {})).read(table([2, 0, 4]))


@pytest.mark.parametrize("takes", ["vectors", "layers", "sequences", "pictures"])
@pytest.mark.parametrize("pool", [Pool("mean", "embeddings", {}), Pool("mean", "logits", {})])
def test_no_rows_are_no_clips(takes, pool):
    found = spec(takes, pool).read(table().slice(0, 0))
    assert (found.clip_ids, found.offsets.tolist()) == ([], [0])
    assert len(found.rows[0]) == len(found.examples()) == 0
    assert vectors_per_patch(table().slice(0, 0), "pool5") == 1


@pytest.mark.parametrize("takes", ["vectors", "layers", "sequences", "pictures"])
def test_the_columns_that_are_read_are_enough(takes):
    told = spec(takes, Pool("mean", "embeddings", {}))
    assert told.read(table().select(told.columns)).clip_ids == IDS


def test_only_poolings_of_embeddings_with_nothing_to_learn_are_applied_while_reading():
    assert not Pool("attention", "embeddings", {}).while_reading
    assert Pool("top_k", "embeddings", {"k": 2}).while_reading
    assert not Pool("top_k", "logits", {"k": 2}).while_reading


# Examples


def ragged() -> Examples:
    rows = np.arange(14, dtype=np.float32).reshape(7, 2)
    return Examples((rows, rows + 100), np.array([0, 2, 3, 7]), np.array([5, 6, 7]))


def flat() -> Examples:
    rows = np.arange(6, dtype=np.float32).reshape(3, 2)
    return Examples((rows,), np.arange(4), np.array([5, 6, 7]))


def listed(examples: Examples) -> list[tuple[int, list]]:
    bounds = zip(examples.offsets[:-1], examples.offsets[1:], strict=True)
    return [
        (int(target), [layer[start:stop].tolist() for layer in examples.rows])
        for (start, stop), target in zip(bounds, examples.targets, strict=True)
    ]


@pytest.mark.parametrize("make", [ragged, flat])
@pytest.mark.parametrize("places", [[2, 0], [1], [], [0, 1, 2], [2, 2, 0, 2]])
def test_taken_examples_are_those_at_the_places(make, places):
    found, all_of_them = make().take(np.array(places, np.int64)), listed(make())
    assert listed(found) == [all_of_them[place] for place in places]
    assert found.offsets.dtype == np.int64


def test_examples_know_whether_each_is_one_row():
    assert (ragged().flat, flat().flat) == (False, True)
    assert len(ragged()) == 3
    assert ragged().nbytes == 2 * 14 * 4


def test_patches_have_the_target_of_their_clip():
    found = ragged().per_patch()
    assert found.flat
    assert found.targets.tolist() == [5, 5, 6, 7, 7, 7, 7]
    assert np.array_equal(found.rows[1], ragged().rows[1])
    several = Examples(ragged().rows, ragged().offsets, np.eye(3, dtype=np.float32))
    assert several.per_patch().targets.tolist() == np.eye(3)[[0, 0, 1, 2, 2, 2, 2]].tolist()


def test_examples_of_several_parts_are_one_after_the_other():
    parts = [ragged().take(np.array(places, np.int64)) for places in ([0], [1, 2], [])]
    assert listed(joined(parts)) == listed(ragged())
    assert joined(parts[:1]) is parts[0]


def test_targets_of_several_labels_are_ones():
    assert multi_hot([[0, 2], [], [1]], 3).tolist() == [[1, 0, 1], [0, 0, 0], [0, 1, 0]]
    assert multi_hot([], 3).shape == (0, 3)
    assert multi_hot([[0]], 1).dtype == np.float32
