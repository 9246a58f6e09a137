"""Tables of many clips, made without an object of Python for each: to measure and to damage."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from audioflow.scores import vectors_column
from audioflow.storage import Folder
from audioflow.tables import MANIFEST_SCHEMA, Header, Table, embeddings_schema, scores_schema

CLASSES = ["cat", "dog", "owl"]
SPLITS = np.array(["train", "train", "val", "test"], object)
WIDTH = 8
"""Of an embedding."""


def clip_ids(numbers: np.ndarray) -> pa.Array:
    return pa.array([f"videos/{number:08}/clip-0" for number in numbers.tolist()], pa.string())


def in_shards(clips: int, per_shard: int = 4096, seed: int = 0) -> list[np.ndarray]:
    """The numbers of the clips of every shard, in an order of their own."""
    mixed = np.random.default_rng(seed).permutation(clips)
    return np.split(mixed, range(per_shard, clips, per_shard))


def manifest_rows(numbers: np.ndarray) -> pa.Table:
    ids, labels, rows = clip_ids(numbers), _labels(numbers), len(numbers)
    return pa.Table.from_pydict(
        {
            "clip_id": ids,
            "uri": ids,
            "start_s": pa.nulls(rows, pa.float64()),
            "duration_s": pa.array(np.full(rows, 10.0)),
            "labels": labels,
            "split": pa.array(SPLITS[numbers % 4], pa.string()),
            "fold": pa.nulls(rows, pa.string()),
            "group": ids,
            "size_bytes": pa.array(np.full(rows, 1000)),
            "version": pa.nulls(rows, pa.string()),
            "source": pa.array(["main"] * rows, pa.string()),
            "fine_labels": labels,
        },
        schema=MANIFEST_SCHEMA,
    )


def embedding_rows(numbers: np.ndarray) -> pa.Table:
    """One vector of ones for each clip."""
    rows = len(numbers)
    ends = pa.array(np.arange(rows + 1, dtype=np.int32))
    vectors = vectors_column(np.ones((rows, WIDTH), np.float32))
    columns = [
        clip_ids(numbers),
        pa.array(np.zeros(rows, np.int32)),
        pa.array(np.ones(rows)),
        pa.array(np.ones(rows, np.float32)),
        pa.ListArray.from_arrays(ends, pa.array(np.zeros(rows))),
        pa.ListArray.from_arrays(ends, vectors),
    ]
    return pa.Table.from_arrays(columns, schema=embeddings_schema({"embedding": WIDTH}))


def score_rows_of(numbers: np.ndarray, seed: int = 0) -> pa.Table:
    """Scores (softmax) of a system of some skill."""
    rows, classes = len(numbers), np.array(CLASSES, object)
    logits = np.random.default_rng((seed, int(numbers[0]))).normal(size=(rows, len(classes)))
    logits[np.arange(rows), numbers % 3] += 1.5
    scores = np.exp(logits)
    scores = (scores / scores.sum(1, keepdims=True)).astype(np.float32)
    best = scores.argmax(1)
    columns = [
        clip_ids(numbers),
        _labels(numbers),
        pa.array(SPLITS[numbers % 4], pa.string()),
        vectors_column(scores),
        pa.array(classes[best], pa.string()),
        pa.array(scores[np.arange(rows), best]),
    ]
    return pa.Table.from_arrays(columns, schema=scores_schema(len(classes)))


def make_table(
    run: Folder,
    path: str,
    shards: Iterable[np.ndarray],
    rows_of: Callable[[np.ndarray], pa.Table],
    parents: Sequence[str] = (),
    **more: Any,
) -> Header:
    """A complete table of the run; parents: the paths of others. more: what its header says."""
    table, (kind, _, name) = Table(run / path), path.partition("/")
    receipts = [
        table.commit(f"{place:05}-aaaa", rows_of(numbers)) for place, numbers in enumerate(shards)
    ]
    values: Mapping[str, Any] = {"settings": {}, "fingerprint": f"{path:*<32}"}
    return table.finish(
        Header(
            kind=kind,
            name=name or kind,
            parents={one: Table(run / one).complete_header().fingerprint for one in parents},
            rows=sum(receipt.rows for receipt in receipts),
            failures=0,
            shards=receipts,
            **(values | more),
        )
    )


def make_many(run: Folder, clips: int) -> None:
    """A manifest of so many clips, and embeddings of them in shards of others."""
    make_table(run, "manifest", map(np.sort, in_shards(clips, seed=1)), manifest_rows)
    settings = {"layers": {"embedding": WIDTH}, "vectors": "v" * 32}
    path, shards = "embeddings/tone", in_shards(clips)
    make_table(run, path, shards, embedding_rows, ["manifest"], settings=settings)


def make_scores(run: Folder, name: str, clips: int, seed: int = 0) -> None:
    """Scores of all of them, made elsewhere."""
    make_table(
        run,
        f"scores/{name}",
        in_shards(clips),
        lambda numbers: score_rows_of(numbers, seed),
        ["manifest"],
        settings={"splits": ["train", "val", "test"], "import": {"importer": "csv"}},
        classes=CLASSES,
    )


def _labels(numbers: np.ndarray) -> pa.Array:
    ends = pa.array(np.arange(len(numbers) + 1, dtype=np.int32))
    return pa.ListArray.from_arrays(ends, pa.array(np.array(CLASSES, object)[numbers % 3]))
