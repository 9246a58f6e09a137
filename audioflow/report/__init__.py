"""The report of one experiment: a self-contained page, report.json and plots.

`build(ReportData(...))` returns the files by name; nothing is written here. The numbers come from
`audioflow.metrics` through `figures`, and page, JSON and plots show the same ones.
"""

from audioflow.report.data import (
    EpochRecord,
    FailureRow,
    ReportData,
    StageRow,
    Sweep,
    SweepParameter,
    SweepTrial,
    SystemScores,
    Training,
    ValClass,
)
from audioflow.report.exhibits import ClipRow, ClipTable, FailureGroup, Picture, PictureSet
from audioflow.report.page import build

__all__ = [
    "ClipRow",
    "ClipTable",
    "EpochRecord",
    "FailureGroup",
    "FailureRow",
    "Picture",
    "PictureSet",
    "ReportData",
    "StageRow",
    "Sweep",
    "SweepParameter",
    "SweepTrial",
    "SystemScores",
    "Training",
    "ValClass",
    "build",
]
