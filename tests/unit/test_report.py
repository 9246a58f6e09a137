"""The report: its numbers against scikit-learn, its page as strict HTML, its plots as pictures."""

import io
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn import metrics as sk

from audioflow.report import (
    EpochRecord,
    FailureRow,
    StageRow,
    SystemScores,
    Training,
    build,
    formats,
    svg,
)
from audioflow.report import page as page_module
from audioflow.report.canvas import COLOURS
from audioflow.report.evaluations import chance_level
from audioflow.report.plots import file_name
from tests.unit.report_pages import (
    CLASSES,
    Page,
    build_text,
    certain,
    load,
    make_data,
    make_system,
    make_training,
    page_of,
    two_and_fused,
    val_class,
)


@pytest.fixture(scope="module")
def files() -> dict[str, bytes]:
    return build(make_data(*two_and_fused()), num_bootstrap=50)


def test_json_holds_the_metrics_that_scikit_learn_finds(files: dict[str, bytes]) -> None:
    found = load(files)
    for system, result in zip(two_and_fused(), found["systems"], strict=True):
        target = np.array([CLASSES.index(label) for label in system.labels])
        guess = system.scores.argmax(axis=1)
        one_hot = np.eye(len(CLASSES))[target]
        expected = {
            "accuracy": sk.accuracy_score(target, guess),
            "balanced_accuracy": sk.balanced_accuracy_score(target, guess),
            "top_2": sk.top_k_accuracy_score(target, system.scores, k=2),
            "macro_f1": sk.f1_score(target, guess, average="macro"),
            "roc_auc": sk.roc_auc_score(one_hot, system.scores, average="macro"),
            "map": sk.average_precision_score(one_hot, system.scores, average="macro"),
        }
        values = {key: estimate["value"] for key, estimate in result["metrics"].items()}
        assert values == pytest.approx(expected)
        assert result["confusion"] == sk.confusion_matrix(target, guess).tolist()
        recall = [row["recall"] for row in result["per_class"]]
        assert recall == pytest.approx(sk.recall_score(target, guess, average=None))


def test_gain_and_availability_are_of_the_clips_that_both_have(files: dict[str, bytes]) -> None:
    found = load(files)
    audio, video, fused = two_and_fused()
    gains = {gain["part"]: gain for gain in found["gains"]}
    kept = [i for i in range(60) if i % 5]
    target = np.arange(60) % 4
    right = fused.scores.argmax(axis=1) == target
    of_video = right[kept].mean() - (video.scores.argmax(axis=1) == target[kept]).mean()
    of_audio = right.mean() - (audio.scores.argmax(axis=1) == target).mean()
    assert gains["video"]["num_clips"] == 48
    assert gains["video"]["gain"]["value"] == pytest.approx(of_video)
    assert gains["audio"]["gain"]["value"] == pytest.approx(of_audio)
    assert [gain["is_better_part"] for gain in found["gains"]].count(True) == 1
    by_parts = {tuple(item["available"]): item for item in found["availability"]}
    assert by_parts[("audio", "video")]["accuracy"]["value"] == pytest.approx(right[kept].mean())
    assert by_parts[("audio",)]["num_clips"] == 12


def test_page_shows_the_numbers_of_the_json(files: dict[str, bytes]) -> None:
    found, text = load(files), page_of(files).text
    assert found["verdict"] in text
    for system in found["systems"]:
        for estimate in system["metrics"].values():
            low, high = (formats.percent(estimate[key]) for key in ("low", "high"))
            assert f"{formats.percent(estimate['value'])} {low} to {high}" in text
        for mistake in system["mistakes"]:
            assert mistake["clip_id"] in text
    for gain in found["gains"]:
        assert formats.points(gain["gain"]["value"]) in text


def test_mistakes_are_the_most_confident_ones_first(files: dict[str, bytes]) -> None:
    for system, result in zip(two_and_fused(), load(files)["systems"], strict=True):
        target = np.array([CLASSES.index(label) for label in system.labels])
        wrong = system.scores.argmax(axis=1) != target
        expected = sorted(system.scores.max(axis=1)[wrong].tolist(), reverse=True)[:10]
        assert [m["score"] for m in result["mistakes"]] == pytest.approx(expected, abs=1e-5)
        assert all(mistake["label"] != mistake["predicted"] for mistake in result["mistakes"])


