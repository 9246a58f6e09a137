"""The README's demo as a user meets it: on a cluster, again, interrupted, and with faults."""

import json
import os
import re
import resource
import shlex
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from audioflow.storage import Folder
from audioflow.tables import Table
from tests.conftest import ROOT
from tests.e2e.conftest import BIN, Cluster, Place, end_group

RECIPE = "configs/demo.yaml"
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="session")
def demo(cluster: Cluster) -> Path:
    """The demo, run by `ray job submit` on the cluster; its run folder."""
    done = cluster.submit("python", "jobs/run.py", RECIPE)
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-3000:]
    assert re.search(r"report: \S+/runs/demo/report/index.html", done.stdout)
    for system in ("audio", "video", "fused"):
        assert re.search(rf"│ {system} +│ +\d+ │ +0\.\d+|│ {system} +│ +\d+ │ +1\.000", done.stdout)
    return cluster.place.folder / "runs" / "demo"


def embedding_rows(run: Path, backbone: str) -> list[dict]:
    rows = Table(Folder(str(run / "embeddings" / backbone))).read().to_pylist()
    return sorted(rows, key=lambda row: row["clip_id"])


def test_the_job_on_a_cluster_makes_every_table_and_the_report(demo: Path) -> None:
    manifest = Table(Folder(str(demo / "manifest"))).read().to_pylist()
    assert 115 <= len(manifest) <= 125
    for table in ("embeddings/acoustic", "embeddings/color"):
        header = Table(Folder(str(demo / table))).complete_header()
        assert header.rows + header.failures == len(manifest)
        assert 5 < header.failures < 20
    page = (demo / "report" / "index.html").read_text()
    assert "</html>" in page
    assert not re.search(r"""(src|href)=["']https?://""", page)


def test_fusing_beats_the_better_single_system(demo: Path) -> None:
    report = json.loads((demo / "report" / "report.json").read_text())
    accuracy = {s["name"]: s["metrics"]["accuracy"]["value"] for s in report["systems"]}
    chance = 1 / 6
    for single in ("audio", "video"):
        assert chance + 0.15 < accuracy[single] < 0.95
    assert accuracy["fused"] > max(accuracy["audio"], accuracy["video"])


def test_the_questions_of_the_tour_have_answers(demo: Path, cluster: Cluster) -> None:
    """Its commands but for those that take longer, which have tests of their own."""
    part = README.split("\n### 4. ")[1].split("\n### 5. ")[0]
    lines = [line.split("#")[0] for line in part.splitlines() if line.startswith("audioflow ")]
    asked = [shlex.split(line)[1:] for line in lines]
    quick = [words for words in asked if words[0] not in ("explain", "plan")]
    assert [words[0] for words in quick] == ["verify", "failures", "compare", "search"]
    answers = {words[0]: cluster.place.audioflow(*words).stdout for words in quick}
    assert "ok: every clip is exactly once" in answers["verify"]
    assert "no_audio  6 clips" in answers["failures"]
    assert re.search(r"b is better by \d+\.\d points of accuracy", answers["compare"])
    assert re.search(r"\n1 +0\.\d+ +\w+/", answers["search"])


def test_the_python_of_the_tour_reads_what_the_demo_made(
    demo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(demo.parent.parent)
    found: dict[str, Any] = {}
    (block,) = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(block, found)  # the page's own text
    assert found["unsure"].columns == ["clip_id", "labels", "predicted", "score"]
    assert found["unsure"]["score"].is_sorted()
    assert dict(found["reasons"]) == {"no_audio": 6, "not_media": 1, "truncated": 1}
    told = ", ".join(f"{error} {count}" for error, count in found["reasons"].items())
    assert f"# {told}" in README


def test_a_second_run_does_no_work_and_says_so_within_seconds(demo: Path, cluster: Cluster) -> None:
    before = cpu_seconds()
    done = cluster.place.audioflow("run", RECIPE)
    assert cpu_seconds() - before < 10
    lines = [line for line in done.stdout.splitlines() if re.match(r"\d\d:\d\d:\d\d", line)]
    assert len(lines) == 9
    assert all("nothing to do: complete and unchanged" in line for line in lines)


def cpu_seconds() -> float:
    """Of the processes that were started here and have ended: what else runs does not count."""
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime


def test_a_run_that_was_killed_goes_on_and_comes_to_the_same_tables(
    demo: Path, tmp_path: Path
) -> None:
    place = Place(tmp_path)
    corpus = demo.parent.parent / "data" / "demo"
    arguments = [f"manifest.root={corpus}", "ray.address=local"]
    place.audioflow("manifest", RECIPE, *arguments)
    receipts = tmp_path / "runs" / "demo" / "embeddings" / "acoustic" / "_shards"
    process = subprocess.Popen(
        [BIN / "audioflow", "embed", RECIPE, *arguments],
        cwd=ROOT,
        env=place.environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 240
        while not list(receipts.glob("*.json")):
            assert process.poll() is None, "embed ended before it could be killed"
            assert time.monotonic() < deadline
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    finally:
        end_group(process)
    assert not (receipts.parent / "_header.json").exists()
    kept = {path.name: path.stat().st_mtime_ns for path in receipts.glob("*.json")}
    assert 1 <= len(kept) < 8

    place.audioflow("embed", RECIPE, *arguments)
    for backbone in ("acoustic", "color"):
        again = embedding_rows(tmp_path / "runs" / "demo", backbone)
        assert again == embedding_rows(demo, backbone)
    after = {name: (receipts / name).stat().st_mtime_ns for name in kept}
    assert after == kept


def test_all_faults_of_a_recipe_are_told_at_once_before_ray_starts(tmp_path: Path) -> None:
    started = time.monotonic()
    done = Place(tmp_path).audioflow(
        "run",
        RECIPE,
        "embed.clip_per_shard=3",
        "systems.audio.train.lr=-1",
        "systems.video.head.name=liner",
        "fuse.fused.systems=[audio, vido]",
        check=False,
    )
    assert done.returncode == 2
    told = done.stderr
    assert "4 faults" in told
    assert "embed.clip_per_shard: unknown key" in told
    assert "did you mean 'clips_per_shard'?" in told
    assert re.search(r"systems.audio.train.lr: -1 is out of range; allowed: 0(\.0)? or more", told)
    assert "'liner'" in told
    assert "did you mean 'linear'?" in told
    assert not (tmp_path / "runs").exists()
    assert time.monotonic() - started < 30


def test_a_missing_root_ends_with_exit_code_4_and_names_it(tmp_path: Path) -> None:
    done = Place(tmp_path).audioflow(
        "run", RECIPE, "manifest={reader: folder, root: nowhere/clips}", check=False
    )
    assert done.returncode == 4
    assert f"{tmp_path}/nowhere/clips does not exist" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_terminated_run_says_that_it_can_go_on(tmp_path: Path, number: signal.Signals) -> None:
    """Wherever it is just then: here it waits for a store that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        process = subprocess.Popen(
            [
                BIN / "audioflow",
                *("manifest", RECIPE, "run_dir=s3://runs/demo"),
                f"storage_options.s3.endpoint_url=http://127.0.0.1:{silent.getsockname()[1]}",
            ],
            cwd=ROOT,
            env=Place(tmp_path).environment(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b"),
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert "audioflow manifest" in process.stdout.readline()
        silent.settimeout(60)
        with silent.accept()[0]:
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"stopped by {number.name}" in errors
    assert "run the same command again" in errors
