"""Embeddings and scores as Arrow rows, pooling, and targets."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.embeddings import ClipEmbedding, LayerRows, embedding_rows, layer_rows
from audioflow.pooling import POOLINGS
from audioflow.scores import ScoredClips, score_matrix, score_rows
from audioflow.tables import embeddings_schema, scores_schema

LAYERS = {"pool5": 3, "conv6": 5}


def clip(patches: int, seed: int = 0) -> ClipEmbedding:
    generator = np.random.default_rng(seed)
    layers = {
        name: generator.normal(size=(patches, width)).astype(np.float32)
        for name, width in LAYERS.items()
    }
    return ClipEmbedding(layers, np.arange(patches) * 0.5, patches * 0.5, 0.875)


def rows_of(lengths: list[int], width: int = 4, seed: int = 0) -> LayerRows:
    vectors = np.random.default_rng(seed).normal(size=(sum(lengths), width)).astype(np.float32)
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    return LayerRows([f"clip{i}" for i in range(len(lengths))], vectors, offsets)


def pool(name: str, rows: LayerRows) -> np.ndarray:
    return POOLINGS.build(name, {}).pool(rows)


# Embeddings


def test_embeddings_come_back_from_their_rows():
    clips = [clip(1, 1), clip(4, 2), clip(2, 3)]
    rows = embedding_rows(["a", "b", "ü"], clips, LAYERS)
    assert rows.schema == embeddings_schema(LAYERS)
    assert rows["duration_s"].to_pylist() == [0.5, 2.0, 1.0]
    assert rows["patch_start_s"].to_pylist() == [[0.0], [0.0, 0.5, 1.0, 1.5], [0.0, 0.5]]
    assert (rows["coverage"].to_pylist(), rows["variant"].to_pylist()) == ([0.875] * 3, [0] * 3)
    for name in LAYERS:
        layer = layer_rows(rows, name)
        assert layer.clip_ids == ["a", "b", "ü"]
        for index, one in enumerate(clips):
            assert np.array_equal(layer.clip(index), one.layers[name])


def test_a_layer_reads_the_same_from_slices_and_from_many_chunks():
    clips = [clip(patches, patches) for patches in (2, 1, 3, 2, 5)]
    rows = embedding_rows(list("abcde"), clips, LAYERS)
    pieces = pa.concat_tables([rows.slice(0, 2), rows.slice(2, 1), rows.slice(3)])
    assert pieces["conv6"].num_chunks == 3
    for table, first in ((pieces, 0), (rows.slice(2, 2), 2)):
        layer = layer_rows(table, "conv6")
        for index in range(len(layer.clip_ids)):
            assert np.array_equal(layer.clip(index), clips[first + index].layers["conv6"])


@pytest.mark.parametrize("chunks", [[], None])
def test_no_row_is_a_layer_of_no_vector(chunks):
    rows = embedding_rows([], [], LAYERS)
    if chunks is not None:
        rows = pa.Table.from_batches([], schema=rows.schema)
    layer = layer_rows(rows, "pool5")
    assert (layer.clip_ids, layer.vectors.shape) == ([], (0, 3))
    assert pool("mean_std", layer).shape == (0, 6)


def test_a_layer_of_another_width_than_it_says_is_refused():
    wrong = ClipEmbedding(clip(2).layers, np.zeros(2), 1.0, 1.0)
    with pytest.raises(ValueError, match="dimension"):
        embedding_rows(["a"], [wrong], {"pool5": 4})


# Pooling


def test_poolings_are_what_numpy_says():
    rows = rows_of([1, 4, 2, 7])
    parts = [rows.clip(index) for index in range(4)]
    assert pool("mean", rows) == pytest.approx(np.stack([p.mean(axis=0) for p in parts]), abs=1e-6)
    assert np.array_equal(pool("max", rows), np.stack([p.max(axis=0) for p in parts]))
    expected = [np.concatenate([p.mean(axis=0), p.std(axis=0)]) for p in parts]
    assert pool("mean_std", rows) == pytest.approx(np.stack(expected), abs=1e-6)
    both = np.concatenate([pool("mean", rows), pool("max", rows)], axis=1)
    assert np.array_equal(pool("mean_max", rows), both)


def test_the_mean_of_many_large_numbers_is_exact():
    vectors = np.full((100_000, 3), 1e4, np.float32)
    vectors[::2] += 1.0
    rows = LayerRows(["a"], vectors, np.array([0, 100_000]))
    assert pool("mean_std", rows)[0] == pytest.approx([10_000.5] * 3 + [0.5] * 3, abs=1e-3)


@pytest.mark.parametrize("lengths", [[2, 0, 3], [0], [1, 0]])
@pytest.mark.parametrize("name", ["mean", "max", "mean_max", "mean_std", "top_k"])
def test_a_clip_without_a_patch_cannot_be_pooled(name, lengths):
    with pytest.raises(ValueError, match=f"clip 'clip{lengths.index(0)}' has no patch to pool"):
        pool(name, rows_of(lengths))


# Scores


def test_scores_come_back_from_their_rows_and_the_first_class_wins_a_tie():
    scores = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    clips = ScoredClips(["a", "b"], [["dog"], []], ["val", "test"])
    rows = score_rows(clips, scores, ["cat", "dog"])
    assert rows.schema == scores_schema(2)
    assert rows["predicted"].to_pylist() == ["dog", "cat"]
    assert rows["score"].to_pylist() == pytest.approx([0.8, 0.5])
    assert np.array_equal(score_matrix(rows), scores)
    assert np.array_equal(score_matrix(rows.slice(1)), scores[1:])


def test_a_fused_row_says_which_systems_it_came_from():
    scores = np.array([[1.0, 0.0]], np.float32)
    rows = score_rows(ScoredClips(["a"], [["x"]], ["val"]), scores, ["x", "y"], [["audio"]])
    assert rows.schema == scores_schema(2, fused=True)
    assert rows["available"].to_pylist() == [["audio"]]


def test_no_scored_clip_is_a_table_without_rows():
    rows = score_rows(ScoredClips([], [], []), np.zeros((0, 3), np.float32), ["a", "b", "c"])
    assert (rows.num_rows, score_matrix(rows).shape) == (0, (0, 3))
    empty = pa.Table.from_batches([], schema=rows.schema)
    assert score_matrix(empty).shape == (0, 3)
