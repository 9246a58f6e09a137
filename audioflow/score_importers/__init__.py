"""Score importers: scores that other programs computed -> a matrix. One file per format; no torch.

What becomes of it is the same for all: rows are matched to clips (`audioflow.matching`), values and
classes are made ours (`audioflow.foreign_scores`).
"""

from audioflow.registry import Registry

SCORE_IMPORTERS = Registry(
    "score importer",
    {
        "npy": "audioflow.score_importers.npy:NpyScores",
        "csv": "audioflow.score_importers.csv:CsvScores",
        "parquet": "audioflow.score_importers.parquet:ParquetScores",
    },
)
