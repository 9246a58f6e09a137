"""Confusions of many classes: their order, the data of the map, the page of six hundred classes."""

import json
import re

import numpy as np

from audioflow.metrics import evaluate
from audioflow.report import heat
from audioflow.report.figures import compute
from audioflow.report.heat import heat_data, mapped
from audioflow.report.similarity import class_order
from tests.unit.report_pages import build_text, load, make_data, make_system, page_of

MANY = tuple(f"class {n:02d}" for n in range(40))


def data_of(files: dict[str, bytes], id_: str) -> dict:
    found = re.search(rf'id="{id_}">(.*?)</script>', files["index.html"].decode(), re.S)
    assert found is not None
    return json.loads(found.group(1))


def test_classes_of_a_family_stand_side_by_side() -> None:
    rng = np.random.default_rng(0)
    family = rng.permutation(np.repeat(np.arange(6), 5))
    alike = (family[:, None] == family) * 1.0 + rng.random((30, 30)) * 0.2
    order = class_order(alike)
    assert sorted(order) == list(range(30))
    seen = family[list(order)]
    assert (np.diff(seen) != 0).sum() == 5  # each family once


def test_the_order_does_not_depend_on_the_diagonal_or_on_who_is_taken_for_whom() -> None:
    affinity = np.random.default_rng(1).random((12, 12))
    assert (
        class_order(affinity) == class_order(affinity.T) == class_order(affinity + 9 * np.eye(12))
    )


def test_a_class_that_is_never_confused_comes_last() -> None:
    affinity = np.zeros((5, 5))
    affinity[4, 1] = affinity[1, 3] = 1.0
    assert set(class_order(affinity)[:3]) == {1, 3, 4}
    assert class_order(affinity)[3:] == (0, 2)
    assert class_order(np.zeros((3, 3))) == (0, 1, 2)
    assert class_order(np.zeros((0, 0))) == ()


def test_the_map_has_every_count_of_the_matrix() -> None:
    system = make_system("audio", classes=MANY, num_clips=400)
    files = build_text(make_data(system), num_bootstrap=2)
    found = data_of(files, "heat-data")["systems"][0]
    counts = np.zeros((40, 40), int)
    for row, column, clips in np.reshape(found["cells"], (-1, 3)):
        counts[row, column] = clips
    expected = load(files)["systems"][0]["confusion"]
    assert counts.tolist() == expected
    assert found["support"] == np.sum(expected, axis=1).tolist()
    assert sorted(found["order"]) == list(range(40))
    assert found["left_out"] == 0


def test_systems_with_the_same_classes_share_their_names_in_the_page() -> None:
    others = tuple(f"other {name}" for name in MANY)
    systems = [
        make_system("audio", classes=MANY, num_clips=80),
        make_system("video", classes=MANY, num_clips=80, seed=1),
        make_system("third", classes=others, num_clips=80, seed=2),
    ]
    figures = compute(make_data(*systems), "test", 2)
    found = heat_data(mapped(figures))
    assert found["class_lists"] == [list(MANY), list(others)]
    assert [system["classes"] for system in found["systems"]] == [0, 0, 1]


def test_of_more_cells_than_a_page_should_carry_those_with_fewest_clips_go(monkeypatch) -> None:
    monkeypatch.setattr(heat, "MOST_CELLS", 50)
    system = make_system("audio", classes=MANY, num_clips=400)
    files = build_text(make_data(system), num_bootstrap=2)
    found = data_of(files, "heat-data")["systems"][0]
    kept = np.reshape(found["cells"], (-1, 3))
    confusion = np.array(load(files)["systems"][0]["confusion"])
    assert len(kept) == 50
    assert found["left_out"] == np.count_nonzero(confusion) - 50
    assert kept[:, 2].min() >= np.sort(confusion[confusion > 0])[-50]
    assert f"{found['left_out']:,} cells with fewest clips are not drawn" in page_of(files).text


def test_few_classes_need_no_map() -> None:
    page = page_of(build_text(make_data(make_system("audio")), num_bootstrap=2))
    assert "heat-data" not in page.ids()
    assert [a for tag, a in page.tags if tag == "svg" and "matrix" in (a.get("class") or "")]


def test_curves_of_the_page_are_those_of_the_json_thinned() -> None:
    system = make_system("audio", classes=MANY, num_clips=400, strength=2)
    files = build_text(make_data(system), num_bootstrap=2)
    told = data_of(files, "curve-data")
    assert told["class_lists"] == [list(MANY)]
    curve = told["systems"][0]["per_class"][7]
    result = evaluate(system.scores, np.arange(400) % 40, MANY, num_bootstrap=0).per_class[7]
    assert curve["n"] == 10
    assert curve["auc"] == round(result.roc_auc, 4)
    assert curve["ap"] == round(result.average_precision, 4)
    x, y = (np.array(part) / 1000 for part in curve["roc"])
    assert (x[0], y[0], x[-1], y[-1]) == (0, 0, 1, 1)
    assert (
        np.trapezoid(y, x) == np.float64(curve["auc"]).round(2)
        or abs(np.trapezoid(y, x) - curve["auc"]) < 0.02
    )
    assert all(len(one) <= 200 for one in (curve["at"], *curve["roc"], *curve["pr"]))
