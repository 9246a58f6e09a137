"""Numbers and times as a person reads them. NaN and None mean undefined and become an en dash."""

import math
import re
from collections.abc import Sequence
from datetime import datetime

from audioflow.metrics import NOT_SHARES, Estimate

DASH = "–"
MINUS = "−"

_METRIC_NAMES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "roc_auc": "ROC-AUC",
    "map": "mAP",
    "map_weighted": "weighted mAP",
    "map_micro": "micro mAP",
    "roc_auc_weighted": "weighted ROC-AUC",
    "roc_auc_micro": "micro ROC-AUC",
    "roc_auc_ovo": "ROC-AUC by pairs",
    "micro_f1": "micro F1",
    "weighted_f1": "weighted F1",
    "lwlrap": "lwlrap",
    "exact_match": "exact match",
    "d_prime": "d-prime",
    "brier": "Brier",
    "ece": "ECE",
    "adaptive_ece": "adaptive ECE",
    "auc": "AUC",
    "weighted_auc": "weighted AUC",
    "precision": "precision",
    "recall": "recall",
    "f1": "F1",
    "average_precision": "average precision",
}

_METRIC_HINTS = {
    "accuracy": "share of clips whose highest score is the right class",
    "balanced_accuracy": "accuracy per class, averaged: every class counts alike",
    "macro_f1": "balance of precision and recall per class, averaged",
    "roc_auc": "chance that a clip of a class scores higher than one of another class",
    "map": "mean average precision: how well each class's own clips are ranked first",
    "map_weighted": "average precision, classes weighted by their clips",
    "map_micro": "average precision of all scores of all clips together",
    "roc_auc_weighted": "ROC-AUC, classes weighted by their clips",
    "roc_auc_micro": "ROC-AUC of all scores of all clips together",
    "roc_auc_ovo": "ROC-AUC of every pair of classes, averaged",
    "weighted_f1": "F1 per class, classes weighted by their clips",
    "micro_f1": "F1 of all decisions together",
    "lwlrap": "share of a clip's labels among what ranks above them, averaged over labels",
    "exact_match": "share of clips whose labels are all found and no other",
    "d_prime": "distance of a class's clips from the others, in standard deviations",
    "log_loss": "mean of -log of the score that the truth has; less is better",
    "brier": "mean squared distance of scores and truth; less is better",
    "ece": "how far scores are from the share that is right; less is better",
    "adaptive_ece": "the same, with as many clips in each bin; less is better",
    "hamming_loss": "share of wrong decisions over clips and classes; less is better",
}


def metric_name(key: str) -> str:
    """`macro_f1` -> "macro F1", `top_5` -> "top 5"."""
    return _METRIC_NAMES.get(key, key.replace("_", " "))


_KEYS = re.compile(rf"(?<![\w'])({'|'.join(map(re.escape, _METRIC_NAMES))})(?![\w'])")


def with_metric_names(sentence: str) -> str:
    """A sentence of the metrics with their names in place of their keys."""
    return _KEYS.sub(lambda found: _METRIC_NAMES[found[1]], sentence)


def metric_hint(key: str) -> str:
    """What a metric means, in one line; "" for an unknown one."""
    if key.startswith("top_"):
        return f"share of clips with the right class among the {key[4:]} highest scores"
    return _METRIC_HINTS.get(key, "")


def metric_text(key: str, value: float | None) -> str:
    """A metric's value: in percent where it is a share, else as a decimal."""
    return decimal(value, 3) if key in NOT_SHARES else percent(value)


def metric_interval(key: str, estimate: Estimate) -> str:
    """A metric's bounds as `metric_text` shows values; "" where there are none."""
    if undefined(estimate.low) or undefined(estimate.high):
        return ""
    return f"{metric_text(key, estimate.low)} to {metric_text(key, estimate.high)}"