def test_page_is_self_contained(files: dict[str, bytes]) -> None:
    page, text = page_of(files), files["index.html"].decode()
    for tag, attrs in page.tags:
        for key in ("src", "href", "xlink:href", "action", "data", "poster", "srcset"):
            value = attrs.get(key) or ""
            assert value.startswith(("#", "data:")) or not value, f"<{tag} {key}={value}>"
    assert not re.search(r"url\(|@import|https?://", text)
    policies = [a["content"] or "" for _, a in page.tags if a.get("http-equiv")]
    assert len(policies) == 1
    assert policies[0].startswith("default-src 'none'")


def test_page_is_well_formed_with_unique_ids_and_working_links(files: dict[str, bytes]) -> None:
    page = page_of(files)
    ids = page.ids()
    assert len(ids) == len(set(ids))
    links = [(a.get("href") or "")[1:] for tag, a in page.tags if tag == "a"]
    assert list(dict.fromkeys(links)) == [
        "metrics",
        "fusion",
        "confusion",
        "curves",
        "classes",
        "clips",
        "training",
        "data",
        "stages",
        "failures",
        "provenance",
    ]
    assert set(links) <= set(ids)


def test_building_twice_gives_the_same_bytes(files: dict[str, bytes]) -> None:
    data = make_data(*two_and_fused())
    assert build(data, num_bootstrap=50) == files
    assert files.items() >= build_text(data, num_bootstrap=50).items()


def test_plots_are_pictures_with_something_on_them(files: dict[str, bytes]) -> None:
    names = sorted(name for name in files if name.endswith(".png"))
    assert names == [
        "confusion_audio.png",
        "confusion_fused.png",
        "confusion_video.png",
        "curves.png",
        "data.png",
        "fusion_fused.png",
        "gains.png",
        "metrics.png",
        "training_audio.png",
    ]
    for name in names:
        picture = Image.open(io.BytesIO(files[name])).convert("RGB")
        assert min(picture.size) > 100, name
        assert len(picture.getcolors(2**24) or []) > 20, name


def test_names_from_outside_are_escaped() -> None:
    evil = (
        "<script>alert(1)</script>",
        '"><img src=x onerror=alert(2)>',
        "$a_{$",
        "日本 'x' &amp;",
    )
    system = make_system("a<b>", classes=evil, summary_line="</style><script>alert(3)</script>")
    system = replace(system, clip_ids=tuple(f"<i>{c}" for c in system.clip_ids))
    failure = FailureRow("embeddings/a", "<b>clip", "u", "decode", "crashed", "</td><script>")
    files = build(
        make_data(
            system,
            title="</title><script>alert(4)</script>",
            recipe_yaml="</pre><script>alert(5)</script>",
            failures=(failure,),
            num_failures=1,
            failure_counts={"embeddings/a": {"crashed": 1}},
        ),
        num_bootstrap=5,
    )
    page = page_of(files)
    scripts = [attrs for tag, attrs in page.tags if tag == "script"]
    assert [attrs for attrs in scripts if attrs.get("type") != "application/json"] == [{}]
    assert not {"img", "i"} & {tag for tag, attrs in page.tags if "class" not in attrs}
    assert not [name for _, attrs in page.tags for name in attrs if name.startswith("on")]
    for name in evil:
        assert name in page.text
    assert load(files)["systems"][0]["classes"] == list(evil)


def test_a_single_system_without_val_split_or_failures() -> None:
    data = make_data(make_system("audio"), splits={"test": dict.fromkeys(CLASSES, 15)})
    files = build_text(data, num_bootstrap=20)
    page, found = page_of(files), load(files)
    assert {"fusion", "training"}.isdisjoint(page.ids())
    assert "Every clip gave a row in every table." in page.text
    assert found["verdict"].startswith("The audio system classifies ")
    assert found["verdict"].endswith("always naming the most common class would get 25 %.")
    assert found["gains"] == found["availability"] == []


