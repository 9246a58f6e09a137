"""Score tables brought together by key: in any order, with clips that some lack."""

import numpy as np
import pyarrow as pa
import pytest

from audioflow.errors import TableError
from audioflow.join import join_scores
from audioflow.tables import scores_schema

CLASSES = ["cat", "dog", "owl"]


def score_table(scores, clip_ids, labels=None, splits=None):
    """A score table in the schema of `audioflow.tables`, in two chunks as shards would give."""
    scores = np.asarray(scores, np.float32)
    count, width = scores.shape
    flat = pa.array(scores.reshape(-1), pa.float32())
    columns = [
        pa.array(clip_ids, pa.string()),
        pa.array(labels or [["cat"]] * count, pa.list_(pa.string())),
        pa.array(splits or ["val"] * count, pa.string()),
        pa.FixedSizeListArray.from_arrays(flat, width),
        pa.array(["cat"] * count, pa.string()),
        pa.array([0.0] * count, pa.float32()),
    ]
    table = pa.Table.from_arrays(columns, schema=scores_schema(width))
    return pa.concat_tables([table.slice(0, count // 2), table.slice(count // 2)])


def test_clips_are_joined_by_id_whatever_their_order():
    audio = score_table([[0.7, 0.2, 0.1], [0.1, 0.6, 0.3]], ["b", "a"], [["cat"], ["dog"]])
    video = score_table([[0.3, 0.3, 0.4], [0.8, 0.1, 0.1]], ["c", "b"], [[], ["cat"]])
    joined = join_scores({"audio": audio, "video": video}, {"audio": CLASSES, "video": CLASSES})
    assert joined.clip_ids == ["a", "b", "c"]
    assert joined.labels == [["dog"], ["cat"], []]
    assert joined.splits == ["val"] * 3
    assert joined.systems == ("audio", "video")
    assert joined.available.tolist() == [[True, True, False], [False, True, True]]
    assert joined.scores.dtype == np.float32
    nothing = [np.nan] * 3
    expected = [
        [[0.1, 0.6, 0.3], [0.7, 0.2, 0.1], nothing],
        [nothing, [0.8, 0.1, 0.1], [0.3, 0.3, 0.4]],
    ]
    np.testing.assert_array_equal(joined.scores, np.array(expected, np.float32))


def test_classes_are_put_into_the_order_of_the_first_system():
    audio = score_table([[0.7, 0.2, 0.1]], ["a"])
    video = score_table([[0.1, 0.7, 0.2]], ["a"])
    classes = {"audio": CLASSES, "video": ["owl", "cat", "dog"]}
    joined = join_scores({"audio": audio, "video": video}, classes)
    assert joined.classes == tuple(CLASSES)
    np.testing.assert_array_equal(joined.scores[0], joined.scores[1])


def test_three_tables_join_where_each_lacks_another_clip():
    ids = {"x": ["a", "b"], "y": ["b", "c"], "z": ["c", "a"]}
    tables = {
        name: score_table([[ord(clip) / 200, 0, 0] for clip in clips], clips)
        for name, clips in ids.items()
    }
    joined = join_scores(tables, dict.fromkeys(ids, CLASSES))
    assert joined.clip_ids == ["a", "b", "c"]
    assert joined.available.tolist() == [
        [True, True, False],
        [False, True, True],
        [True, False, True],
    ]
    own = np.nanmax(joined.scores[:, :, 0], axis=0)
    np.testing.assert_allclose(own, [97 / 200, 98 / 200, 99 / 200], rtol=1e-6)


def test_labels_in_another_order_agree():
    one = score_table([[1, 0, 0]], ["a"], [["cat", "dog"]])
    two = score_table([[1, 0, 0]], ["a"], [["dog", "cat"]])
    joined = join_scores({"one": one, "two": two}, {"one": CLASSES, "two": CLASSES})
    assert joined.labels == [["cat", "dog"]]


ONE = [[0.5, 0.25, 0.25]]


@pytest.mark.parametrize(
    ("other", "classes", "match"),
    [
        (score_table(ONE, ["a"]), ["cat", "dog", "elk"], "only 'one' has owl; only 'two' has elk"),
        (score_table(ONE, ["a"]), ["cat", "dog"], "only 'one' has owl; train"),
        (score_table(ONE, ["a"]), ["cat", "cat", "dog"], "'two' has class 'cat' 2 times"),
        (score_table(ONE * 3, ["b", "a", "a"]), CLASSES, "'two' has clip 'a' 2 times"),
        (
            score_table(ONE, ["a"], [["dog"]]),
            CLASSES,
            r"clip 'a' has labels \['cat'\] in score table 'one' and \['dog'\] in 'two'",
        ),
        (
            score_table(ONE, ["a"], splits=["test"]),
            CLASSES,
            "clip 'a' has split 'val' in score table 'one' and 'test' in 'two'",
        ),
        (score_table([[0.5, 0.5]], ["a"]), CLASSES, r"'scores' is .*\[2\], expected a list of 3"),
        (score_table([[0.5, 0.5, np.nan]], ["a"]), CLASSES, "'two': clip 'a' has score nan"),
        (score_table(ONE, ["a"]).drop_columns("split"), CLASSES, "'two' has no column 'split'"),
        (score_table(ONE, [None]), CLASSES, "'two': column 'clip_id' has a row without a value"),
    ],
)
def test_tables_that_do_not_fit_are_refused(other, classes, match):
    tables = {"one": score_table(ONE, ["a"]), "two": other}
    with pytest.raises(TableError, match=match):
        join_scores(tables, {"one": CLASSES, "two": classes})


def test_a_third_table_is_compared_with_the_one_that_has_the_clip():
    tables = {
        "one": score_table(ONE, ["a"]),
        "two": score_table(ONE, ["b"], [["dog"]]),
        "three": score_table(ONE, ["b"], [["owl"]]),
    }
    with pytest.raises(
        TableError, match=r"\['dog'\] in score table 'two' and \['owl'\] in 'three'"
    ):
        join_scores(tables, dict.fromkeys(tables, CLASSES))


def test_no_table_and_no_class_order_are_refused():
    with pytest.raises(TableError, match="no score table"):
        join_scores({}, {})
    with pytest.raises(TableError, match="order of score table 'one' is not given"):
        join_scores({"one": score_table(ONE, ["a"])}, {})
