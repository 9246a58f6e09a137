"""The tools `search` and `explain` on tables that the jobs made."""

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from audioflow.cli import app
from audioflow.engine.run import Run
from audioflow.storage import local_path
from tests.ray.conftest import MakeRun


@pytest.fixture
def run(make_run: MakeRun) -> Run:
    return make_run()


def told(*arguments: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(arguments))
    assert done.exit_code == code, done.output
    return done.output


def test_a_recording_heard_again_is_where_it_was(run: Run) -> None:
    """What the header says is enough to hear, or see, exactly what the job did."""
    folder = local_path(run.folder.url)
    for backbone in ("acoustic", "color"):
        rows = run.embeddings(backbone).read(["clip_id"])["clip_id"].to_pylist()
        manifest = {row["clip_id"]: row["uri"] for row in run.manifest().read().to_pylist()}
        for clip_id in rows[:2]:
            where = [folder, "--backbone", backbone, "--file", manifest[clip_id]]
            found = json.loads(told("search", *where, "--top", "1", "--json"))
            (best,) = found["neighbours"]
            assert best["clip_id"] == clip_id
            assert best["distance"] == pytest.approx(0, abs=1e-5)


def test_scores_of_a_run_are_explained_and_verify_is_content(run: Run) -> None:
    folder = local_path(run.folder.url)
    told("explain", folder, "--system", "audio", "--method", "occlusion", "--worst", "1")
    told("explain", folder, "--system", "video", "--method", "shap", "--best", "1")
    for name in ("audio-occlusion", "video-shap"):
        place = Path(folder) / "explanations" / name
        assert pq.read_table(place / "all.parquet").num_rows == 1
        assert len(list(place.glob("*.png"))) == 1
    assert "ok" in told("verify", folder)
    fused = told("explain", folder, "--system", "fused", "--method", "shap", "--best", "1", code=4)
    assert "explain one of these" in " ".join(fused.split())
    seen = told(
        "explain", folder, "--system", "video", "--method", "occlusion", "--best", "1", code=4
    )
    assert "looks at pictures: occlusion explains sound alone" in " ".join(seen.split())