def test_a_system_whose_last_epoch_was_kept_says_so() -> None:
    one = replace(make_training("1"), best_metric="last")
    folds = tuple(replace(one, fold=str(fold)) for fold in range(1, 6))
    page = page_of(build_text(make_data(make_system("audio", training=folds)), num_bootstrap=20))
    assert "5 folds · the last epoch kept, 4" in page.text
    alone = replace(one, fold="")
    page = page_of(build_text(make_data(make_system("audio", training=(alone,))), num_bootstrap=20))
    assert "the last epoch kept, 4 of " in page.text
    assert "chosen by" not in page.text


def test_a_cross_validated_system_says_so_and_overlays_its_folds() -> None:
    folds = tuple(make_training(str(fold)) for fold in range(1, 6))
    files = build_text(make_data(make_system("audio", training=folds)), num_bootstrap=20)
    page = page_of(files)
    assert "correctly in 5-fold cross-validation" in load(files)["verdict"]
    assert "5 folds · best epochs 4, chosen by accuracy" in page.text
    lines = [
        a for tag, a in page.tags if tag == "path" and "line s0 thin" in (a.get("class") or "")
    ]
    assert len(lines) >= 15


def table_of(page: Page, text: str, id_: str) -> list[list[str]]:
    """The cells of the table with this id, row by row."""
    start = text.index(f'id="{id_}"')
    rows = text[start : text.index("</table>", start)].split("<tr")[1:]
    return [re.findall(r">([^<>]+)</t[hd]>", row) for row in rows]


def test_training_shows_what_a_reader_asks_for() -> None:
    training = replace(make_training(), temperature=1.25, seed=7, max_epochs=30, best_epoch=3)
    page = page_of(
        build_text(make_data(make_system("audio", training=(training,))), num_bootstrap=2)
    )
    assert (
        "best epoch 3, chosen by accuracy · stopped after 4 of 30 epochs · 1,234 parameters · "
        "temperature 1.25 · seed 7 · 2 workers · 0.40 s"
    ) in page.text


def test_training_of_folds_shows_their_range() -> None:
    folds = tuple(
        replace(make_training(str(n), epochs=3 + n), temperature=n / 2, seed=0, max_epochs=5)
        for n in (1, 2)
    )
    page = page_of(build_text(make_data(make_system("audio", training=folds)), num_bootstrap=2))
    assert "2 folds · best epochs 4 to 5, chosen by accuracy · stopped after 4 to 5 of" in page.text
    assert "temperature 0.50 to 1.00 · seed 0" in page.text


def test_a_head_that_scikit_learn_fitted_has_no_curves_and_no_parameters() -> None:
    classes = (val_class("siren", 3, 0.5), val_class("horn", 3, 1.0))
    training = replace(make_training(epochs=1), num_parameters=None, seed=3, classes=classes)
    files = build(make_data(make_system("audio", training=(training,))), num_bootstrap=2)
    page = page_of(files)
    section = page.text.partition("How training went")[2].partition("The data")[0]
    assert "fitted in one go, without epochs · seed 3 · 2 workers" in section
    assert "parameters" not in section
    assert "hardest siren (F1 50 %), easiest horn (100 %)" in section
    whole = files["index.html"].decode()
    part = whole[whole.index('<section id="training">') : whole.index('<section id="data">')]
    assert 'class="lines"' not in part
    assert "training_audio.png" not in files
    assert load(files)["systems"][0]["training"][0]["num_parameters"] is None


