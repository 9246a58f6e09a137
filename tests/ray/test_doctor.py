"""`audioflow doctor` on the command line, beside a Ray that runs already."""

import json
import os
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import ray
import typer
import yaml
from click.testing import Result
from typer.testing import CliRunner

from audioflow import goldens
from audioflow.doctor import vectors
from audioflow.doctor.vectors import Check, Measured
from audioflow.doctor_cli import doctor
from audioflow.storage import Folder
from tests.conftest import ROOT, free_port

app = typer.Typer(pretty_exceptions_enable=False)
app.command()(doctor)
PROGRAM = (
    "import sys, typer; from audioflow.doctor_cli import doctor; app = typer.Typer(); "
    "app.command()(doctor); app(args=sys.argv[1:])"
)
QUICK = ("--device", "cpu", "--backbone", "resnet18")
SECRET = "hunter2-and-more"


def command(*arguments: str) -> Result:
    result = CliRunner().invoke(app, list(arguments))
    assert isinstance(result.exception, SystemExit | None), result.exception
    return result


def in_another_process(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def recipe(folder: Path, run_dir: str, **more: object) -> str:
    manifest = {"reader": "folder", "root": str(folder)}
    path = folder / "recipe.yaml"
    path.write_text(yaml.safe_dump({"run_dir": run_dir, "manifest": manifest, **more}))
    return str(path)


@pytest.fixture(scope="module")
def bucket(s3_server: str) -> str:
    import s3fs

    name = f"doctor-{uuid.uuid4().hex[:8]}"
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir(name)
    return name


def test_all_is_well_is_told_section_by_section_and_exit_code_0(ray_session: None) -> None:
    result = command(*QUICK)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    titles = [line for line in lines if not line.startswith(" ")]
    assert titles == [
        "audioflow doctor",
        "packages",
        "machine",
        "Ray",
        "weights",
        "golden vectors",
        "ok: no problem found",
    ]
    (exact,) = [line.split() for line in lines if line.startswith("  resnet18") and "32" in line]
    assert exact[:4] == ["resnet18", "wide", "cpu", "float32"]
    assert float(exact[4]) < 1e-5
    assert exact[-1] == "ok"


def test_the_running_ray_is_looked_at_and_goes_on(ray_session: None) -> None:
    found = json.loads(command(*QUICK, "--json").stdout)
    assert found["ok"] is True
    assert found["ray"]["running"] is True
    assert found["ray"]["total"]["CPU"] == 2.0
    assert found["ray"]["total"]["object_store_memory"] > 2**20
    (node,) = found["ray"]["nodes"]
    assert node["is_head"]
    assert not any(name.startswith("node:") for name in node["resources"])
    assert ray.is_initialized()
    assert ray.get(ray.put(7)) == 7


def test_a_ray_of_another_process_is_joined_and_left_running(ray_session: None) -> None:
    address = ray.get_runtime_context().gcs_address
    done = in_another_process(*QUICK, "--json", RAY_ADDRESS=address)
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    assert (found["ray"]["running"], found["ray"]["address"]) == (True, address)
    assert found["ray"]["total"]["CPU"] == 2.0
    assert ray.get(ray.remote(lambda: 8).remote()) == 8


def test_a_ray_that_should_answer_and_does_not_is_a_problem(ray_session: None) -> None:
    nobody = f"127.0.0.1:{free_port()}"
    done = in_another_process(*QUICK, RAY_ADDRESS=nobody)
    assert done.returncode == 1
    problem = f"no Ray answers at {nobody} (RAY_ADDRESS): Connection refused"
    assert done.stdout.endswith(f"1 problem\n  {problem}\n")


def test_without_a_ray_none_is_started(ray_session: None, tmp_path: Path) -> None:
    path = recipe(tmp_path, str(tmp_path / "run"), ray={"address": "local"})
    done = in_another_process(*QUICK, "--storage", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  running                     none\n" in done.stdout
    assert "  a job would start one with  " in done.stdout


def test_the_stores_of_a_recipe_are_tried(
    ray_session: None, tmp_path: Path, bucket: str, s3_server: str
) -> None:
    options = {"endpoint_url": s3_server, "key": "me", "secret": SECRET}
    path = recipe(tmp_path, f"s3://{bucket}/run", storage_options=options)
    result = command(*QUICK, "--storage", path, "--json")
    found = json.loads(result.stdout)
    assert (result.exit_code, found["problems"]) == (0, [])
    steps = {each["place"]["key"]: list(each["ms"]) for each in found["stores"]}
    assert steps == {"run_dir": ["list", "write", "read", "delete"], "manifest.root": ["list"]}
    assert Folder(f"s3://{bucket}/run").names() == []
    assert SECRET not in result.stdout


def test_who_asks_about_stores_does_not_wait_for_golden_vectors(
    ray_session: None, tmp_path: Path, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: list[str] = []

    def measure(check: Check) -> Measured:
        run.append(check.backbone)
        return Measured(check.backbone, "-", check.device, check.precision, "ok")

    monkeypatch.setattr(vectors, "measure", measure)
    stores = ("--storage", recipe(tmp_path, f"s3://{bucket}/run"))
    for asked in (stores, ("--url", f"s3://{bucket}/a", "--write")):
        result = command(*asked)
        assert (result.exit_code, run) == (0, [])
        assert "\n  not run  --device all runs them, too, or --backbone NAME" in result.stdout
    assert json.loads(command(*stores, "--json").stdout)["golden_vectors"] is None
    for more in (("--backbone", "resnet18"), ("--device", "cpu")):
        assert command(*stores, *more).exit_code == 0
        assert "resnet18" in run
        assert ("vggish" in run) == (more[0] == "--device")
        run.clear()


def test_a_store_that_does_not_answer_is_a_problem_and_no_secret_is_told(
    ray_session: None, tmp_path: Path
) -> None:
    options = {"endpoint_url": f"http://127.0.0.1:{free_port()}", "key": "me", "secret": SECRET}
    path = recipe(tmp_path, "s3://somewhere/run", storage_options=options)
    result = command(*QUICK, "--storage", path)
    assert result.exit_code == 1
    assert "run_dir: s3://somewhere/run cannot be read after 3 attempts: " in result.stdout
    assert SECRET not in result.stdout + result.stderr


def test_a_url_is_read_and_written_to_only_when_asked(ray_session: None, bucket: str) -> None:
    url = f"s3://{bucket}/some/where"
    refused = command(*QUICK, "--url", url)
    assert refused.exit_code == 1
    assert f"--url: {url} answers, but nothing is there" in refused.stdout
    allowed = json.loads(command(*QUICK, "--url", url, "--write", "--json").stdout)
    assert [list(each["ms"]) for each in allowed["stores"]] == [["list", "write", "read", "delete"]]


def test_wrong_vectors_are_a_problem(
    ray_session: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (good,) = goldens.load("resnet18")
    layers = {name: values + 0.01 * abs(values).max() for name, values in good.layers.items()}
    monkeypatch.setattr(goldens, "_FOLDER", tmp_path)
    goldens.save("resnet18", [goldens.Golden(good.case, layers)])
    result = command(*QUICK)
    assert result.exit_code == 1
    told = "  resnet18 wide on cpu in float32: the error is above 0.0001"
    assert told in result.stdout.splitlines()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--backbone", "resnet81"), 2, "--backbone 'resnet81' does not exist"),
        (("--device", "tpu"), 2, "tpu"),
        (("--storage", "nowhere.yaml"), 2, "nowhere.yaml"),
    ],
)
def test_wrong_arguments_are_refused(
    ray_session: None, arguments: tuple[str, ...], code: int, message: str
) -> None:
    result = command(*arguments)
    assert result.exit_code == code
    assert message in result.stderr
