"""`audioflow plan` over real media: what it says, what `embed` then does, and how it ends."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import s3fs
import typer
import yaml
from click.testing import Result
from typer.testing import CliRunner

from audioflow.cli_tools import register
from audioflow.engine.embed import embed
from audioflow.engine.manifest import make_manifest
from audioflow.engine.plan import CLIPS_PER_RECORDING, Asked, plan
from audioflow.engine.run import Run
from audioflow.errors import TooManyFailures
from audioflow.planning.estimate import Cluster
from audioflow.planning.figures import Forecast, Price
from audioflow.planning.text import forecast_lines
from audioflow.storage import local_path
from audioflow.tables import RECEIPTS
from tests.media_files import tone, write_wav
from tests.ray.conftest import MakeRun, build_run

RATE = 8_000
ACOUSTIC = {"backbones": {"acoustic": {"patch_s": 0.3}}, "clips_per_shard": 8, "decode_cpus": 0.5}

SYSTEMS = {"audio": {"backbone": "acoustic", "head": "linear", "train": {"epochs": 2}}}

app = typer.Typer(pretty_exceptions_enable=False)
register(app)


@app.command("other")
def _other() -> None:
    """With one command only, typer would take its name for an argument."""


def command(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def quiet(done: int, total: int) -> None:
    pass


def planned(run: Run, **asked: Any) -> Forecast:
    return plan(run, Asked(**asked), quiet)


def tree(folder: Path) -> set[str]:
    return {str(path) for path in folder.rglob("*")}


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    """Twelve short sounds of two classes."""
    for number in range(12):
        path = tmp_path / "media" / ("high" if number % 2 else "low") / f"{number:02d}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_wav(path, tone(200 + 50 * number, 0.5, RATE), RATE)
    return tmp_path / "media"


def of_sounds(root: Path, *overrides: str, **embed_section: Any) -> Run:
    sections = {"embed": ACOUSTIC | embed_section, "systems": SYSTEMS, "fuse": {}}
    return build_run(root, root.parent, *overrides, sections=sections)


# What is said, against what is done


@pytest.fixture(scope="module")
def whole(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Forecast:
    """All 48 recordings probed, nothing done before."""
    folder = tmp_path_factory.mktemp("plan")
    run = build_run(corpus, folder)
    before = tree(folder)
    found = planned(run, sample=1000, cpus=2.0)
    assert tree(folder) == before, "something was written"
    return found


def test_what_embed_makes_is_what_was_said(whole: Forecast, done: Run) -> None:
    assert (whole.clips, whole.recordings, whole.sampled_recordings) == (48, 48, 48)
    for table in whole.tables:
        header = done.embeddings(table.table).complete_header()
        assert table.shards == len(header.shards)
        assert table.rows == pytest.approx(header.rows)
        assert table.failed_share.value == pytest.approx(header.failures / 48)
        assert table.failed_share.low == table.failed_share.high
        real = sum(shard.size_bytes for shard in header.shards)
        assert table.output_bytes.value == pytest.approx(real, rel=0.15)
        errors: dict[str, int] = {}
        for shard in header.shards:
            for error, count in shard.errors.items():
                errors[error] = errors.get(error, 0) + count
        assert {error.error: error.clips for error in table.errors} == errors
        work_s = header.stats["seconds"] - header.stats["start_s"]
        # Measured at two times on a machine that does other things, too: of seconds so few only the
        # order can be told.
        assert 1 / 10 < (whole.wall.seconds - whole.wall.startup_s) / work_s < 10
    media_s = max(done.embeddings(t.table).complete_header().media_s for t in whole.tables)
    assert whole.media_s.value >= media_s
    assert whole.media_s.value == pytest.approx(media_s, rel=0.1)
    size = sum(done.manifest().read()["size_bytes"].to_pylist())
    assert whole.fetch_bytes.value == size


def test_a_sample_says_much_the_same(whole: Forecast, corpus: Path, tmp_path: Path) -> None:
    run = build_run(corpus, tmp_path)
    found = planned(run, sample=24, cpus=2.0)
    assert (found.clips, found.sampled_recordings) == (48, 24)
    assert found.media_s.value == pytest.approx(whole.media_s.value, rel=0.15)
    for mine, full in zip(found.tables, whole.tables, strict=True):
        assert mine.output_bytes.value == pytest.approx(full.output_bytes.value, rel=0.2)
        assert mine.failed_share.low <= full.failed_share.value <= mine.failed_share.high
    again = planned(run, sample=24, cpus=2.0)
    for one, other in zip(found.strata, again.strata, strict=True):
        assert (one.kind, one.sampled, one.fetched_bytes) == (
            other.kind,
            other.sampled,
            other.fetched_bytes,
        )
    assert again.media_s == found.media_s


def test_what_is_committed_is_not_counted_again(make_run: MakeRun, whole: Forecast) -> None:
    run = make_run()
    folder = Path(local_path(run.folder.url))
    before = tree(folder)
    found = planned(run, sample=12, cpus=2.0)
    assert found.done
    assert (found.wall.seconds, found.media_s_left.value) == (0.0, 0.0)
    assert "time       nothing to do: every shard is committed" in list(forecast_lines(found, ""))
    table = run.embeddings("acoustic")
    table.reopen()
    lost = sorted(table.committed())[0]
    (table.folder / RECEIPTS).remove(f"{lost}.json")
    before = tree(folder)
    found = planned(run, sample=12, cpus=2.0)
    assert tree(folder) == before, "something was written or removed"
    acoustic, color = found.tables
    assert (acoustic.shards_done, color.shards_done) == (acoustic.shards - 1, color.shards)
    assert 0 < acoustic.core_s_left < acoustic.core_s
    assert color.core_s_left == 0.0
    assert 0 < found.media_s_left.value < found.media_s.value
    text = "\n".join(forecast_lines(found, ""))
    assert f"done       {acoustic.shards - 1} of {acoustic.shards} shards of embeddings/aco" in text
    assert " for what is left" in text


# Media that do harm


def test_a_hang_and_a_crash_cost_one_recording_each(sounds: Path, harmful: str) -> None:
    for name in ("segfault", "hang"):
        shutil.copy(sounds / "low" / "00.wav", sounds / "low" / f"{name}.wav")
    run = of_sounds(sounds, harmful, "embed.decode_timeout_s=2")
    found = planned(run)
    (table,) = found.tables
    assert {error.clip_id: error.error for error in table.errors} == {
        "low/segfault.wav": "crashed",
        "low/hang.wav": "timeout",
    }
    assert table.failed_share.value == pytest.approx(2 / 14)
    assert table.too_many_failures
    assert 2.0 < found.decode_core_s < 10.0
    assert found.decoder_child_bytes > 20e6


def test_files_that_are_missing_are_failures_unless_all_are(sounds: Path) -> None:
    names = [f"low/{2 * n:02d}.wav" for n in range(6)] + [f"low/no{n}.wav" for n in range(2)]
    lines = [f"{name},{n % 2}" for n, name in enumerate(names)]
    clips = sounds.parent / "clips.csv"
    clips.write_text("\n".join(["path,label", *lines]) + "\n")
    manifest = {"reader": "csv", "list": str(clips), "file_column": "path"}
    sections = {
        "manifest": manifest | {"label_column": "label", "root": str(sounds)},
        "embed": ACOUSTIC,
        "systems": SYSTEMS,
        "fuse": {},
    }
    found = planned(build_run(sounds, sounds.parent, sections=sections))
    assert [(e.error, e.clips) for e in found.tables[0].errors] == [("not_found", 2)]
    shutil.rmtree(sounds / "low")
    with pytest.raises(TooManyFailures, match=r"all 8 .* failed as 'not_found', .* does not exist"):
        planned(build_run(sounds, sounds.parent, sections=sections))


def test_a_sample_of_which_nothing_can_be_decoded_is_told(sounds: Path) -> None:
    for path in sounds.rglob("*.wav"):
        path.write_text("this is no sound")
    found = planned(of_sounds(sounds))
    assert found.tables[0].failed_share.value == 1.0
    assert found.media_s.value == 0.0
    text = "\n".join(forecast_lines(found, ""))
    assert "100 % of the clips fail in embeddings/acoustic" in text
    assert "exit code 3" in text


def test_media_in_a_bucket_are_fetched(sounds: Path, s3_server: str) -> None:
    fs = s3fs.S3FileSystem(endpoint_url=s3_server)
    fs.mkdir("plan-media")
    fs.put(f"{sounds}/", "plan-media/in/", recursive=True)
    manifest = {"reader": "folder", "root": "s3://plan-media/in"}
    sections = {"manifest": manifest, "embed": ACOUSTIC, "systems": SYSTEMS, "fuse": {}}
    options = f"storage_options.endpoint_url={s3_server}"
    found = planned(build_run(sounds, sounds.parent, options, sections=sections), sample=6)
    assert found.tables[0].rows == 12
    assert found.fetch_bytes.value == sum(path.stat().st_size for path in sounds.rglob("*.wav"))
    assert 0.05 < found.fetch_share < 1
    assert found.tables[0].errors == ()


# What else a run depends on


def test_a_long_recording_goes_through_in_parts(sounds: Path) -> None:
    write_wav(sounds / "low" / "long.wav", tone(300, 2_000.0, RATE), RATE)
    found = planned(of_sounds(sounds, backbones={"acoustic": {"hop_s": 7.0}}))
    assert found.media_s.value == pytest.approx(2_000 + 12 * 0.5, rel=0.001)
    assert 50e6 < found.row_bytes < 100e6
    assert found.tables[0].rows == 13


def test_of_many_clips_of_a_recording_some_are_tried(sounds: Path) -> None:
    write_wav(sounds / "low" / "long.wav", tone(300, 100.0, RATE), RATE)
    spans = [("low/long.wav", n, 1) for n in range(90)] + [("low/00.wav", 0, 0.5)]
    lines = [f"{path},{start},{length},{n % 2}" for n, (path, start, length) in enumerate(spans)]
    clips = sounds.parent / "clips.csv"
    clips.write_text("\n".join(["path,start_s,duration_s,label", *lines]) + "\n")
    manifest = {"reader": "csv", "list": str(clips), "root": str(sounds), "label_column": "label"}
    manifest |= {"file_column": "path", "start_column": "start_s", "duration_column": "duration_s"}
    sections = {"embed": ACOUSTIC, "systems": SYSTEMS, "fuse": {}}
    sections["manifest"] = manifest | {"group_by": "regex:(.*)"}
    run = build_run(sounds, sounds.parent, sections=sections)
    found = planned(run)
    assert (found.clips, found.recordings, found.sampled_clips) == (91, 2, CLIPS_PER_RECORDING + 1)
    assert found.tables[0].rows == pytest.approx(91)
    assert found.media_s.value == pytest.approx(90.5)


def test_variants_are_counted(sounds: Path) -> None:
    plain = planned(of_sounds(sounds))
    augment = {"variants": 3, "polarity": {}}
    run = of_sounds(sounds, augment=augment)
    more = planned(run)
    assert more.tables[0].rows == plain.tables[0].rows == 12
    make_manifest(run)
    train = run.manifest().read()["split"].to_pylist().count("train")
    ratio = more.tables[0].patches_per_clip / plain.tables[0].patches_per_clip
    assert ratio == pytest.approx((12 + 3 * train) / 12)


def test_a_gpu_that_is_asked_for_and_not_here_makes_it_a_bound(sounds: Path) -> None:
    run = of_sounds(sounds, backbones={"acoustic": {"num_gpus": 0.5}})
    found = planned(run, cpus=8, gpus=2, machines=2, price=Price(3.0, "EUR"))
    (table,) = found.tables
    assert found.cluster == Cluster(8, 2, 2)
    assert (table.actors_on_gpu, table.actors) == (True, min(4, table.shards))
    assert found.cost is not None
    assert found.cost.value == pytest.approx(found.wall.seconds / 3600 * 2 * 3.0)
    text = " ".join(line.strip() for line in forecast_lines(found, ""))
    if table.device == "cpu":
        assert "its time is an upper bound" in text
    assert "EUR for 2 machines at 3 EUR per hour" in text
    assert "there is none" not in text
    without = planned(run, gpus=0)
    assert "there is none: say --gpus N" in " ".join(forecast_lines(without, ""))


# The command


def recipe_of(run: Run) -> str:
    return str(Path(local_path(run.folder.url)).parent / "recipe.yaml")


def test_the_command_prints_lines_that_fit_and_json_with_all_figures(sounds: Path) -> None:
    recipe = recipe_of(of_sounds(sounds))
    result = command("plan", recipe, "--price", "2.5", "--cpus", "4", "--sample", "6")
    assert result.exit_code == 0, result.stderr
    lines = result.stdout.splitlines()
    assert lines[0].startswith("audioflow plan  ")
    assert max(map(len, lines[1:])) <= 100
    assert lines[1].startswith("media      12 clips of 12 recordings, 6.0 s")
    for word in ("probed", "failures", "decode", "time", "memory", "cost"):
        assert any(line.startswith(f"{word} ") for line in lines), word
    result = command("plan", recipe, "--json", "embed.decode_cpus=1")
    data = json.loads(result.stdout)
    assert result.exit_code == 0
    assert set(data) == {"run_dir", "memory_per_machine", *Forecast.__dataclass_fields__}
    assert set(data["tables"][0]) == {
        *("table", "backbone", "device", "actors", "actors_on_gpu", "x_real_time"),
        *("patches_per_clip", "hop_s", "core_s", "core_s_left", "rows", "bytes_per_clip"),
        *("output_bytes", "shards", "shards_done", "may_take_over", "failed_share"),
        *("too_many_failures", "errors", "load_s", "process_bytes"),
    }
    assert data["cost"] is None
    assert data["media_s"]["value"] == pytest.approx(6.0)
    assert data["memory_per_machine"]["expected_bytes"] > 1e8
    assert not Path(data["run_dir"]).exists()


def test_exit_codes(sounds: Path) -> None:
    recipe = recipe_of(of_sounds(sounds))
    wrong = command("plan", recipe, "embed.clips_per_shard=0")
    assert (wrong.exit_code, "embed.clips_per_shard" in wrong.stderr) == (2, True)
    nowhere = command("plan", recipe, "manifest.root=/nowhere/at/all")
    assert (nowhere.exit_code, "/nowhere/at/all" in nowhere.stderr) == (4, True)
    (sounds / "none").mkdir()
    empty = command("plan", recipe, f"manifest.root={sounds / 'none'}")
    assert empty.exit_code == 4
    assert "holds no" in empty.stderr
    section = yaml.safe_load(Path(recipe).read_text())
    del section["embed"]
    Path(recipe).write_text(yaml.safe_dump(section))
    assert command("plan", recipe).exit_code == 2
    assert command("plan", recipe, "--sample", "0").exit_code == 2


def test_what_embed_takes_next_is_what_was_left(sounds: Path, ray_session: None) -> None:
    """The forecast names the shards that `embed` makes, with and without what is there already."""
    run = of_sounds(sounds)
    make_manifest(run)
    embed(run)
    write_wav(sounds / "high" / "new.wav", tone(900, 0.5, RATE), RATE)
    changed = of_sounds(sounds)
    found = planned(changed)
    (table,) = found.tables
    assert table.may_take_over
    make_manifest(changed)
    (header,) = embed(changed)
    assert header.stats["resumed"] == table.shards_done
    assert len(header.shards) == table.shards
    assert planned(changed).done
