"""What the summary says, and only where it is so."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from audioflow.report import ReportData, StageRow
from audioflow.report.figures import compute
from audioflow.report.summary import Summary, summary
from tests.unit.report_pages import (
    CLASSES,
    certain,
    fuse,
    make_data,
    make_system,
    make_training,
    only,
)


def told(data: ReportData, num_bootstrap: int = 100) -> Summary:
    return summary(data, compute(data, "test", num_bootstrap))


def text(findings: tuple[Any, ...]) -> str:
    return " ".join(finding.text for finding in findings)


def test_every_finding_leads_to_a_section_and_is_a_sentence() -> None:
    audio, video = make_system("audio", strength=0.5), make_system("video", seed=1)
    found = told(make_data(audio, video, fuse(audio, video)))
    assert next(title for title, _ in found.columns) == "How sure is that?"
    for _, findings in found.columns:
        for finding in findings:
            assert finding.section
            assert finding.text.endswith(".")


def test_the_interval_is_told_with_what_it_comes_from() -> None:
    found = told(make_data(make_system("audio")))
    assert "The accuracy of audio is " in found.sure[0].text
    assert "from 60 test clips in 30 groups." in found.sure[0].text
    assert "four times as many halve the interval" in text(found.todo)


def test_no_mistake_at_all_is_no_proof_of_perfection() -> None:
    found = told(make_data(certain("audio", 100)))
    assert found.sure[0].text == "No mistake in 100 test clips: in truth it may be up to 3 %."


@pytest.mark.parametrize(
    ("fused", "words"),
    [(90, "beats audio alone for sure"), (71, "is open: the interval includes zero")],
)
def test_whether_fusing_helps_for_sure(fused: int, words: str) -> None:
    third = certain("fused", fused, kind="fused", parts=("audio", "video"))
    data = make_data(certain("audio", 70), certain("video", 50), third)
    assert words in text(told(data, 200).sure)


def test_a_small_certain_loss_is_told_of_the_best_system_only() -> None:
    third = certain("fused", 40, kind="fused", parts=("audio", "video"))
    data = make_data(certain("audio", 70), certain("video", 50), third)
    assert "fusing" not in text(told(data, 200).sure).lower()


def test_classes_that_are_never_found_are_named() -> None:
    system = make_system("audio", num_clips=400, strength=6)
    scores = system.scores.copy()
    scores[:, CLASSES.index("rain")] = 0.0
    found = told(make_data(replace(system, scores=scores)))
    assert "audio never finds 1 class: rain." in text(found.wrong)


def test_failures_are_told_by_table_with_the_most_frequent_reason() -> None:
    stage = StageRow("embed", "embeddings/acoustic", 90, 10, 4.5, 13.3, 21.5, 812)
    counts = {"embeddings/acoustic": {"truncated": 7, "timeout": 3}}
    data = make_data(make_system("audio"), stages=(stage,), failure_counts=counts, num_failures=10)
    found = told(data)
    assert (
        "10 clips (10.0 %) gave no row in embeddings/acoustic, most of them as truncated."
        in text(found.wrong)
    )
    assert "3 failures may pass (timeout): run again with --retry-failed." in text(found.todo)


def test_random_weights_are_an_alarm() -> None:
    system = make_system("audio", summary_line="vggish (untrained: random weights) -> mean -> mlp")
    assert "audio builds on a network with random weights" in text(told(make_data(system)).wrong)
    assert "random weights" not in text(told(make_data(make_system("audio"))).wrong)


def test_a_head_that_got_better_to_the_last_epoch_should_train_longer() -> None:
    last = replace(make_training(), max_epochs=4)
    found = told(make_data(make_system("audio", training=(last,))))
    assert "raise systems.audio.train.epochs (now 4)" in text(found.todo)
    early = replace(last, best_epoch=2)
    assert "epochs" not in text(told(make_data(make_system("audio", training=(early,)))).todo)
    fixed = replace(last, best_metric="last")
    assert "epochs" not in text(told(make_data(make_system("audio", training=(fixed,)))).todo)


def test_scores_far_from_probabilities_call_for_calibration_unless_there_is_one() -> None:
    system = make_system("audio", num_clips=400, strength=4)
    flat = 0.97 * 0.25 + 0.03 * system.scores  # right, and never sure of it
    system = replace(system, scores=flat.astype(np.float32))
    found = told(make_data(system))
    assert "Scores of audio are no probabilities" in text(found.sure)
    assert "systems.audio.calibration.method" in text(found.todo)
    done = replace(system, calibration={"method": "platt"})
    assert "calibration.method" not in text(told(make_data(done)).todo)


def test_a_class_of_few_clips_is_no_ground_for_anything() -> None:
    system = make_system("audio")
    few = only(system, [row for row in range(60) if row % 4 != 3 or row < 8])
    found = told(make_data(few))
    assert "1 class has fewer than 5 clips to be judged by" in text(found.todo)


def test_what_would_make_embed_faster_is_told_once() -> None:
    stages = tuple(
        StageRow("embed", f"embeddings/{n}", 9, 0, 4.5, 2.0, 21.5, 99, bare=0.27, advice="do so")
        for n in ("acoustic", "color")
    )
    found = told(make_data(make_system("audio"), stages=stages))
    sentence = "To make embed faster: do so; now 27 % of what the backbone alone reaches."
    assert text(found.todo).count(sentence) == 1


def test_of_a_job_that_is_mostly_its_start_nothing_is_to_be_done() -> None:
    row = StageRow("train", "heads/a", 9, 0, 4.5, 2.0, 21.5, 99, advice="do so", bound="start")
    assert "do so" not in text(told(make_data(make_system("audio"), stages=(row,))).todo)


def test_before_anything_is_scored_there_is_nothing_to_be_sure_of() -> None:
    assert told(make_data()).columns == []