def test_classes_on_val_are_the_mean_over_the_folds_that_have_them() -> None:
    first = (val_class("siren", 4, 0.5), val_class("horn", 2, 0.8), val_class("rain", 0, 0.0))
    second = (val_class("siren", 6, 0.9), val_class("horn", 0, 0.0), val_class("rain", 0, 0.0))
    folds = tuple(
        replace(make_training(str(number)), classes=classes)
        for number, classes in enumerate((first, second, ()))
    )
    files = build_text(make_data(make_system("audio", training=folds)), num_bootstrap=2)
    page = page_of(files)
    assert "Class by class on val, mean of 2 folds" in page.text
    assert table_of(page, files["index.html"].decode(), "val-classes-0") == [
        ["class", "clips", "precision", "recall", "F1"],
        ["siren", "10", "35.0", "17.5", "70.0"],
        ["horn", "2", "40.0", "20.0", "80.0"],
        ["rain", "0", "–", "–", "–"],
    ]
    assert load(files)["systems"][0]["training"][1]["classes"][0]["f1"] == 0.9


def test_hundreds_of_classes_on_val_are_folded_away_with_the_hardest_first() -> None:
    names = [f"class {number:03d}" for number in range(600)]
    classes = tuple(val_class(name, 5, (n % 97 + 1) / 100) for n, name in enumerate(names))
    training = replace(make_training(), classes=(*classes, val_class("never", 0, 0.0)))
    data = make_data(make_system("audio", training=(training,)))
    files = build_text(data, num_bootstrap=2)
    text = files["index.html"].decode()
    rows = table_of(page_of(files), text, "val-classes-0")[1:]
    assert len(rows) == 601
    assert [row[0] for row in rows[:3]] == ["class 000", "class 097", "class 194"]
    assert rows[-1][0] == "never"
    before = text[: text.index('id="val-classes-0"')]
    assert before.count("<details") - before.count("</details>") == 1  # inside one, and
    assert "<details open" not in before  # it is closed
    assert 'id="val-classes-0" class="sortable per-class" data-filter=' in text
    without = build_text(
        make_data(make_system("audio", training=(make_training(),))), num_bootstrap=2
    )
    assert len(text) - len(without["index.html"]) < 200_000


def test_many_classes_list_confused_pairs_in_place_of_a_matrix() -> None:
    classes = tuple(f"class {i:03d}" for i in range(200))
    system = make_system("audio", classes=classes, num_clips=600, strength=2.0)
    files = build(make_data(system), num_bootstrap=3)
    page, found = page_of(files), load(files)
    assert not [a for tag, a in page.tags if "matrix" in (a.get("class") or "").split()]
    assert len(files["index.html"]) < 400_000
    confusion = np.array(found["systems"][0]["confusion"])
    assert confusion.shape == (200, 200)
    pairs = found["systems"][0]["confused"]
    np.fill_diagonal(confusion, 0)
    assert pairs[0]["clips"] == confusion.max()
    assert pairs[0]["label"] in page.text
    assert "184 classes between" in page.text


def test_undefined_metrics_are_null_in_json_and_a_dash_on_the_page() -> None:
    system = make_system("audio", classes=(*CLASSES, "never heard"), num_clips=40)
    labels = tuple("siren" if label == "never heard" else label for label in system.labels)
    system = replace(system, labels=labels)
    files = build_text(make_data(system), num_bootstrap=5)
    result = load(files)["systems"][0]
    assert result["per_class"][4]["roc_auc"] is None
    assert len(result["undefined"]) == 1
    assert "never heard" in result["undefined"][0]
    page = page_of(files)
    cells = [a["data-v"] or "" for _, a in page.tags if "data-v" in a]
    assert cells[4].split(",")[3] == ""
    assert "'never heard' has no clip" in page.text


def test_clips_with_an_unknown_label_are_left_out_and_counted() -> None:
    system = make_system("audio")
    system = replace(system, labels=("unheard of", *system.labels[1:]))
    files = build_text(make_data(system), num_bootstrap=5)
    result = load(files)["systems"][0]
    assert (result["num_clips"], result["left_out"]) == (59, 1)
    assert "audio: 1 clip left out" in page_of(files).text


def test_only_clips_of_the_chosen_split_count() -> None:
    system = make_system("audio")
    system = replace(system, splits=("val",) * 20 + ("test",) * 40)
    assert load(build_text(make_data(system), num_bootstrap=2))["systems"][0]["num_clips"] == 40
    found = load(build_text(make_data(system), eval_split="val", num_bootstrap=2))
    assert (found["eval_split"], found["systems"][0]["num_clips"]) == ("val", 20)