def undefined(value: float | None) -> bool:
    """Whether there is no number to show."""
    return value is None or not math.isfinite(value)


def decimal(value: float | None, digits: int = 1) -> str:
    """Rounded half up, with a real minus sign: 62.5 -> "63" with no digits."""
    if value is None or not math.isfinite(value):
        return DASH
    scale = 10**digits
    # The small addend keeps 0.145 * 100, which is 14.499999..., on the side people expect.
    rounded = math.floor(abs(value) * scale + 0.5 + 1e-9) / scale
    text = f"{rounded:,.{digits}f}"
    return MINUS + text if value < 0 and rounded > 0 else text


def percent(share: float | None, digits: int = 1) -> str:
    """0.875 -> "87.5" (the unit stands in the heading or is added by `percent_sign`)."""
    return DASH if share is None else decimal(share * 100, digits)


def percent_sign(share: float | None, digits: int = 1) -> str:
    """0.875 -> "87.5 %"."""
    return DASH if undefined(share) else f"{percent(share, digits)} %"


def points(share: float | None, digits: int = 1) -> str:
    """A difference of shares in points with its sign: 0.167 -> "+16.7"."""
    text = percent(share, digits)
    positive = share is not None and share > 0 and text.strip("0.,") != ""
    return "+" + text if positive else text


def interval(estimate: Estimate, digits: int = 1) -> str:
    """The bounds of an estimate: "71.2 to 95.8", or an en dash."""
    if undefined(estimate.low) or undefined(estimate.high):
        return DASH
    return f"{percent(estimate.low, digits)} to {percent(estimate.high, digits)}"


def p_value(p: float) -> str:
    """A probability that is told beside a test: "= 0.031", "< 0.001"."""
    return "< 0.001" if p < 0.001 else f"= {decimal(p, 3)}"


def count(number: int) -> str:
    """12345 -> "12,345"."""
    return f"{number:,}"


def plural(number: int, noun: str) -> str:
    """1 -> "1 clip", 2 -> "2 clips", 3 -> "3 classes"."""
    ending = "" if number == 1 else "es" if noun.endswith("s") else "s"
    return f"{number:,} {noun}{ending}"


def join_words(words: Sequence[str], last: str = "and") -> str:
    """("a", "b", "c") -> "a, b and c"."""
    if len(words) < 2:
        return "".join(words)
    return f"{', '.join(words[:-1])} {last} {words[-1]}"


def shorten(text: str, length: int) -> str:
    """At most `length` characters, with an ellipsis where something was cut off."""
    return text if len(text) <= length else text[: max(1, length - 1)].rstrip() + "…"


def duration(seconds: float | None) -> str:
    """0.04 -> "0.04 s", 192 -> "3 min 12 s", 7500 -> "2 h 05 min"."""
    if seconds is None or not math.isfinite(seconds):
        return DASH
    if seconds < 1:
        return f"{decimal(seconds, 2)} s"
    if seconds < 59.95:
        return f"{decimal(seconds, 1)} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours:,} h {minutes:02d} min"


def byte_size(size_bytes: float) -> str:
    """1536 -> "1.5 kB", in steps of 1000 as file managers count."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 999.5 or unit == "TB":
            break
        size /= 1000
    return f"{decimal(size, 0 if unit == 'B' or size >= 100 else 1)} {unit}"


def rate(value: float | None) -> str:
    """A speed with about three significant digits."""
    if value is None or not math.isfinite(value):
        return DASH
    return decimal(value, 0 if value >= 100 else 1 if value >= 1 else 2)


def moment(iso_time: str) -> str:
    """An ISO time as "20 Nov 2026, 20:25 UTC"; text that is not one stays as it is."""
    try:
        time = datetime.fromisoformat(iso_time)
    except ValueError:
        return iso_time
    zone = f" {time.tzname()}" if time.tzinfo is not None else ""
    return f"{time.day} {time:%b %Y, %H:%M}{zone}"
