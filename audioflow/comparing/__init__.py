"""Two runs side by side: how their scores of the same clips differ, and what they were made with.

Shapes: N clips, C classes.
"""

from audioflow.comparing.differences import Comparison, compare
from audioflow.comparing.sides import Side, common_systems, read_side
from audioflow.comparing.text import comparison_lines

__all__ = [
    "Comparison",
    "Side",
    "common_systems",
    "compare",
    "comparison_lines",
    "read_side",
]