def test_a_part_with_its_classes_in_another_order_is_compared_by_name() -> None:
    audio, video, fused = two_and_fused()
    order = [2, 0, 3, 1]
    turned = replace(
        video, classes=tuple(CLASSES[i] for i in order), scores=video.scores[:, order].copy()
    )
    expected = load(build_text(make_data(audio, video, fused), num_bootstrap=10))["gains"]
    assert load(build_text(make_data(audio, turned, fused), num_bootstrap=10))["gains"] == expected


@pytest.mark.parametrize(
    ("systems", "missing"),
    [
        ((), "No system"),
        ((make_system("audio", split="val"),), "No clip of the test split"),
    ],
)
def test_before_anything_is_scored_the_page_says_so(
    systems: tuple[SystemScores, ...], missing: str
) -> None:
    verdict = f"{missing} has been scored yet; the manifest has 180 clips of 4 classes."
    files = build(make_data(*systems))
    assert load(files)["verdict"] == verdict
    page = page_of(files)
    assert "metrics" not in page.ids()
    assert verdict in page.text


@pytest.mark.parametrize(
    ("audio", "video", "fused", "words"),
    [
        (70, 50, 88, r"^Fusing audio and video classifies 88 % of 100 test clips correctly: "
         r"18 points more than audio alone \(95 % interval 1\d to 2\d\)\.$"),
        (70, 50, 71, r"1 point more than audio alone .*, so it may be chance\)\.$"),
        (70, 80, 60, r"^The video system alone classifies 80 % of 100 test clips correctly; fusing "
         r"audio and video does not improve on it: 20 points fewer than video alone"),
        (70, 50, 70, r"^Fusing audio and video .* as many as audio alone"),
    ],
)  # fmt: skip
def test_verdict_in_plain_words(audio: int, video: int, fused: int, words: str) -> None:
    third = certain("fused", fused, kind="fused", parts=("audio", "video"))
    data = make_data(certain("audio", audio), certain("video", video), third)
    assert re.search(words, load(build_text(data, num_bootstrap=200))["verdict"])


def test_failures_are_counted_grouped_and_listed() -> None:
    failures = tuple(
        FailureRow("embeddings/acoustic", f"clip{i}", f"s3://b/{i}", "decode", "truncated", "short")
        for i in range(400)
    )
    odd = FailureRow("embeddings/color", "odd", "s3://b/odd", "decode", "no_video", "sound only")
    files = build_text(
        make_data(
            make_system("audio"),
            failures=(*failures, odd),
            num_failures=5001,
            failure_counts={
                "embeddings/acoustic": {"truncated": 5000},
                "embeddings/color": {"no_video": 1},
            },
        ),
        num_bootstrap=2,
    )
    page = page_of(files)
    assert "5,001 failures in 2 tables" in page.text
    assert "truncated no_video all" in page.text
    assert "Shown are 300 of 5,001" in page.text
    assert "sound only" in page.text  # a rare error class is not crowded out by a frequent one


def test_where_the_time_of_a_run_went_is_told_once_for_tables_made_together() -> None:
    told = "bound by decoding (decode 60%, acoustic 30%, waiting 10%); only more cores"
    shares = {"decode": 0.6, "embed acoustic": 0.2, "embed color": 0.1, "wait": 0.1, "fetch": 0.0}
    stages = tuple(
        StageRow("embed", f"embeddings/{n}", 9, 0, 4.5, 2.0, 21.5, 99, verdict=told, shares=shares)
        for n in ("acoustic", "color")
    )
    page = page_of(build_text(make_data(make_system("audio"), stages=stages), num_bootstrap=2))
    assert page.text.count("Where the time of embed went") == 1
    assert page.text.count("Bound by decoding (decode 60%, acoustic 30%, waiting 10%)") == 1
    assert "acoustic 20.0 % color 10.0 % decode 60.0 % waiting 10.0 %" in page.text
    none = page_of(build_text(make_data(make_system("audio")), num_bootstrap=2))
    assert "Where the time" not in none.text


