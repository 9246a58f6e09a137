"""Nearest vectors of a table: against scikit-learn, with ties, patches, scaling and centres."""

from collections.abc import Iterator

import numpy as np
import pytest
from sklearn.metrics import pairwise_distances
from sklearn.preprocessing import StandardScaler

from audioflow.embeddings import ClipEmbedding, embedding_rows
from audioflow.errors import InputError
from audioflow.neighbours.measuring import centroid, distances, scaling_of
from audioflow.neighbours.ranking import Asked, Hit, nearest
from audioflow.neighbours.streaming import Source, Vectors, locate, vectors_of
from audioflow.shards import may_hold, plan_shards
from audioflow.storage import Folder
from audioflow.tables import Header, Table

WIDTH, CLIPS, PATCHES = 6, 40, 3
IDS = [f"clip{number:02d}" for number in range(CLIPS)]
VECTORS = np.random.default_rng(0).normal(size=(CLIPS, PATCHES, WIDTH)).astype(np.float32)
VECTORS *= np.array([1, 1, 1, 1, 1000, 0], np.float32)
"""One column is much larger than the others, one never changes."""
MEANS = VECTORS.mean(axis=1)


def embedding(vectors: np.ndarray, variant: int = 0) -> ClipEmbedding:
    starts = np.arange(len(vectors)) * 0.5
    return ClipEmbedding({"pool": vectors}, starts, 2.0, 1.0, variant)


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Table:
    """Three shards; every clip has a variant that is nearer to everything than it is itself."""
    table = Table(Folder(str(tmp_path_factory.mktemp("table"))))
    receipts = []
    for number, places in enumerate(np.array_split(np.arange(CLIPS), 3)):
        ids = [IDS[place] for place in places for _ in range(2)]
        clips = [
            one
            for place in places
            for one in (embedding(VECTORS[place]), embedding(0 * VECTORS[place], 1))
        ]
        receipts.append(table.commit(f"s{number}", embedding_rows(ids, clips, {"pool": WIDTH})))
    rows = sum(receipt.rows for receipt in receipts)
    table.finish(Header("embeddings", "x", "f" * 32, {}, {}, rows, 0, receipts))
    return table


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
@pytest.mark.parametrize("scaled", [False, True])
def test_the_nearest_clips_are_those_that_scikit_learn_finds(table, metric, scaled):
    source = Source(table, "pool")
    scaling = scaling_of(source) if scaled else None
    query = scaling(MEANS[7:8])[0] if scaling else MEANS[7]
    found = nearest(source, query, Asked(12, metric, scaling=scaling, exclude=IDS[7]))
    space = StandardScaler().fit_transform(MEANS) if scaled else MEANS
    expected = pairwise_distances(space[7:8], space, metric=metric)[0]
    expected[7] = np.inf
    order = np.argsort(expected)[:12]
    assert [hit.clip_id for hit in found] == [IDS[place] for place in order]
    assert [hit.distance for hit in found] == pytest.approx(expected[order], rel=1e-3, abs=1e-5)


def test_patches_are_found_with_their_times(table):
    found = nearest(Source(table, "pool", patches=True), VECTORS[5, 2], Asked(3, "euclidean"))
    assert found[0] == Hit(0.0, IDS[5], 1.0)
    all_of_them = VECTORS.reshape(-1, WIDTH).astype(np.float64)
    far = pairwise_distances(all_of_them[17:18], all_of_them)[0]
    assert [hit.distance for hit in found] == pytest.approx(np.sort(far)[:3], abs=1e-3)


def test_the_farthest_of_some_clips(table):
    some = set(IDS[:9])
    query = MEANS[3]
    found = nearest(Source(table, "pool"), query, Asked(4, "euclidean", far=True, only=some))
    expected = pairwise_distances(query[None], MEANS[:9])[0]
    assert [hit.clip_id for hit in found] == [IDS[place] for place in np.argsort(-expected)[:4]]


def test_fewer_than_asked_for_are_all_that_there_are(table):
    found = nearest(Source(table, "pool"), MEANS[0], Asked(100, only={"clip01", "clip30"}))
    assert {hit.clip_id for hit in found} == {"clip01", "clip30"}


def test_of_equal_ones_the_first_ids_are_kept_whatever_the_order_they_come_in():
    ids = [f"{number:03d}" for number in range(100)]
    shuffled = np.random.default_rng(1).permutation(100)

    def parts() -> Iterator[Vectors]:
        for some in np.array_split(shuffled, 7):
            yield Vectors([ids[place] for place in some], np.ones((len(some), 2), np.float32))

    found = nearest(parts(), np.ones(2, np.float32), Asked(5))
    assert [hit.clip_id for hit in found] == ids[:5]


def test_the_scaling_of_parts_is_that_of_the_whole():
    generator = np.random.default_rng(2)
    values = (generator.normal(size=(500, 3)) * [1, 1e-4, 0] + [1e4, -5, 3]).astype(np.float32)
    cuts = np.split(values, [1, 40, 41, 400])
    found = scaling_of(Vectors([""] * len(part), part) for part in cuts)
    assert found.mean_D == pytest.approx(values.mean(axis=0, dtype=np.float64))
    assert found.std_D[:2] == pytest.approx(values.std(axis=0, dtype=np.float64)[:2], rel=1e-6)
    assert found.std_D[2] == 0
    assert np.all(found(values)[:, 2] == 0), "a column that never changes counts for nothing"


def test_a_vector_of_zeros_has_no_direction():
    vectors = np.array([[0, 0], [2, 0], [-1, 0]], np.float32)
    assert distances(vectors, np.array([1, 0], np.float32), "cosine").tolist() == [1, 0, 2]


def test_the_centre_of_directions_is_not_that_of_vectors():
    vectors = Vectors(["a", "b"], np.array([[10, 0], [0, 1]], np.float32))
    assert centroid([vectors], "euclidean").tolist() == [5, 0.5]
    assert centroid([vectors], "cosine").tolist() == [0.5, 0.5]
    with pytest.raises(InputError, match="none of these clips has an embedding"):
        centroid([Vectors([], np.zeros((0, 2), np.float32))], "cosine")


def test_a_clip_is_found_wherever_it_is(table):
    found = locate(Source(table, "pool"), IDS[33], lambda name: name == "s0")
    assert found is not None
    assert found.vectors == pytest.approx(MEANS[33:34])
    assert locate(Source(table, "pool"), "nobody", lambda name: False) is None


def test_vectors_that_do_not_belong_to_patches_are_no_patches():
    rows = embedding_rows(["a"], [embedding(VECTORS[0])], {"pool": WIDTH})
    odd = ClipEmbedding({"pool": VECTORS[0]}, np.array([0.0, 1.0]), 2.0, 1.0)
    assert len(vectors_of(rows, "pool", patches=True)) == PATCHES
    with pytest.raises(InputError, match="clip 'a' has 3 vectors in 2 patches"):
        vectors_of(embedding_rows(["a"], [odd], {"pool": WIDTH}), "pool", patches=True)


def test_the_name_of_a_shard_tells_which_recordings_may_be_in_it():
    from tests.unit.small_run import manifest_rows

    ids = [f"clip{number:04d}" for number in range(600)]
    shards = plan_shards(manifest_rows(ids, ["train"] * 600), 50)
    assert len(shards) > 8
    for shard in shards:
        for clip_id in shard.rows["clip_id"].to_pylist()[:5]:
            places = [one for one in shards if may_hold(one.name("k" * 32), clip_id)]
            assert places == [shard]
