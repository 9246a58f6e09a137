"""The Grafana dashboard and the measures of the engine say the same, and so does the page."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from audioflow.engine.measures import JOB, MEASURES
from docs import grafana
from tests.conftest import ROOT

DASHBOARD = json.loads((ROOT / "cluster" / "grafana.json").read_text(encoding="utf-8"))
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
EXPRESSIONS = [target["expr"] for panel in PANELS for target in panel["targets"]]
PAGE = (ROOT / "docs" / "observing.md").read_text(encoding="utf-8")
SUFFIXES = ("_bucket", "_sum", "_count", "")
RAYS_OWN = {
    "ray_node_cpu_utilization",
    "ray_node_gpus_utilization",
    "ray_node_gram_used",
    "ray_node_mem_used",
    "ray_node_mem_total",
    "ray_object_store_memory",
}


def test_the_file_is_what_the_measures_make() -> None:
    committed = (ROOT / "cluster" / "grafana.json").read_text(encoding="utf-8")
    assert committed == grafana.text(), "python -m docs.grafana"


def names_in(expressions: list[str]) -> set[str]:
    return {name for one in expressions for name in re.findall(r"\bray_\w+", one)}


def test_every_metric_on_a_panel_is_one_that_is_registered_or_rays_own() -> None:
    ours = {one.exported + end for one in MEASURES.values() for end in SUFFIXES}
    assert len(names_in(EXPRESSIONS)) > 25
    assert names_in(EXPRESSIONS) - ours == RAYS_OWN


def test_every_measure_is_on_a_panel() -> None:
    shown = names_in(EXPRESSIONS)
    absent = [
        one.name
        for one in MEASURES.values()
        if not shown & {one.exported + end for end in SUFFIXES}
    ]
    assert absent == []


@pytest.mark.parametrize("name", ["failures", "node_changes", "retries", "trials"])
def test_what_happens_seldom_is_shown_as_a_total(name: str) -> None:
    """Prometheus' `rate` and `increase` do not see what a counter begins with."""
    shown = [one for one in EXPRESSIONS if MEASURES[name].exported in one]
    assert shown
    assert not [one for one in shown if "rate(" in one or "increase(" in one]


def test_what_can_be_less_than_nothing_is_not_cut_off() -> None:
    bounds = {panel["title"]: panel["fieldConfig"]["defaults"] for panel in PANELS}
    below = {title for title, defaults in bounds.items() if "min" not in defaults}
    assert below == {"Metrics on val", "Best score"}


def test_prometheus_can_read_every_expression(tmp_path: Path) -> None:
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed: apt-get install prometheus")
    chosen = {"$__rate_interval": "1m", "$run": ".*", "$job": ".*"}
    rules = []
    for number, expression in enumerate(EXPRESSIONS):
        for name, value in chosen.items():
            expression = expression.replace(name, value)  # noqa: PLW2901
        rules.append({"record": f"one:{number}", "expr": expression})
    path = tmp_path / "rules.yml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "all", "rules": rules}]}))
    done = subprocess.run(
        [promtool, "check", "rules", path], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert f"{len(EXPRESSIONS)} rules found" in done.stdout


def test_the_object_store_is_counted_without_what_is_not_in_it() -> None:
    """Under the same name Ray tells of values on the heap of workers, and of what was spilled."""
    (panel,) = [one for one in PANELS if one["title"] == "Object store"]
    shown = [target["expr"] for target in panel["targets"]]
    assert [re.findall(r'Location=~?"([^"]*)"', one) for one in shown] == [
        ["MMAP_SHM"],
        ["MMAP_DISK|SPILLED"],
    ]


def test_rays_own_metrics_are_those_of_the_dashboards_that_ray_brings() -> None:
    import ray

    folder = Path(ray.__file__).parent / "dashboard" / "modules" / "metrics" / "dashboards"
    text = "".join(path.read_text(encoding="utf-8") for path in folder.glob("*.py"))
    assert [name for name in sorted(RAYS_OWN) if name not in text] == []


def test_labels_in_expressions_and_legends_are_those_of_the_measures() -> None:
    rays = {"instance", "GpuIndex", "le", "run"}
    for panel in PANELS:
        for target in panel["targets"]:
            expr = target["expr"]
            mine = [one for one in MEASURES.values() if re.search(rf"\b{one.exported}\b", expr)]
            mine += [one for one in MEASURES.values() if f"{one.exported}_bucket" in expr]
            known = {label for one in mine for label in one.labels} | {JOB} | rays
            grouped = re.findall(r"by \(([^)]*)\)", expr)
            used = {label.strip() for group in grouped for label in group.split(",")}
            used |= set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            assert used <= known, panel["title"]


def test_labels_do_not_have_the_names_that_prometheus_gives_itself() -> None:
    labels = {label for one in MEASURES.values() for label in (JOB, *one.labels)}
    assert labels & {"job", "instance", "le", "quantile"} == set()


def test_it_can_be_imported() -> None:
    assert DASHBOARD["schemaVersion"] >= 36
    names = [variable["name"] for variable in DASHBOARD["templating"]["list"]]
    assert names == ["datasource", "run", "job"]
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    for panel in PANELS:
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all(target["datasource"]["uid"] == "${datasource}" for target in panel["targets"])
        assert panel["description"]


def test_panels_do_not_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in DASHBOARD["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        taken |= cells


def rows_below(heading: str) -> list[list[str]]:
    text = PAGE.split(f"\n{heading}\n", maxsplit=1)[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]
    return [row for row in rows if row[0] not in ("measure", "panel")]


def test_the_page_has_every_measure_with_its_labels() -> None:
    told = {row[0].strip("`"): row[1:] for row in rows_below("## Measures")}
    assert set(told) == {one.exported for one in MEASURES.values()}
    for one in MEASURES.values():
        labels, text = told[one.exported]
        assert re.findall(r"`(\w+)`", labels) == list(one.labels)
        assert text == one.text


def test_the_page_has_every_panel() -> None:
    told = {row[0]: row[1] for row in rows_below("## The panels, and what to do")}
    assert told == {panel["title"]: panel["description"] for panel in PANELS}


@pytest.mark.parametrize("kind", ["counter", "gauge", "histogram"])
def test_there_are_measures_of_every_kind(kind: str) -> None:
    assert any(one.kind == kind for one in MEASURES.values())