def test_chance_levels_are_those_of_random_scores() -> None:
    rng = np.random.default_rng(0)
    target = rng.choice(3, size=200_000, p=[0.6, 0.3, 0.1])
    support = np.bincount(target)
    guess = rng.integers(3, size=len(target))
    scores = rng.random((len(target), 3))
    one_hot = np.eye(3)[target]
    expected = {
        "accuracy": sk.accuracy_score(target, guess),
        "balanced_accuracy": sk.balanced_accuracy_score(target, guess),
        "top_2": sk.top_k_accuracy_score(target, scores, k=2),
        "macro_f1": sk.f1_score(target, guess, average="macro"),
        "roc_auc": sk.roc_auc_score(one_hot, scores),
        "map": sk.average_precision_score(one_hot, scores),
    }
    found = {key: chance_level(key, support) for key in expected}
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (formats.percent(0.875, 0), "88"),
        (formats.percent(0.625, 0), "63"),
        (formats.percent(0.145, 0), "15"),
        (formats.percent(float("nan")), "–"),
        (formats.points(-0.0312), "−3.1"),
        (formats.points(0.0001), "0.0"),
        (formats.points(-0.0001), "0.0"),
        (formats.points(0.17), "+17.0"),
        (formats.duration(0.04), "0.04 s"),
        (formats.duration(59.96), "1 min 00 s"),
        (formats.duration(192), "3 min 12 s"),
        (formats.duration(7500), "2 h 05 min"),
        (formats.byte_size(999), "999 B"),
        (formats.byte_size(1536), "1.5 kB"),
        (formats.byte_size(3_812_331), "3.8 MB"),
        (formats.plural(2, "class"), "2 classes"),
        (formats.join_words(("a", "b", "c")), "a, b and c"),
        (formats.moment("2026-11-20T20:25:07+00:00"), "20 Nov 2026, 20:25 UTC"),
        (formats.moment("yesterday"), "yesterday"),
        (formats.metric_name("top_5"), "top 5"),
    ],
)
def test_formats(found: str, expected: str) -> None:
    assert found == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0.0, 1.0, [0, 0.25, 0.5, 0.75, 1]),
        (1.0, 30.0, [10, 20, 30]),
        (0.52, 0.99, [0.6, 0.8]),
        (3.0, 3.0, [3]),
    ],
)
def test_ticks_are_round_and_inside(low: float, high: float, expected: list[float]) -> None:
    assert svg.ticks(low, high) == pytest.approx(expected)


def test_plots_and_page_give_a_system_the_same_colour() -> None:
    css = (Path(page_module.__file__).parent / "page.css").read_text()
    for index, colour in enumerate(COLOURS):
        assert f".s{index} {{ --c: {colour};" in css
    assert len(COLOURS) == svg.NUM_COLOURS


def test_a_system_without_validation_shows_its_training_loss_alone() -> None:
    records = tuple(EpochRecord(e, 0.004 / e, None, {}, 1e-3, 0.1) for e in (1, 2, 3))
    training = Training(records, 3, "train_loss", 1, 0.3, 10)
    files = build(make_data(make_system("audio", training=(training,))), num_bootstrap=2)
    page = page_of(files)
    assert "0 0.002 0.004" in page.text
    assert "validation" not in page.text.partition("How training went")[2].partition("The data")[0]
    assert Image.open(io.BytesIO(files["training_audio.png"])).size[0] < 800


def test_names_that_are_no_unicode_survive() -> None:
    classes = ("caf\udce9", *CLASSES[1:])
    files = build(make_data(make_system("audio", classes=classes)), num_bootstrap=2)
    assert load(files)["systems"][0]["classes"][0] == "caf\udce9"
    assert "caf\\udce9" in page_of(files).text


def test_file_names_are_plain_and_never_the_same_twice() -> None:
    taken: set[str] = set()
    names = [file_name(name, taken) for name in ("audio", "Audio", "../x/y", "日本")]
    assert names == ["audio", "audio-2", "x-y", "system"]
