"""Fusion: the scores of several systems made into one.

    fusion = Fusion.of(section, classes, multi_label=False)
    params = fusion.fit(fit_clips)
    fused_nC = fusion.apply(params, block)

A rule is fitted on the clips of one split (`FitClips`), and applied to clips in any pieces
(`Block`). Shapes: S systems, n clips, C classes.
"""

from audioflow.fusion.base import Block, FitClips, Rule, Task
from audioflow.fusion.folds import fit_order
from audioflow.fusion.fusing import FIT_CELLS, Fusion
from audioflow.fusion.labels import labelled, multi_label_of
from audioflow.fusion.missing import missing_error, missing_reason, no_fit_clips
from audioflow.fusion.quality import QualityColumn, quality_columns, quality_rows
from audioflow.fusion.rules import FUSION_RULES
from audioflow.fusion.together import fuse
from audioflow.fusion.words import summary_line

__all__ = [
    "FIT_CELLS",
    "FUSION_RULES",
    "Block",
    "FitClips",
    "Fusion",
    "QualityColumn",
    "Rule",
    "Task",
    "fit_order",
    "fuse",
    "labelled",
    "missing_error",
    "missing_reason",
    "multi_label_of",
    "no_fit_clips",
    "quality_columns",
    "quality_rows",
    "summary_line",
]
