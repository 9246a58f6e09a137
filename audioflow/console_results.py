"""How good the systems of a report are, as a table at the end of a run."""

from typing import Any

from rich.markup import escape
from rich.table import Table as RichTable


def results_table(results: dict[str, Any]) -> RichTable:
    title = f"{results['eval_split']} split, with 95 % intervals"
    table = RichTable(title=title, title_justify="left")
    table.add_column("system")
    table.add_column("clips", justify="right")
    for name in ("accuracy", "macro F1", "ROC-AUC", "mAP"):
        table.add_column(name, justify="right")
    for system in results["systems"]:
        metrics = system["metrics"]
        cells = [_cell(metrics.get(key)) for key in ("accuracy", "macro_f1", "roc_auc", "map")]
        table.add_row(escape(system["name"]), str(system["num_clips"]), *cells)
    return table


def _cell(estimate: dict[str, Any] | None) -> str:
    if not estimate or estimate.get("value") is None:
        return "-"
    if estimate.get("low") is None:
        return f"{estimate['value']:.3f}"
    return f"{estimate['value']:.3f} ({estimate['low']:.2f}-{estimate['high']:.2f})"
