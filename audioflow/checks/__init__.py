"""What may be wrong with the data behind good figures: leaks between splits, and wrong labels.

Plain functions of a manifest, vectors and scores; `engine/report_checks.py` gives them a run's.

    found = manifest_leaks(manifest, sides_of(manifest))
    found = duplicate_leaks(Source(table, "embedding"), sides, groups).leaks
    found = suspects([Heard("audio", clip_ids, classes, scores, targets)]).rows
"""

from audioflow.checks.contents import Contents, content_leaks
from audioflow.checks.duplicates import Duplicates, duplicate_leaks
from audioflow.checks.leaks import IN_WORDS, Leak, concerned, manifest_leaks
from audioflow.checks.sides import Sides, sides_of
from audioflow.checks.suspects import Heard, Suspect, Suspects, suspects

__all__ = [
    "IN_WORDS",
    "Contents",
    "Duplicates",
    "Heard",
    "Leak",
    "Sides",
    "Suspect",
    "Suspects",
    "concerned",
    "content_leaks",
    "duplicate_leaks",
    "manifest_leaks",
    "sides_of",
    "suspects",
]
