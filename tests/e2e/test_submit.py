"""`audioflow submit` and `ray job submit` from a checkout, to a cluster that asks for a token.

The run lies in a bucket, and so does one of the recipes. The driver is stopped half-way, and the
job sent again; what a person sees of exit codes and of a wrong token is looked at.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import s3fs
import yaml

from tests.conftest import ROOT, free_port
from tests.e2e.conftest import BIN, Cluster, Place, running

TOKEN = "a-token-of-this-test-alone-0123456789abcdef"
CLIPS = 24
RECIPE = {
    "run_dir": "s3://submitted/runs/birds",
    "manifest": {"reader": "demo", "root": "data/demo", "clips": CLIPS},
    "embed": {
        "backbones": {"openl3": {"weights": "random", "hop_s": 2.0}},  # seconds for each shard
        "clips_per_shard": 3,
        "max_failed_share": 0.5,
    },
}
ACOUSTIC = "embed.backbones={acoustic: {}}"


@dataclass(frozen=True)
class Checkout:
    """A copy of the project, with much in it that no job needs, and a user who has the token."""

    folder: Path
    home: Path
    cluster: Cluster

    def environment(self, **more: str) -> dict[str, str]:
        stores = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
        own = {"HOME": str(self.home), "RAY_AUTH_MODE": "token"}
        address = {"RAY_API_SERVER_ADDRESS": self.cluster.dashboard}
        env = self.cluster.place.environment(**stores, **own, **address) | more
        return {name: text for name, text in env.items() if text}

    def start(self, *command: str, **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [BIN / command[0], *command[1:]],
            cwd=self.folder,
            env=self.environment(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def run(self, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*command, **more)
        out, errors = process.communicate(timeout=240)
        return subprocess.CompletedProcess(command, process.returncode, out, errors)

    def job(self, name: str) -> dict[str, Any]:
        """What the cluster knows of a job."""
        url = f"{self.cluster.dashboard}/api/jobs/{name}"
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {TOKEN}"})
        with urllib.request.urlopen(request, timeout=20) as answer:
            return dict(json.load(answer))


@pytest.fixture(scope="module")
def checkout(s3_server: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Checkout]:
    home = tmp_path_factory.mktemp("user")
    (home / ".ray").mkdir(mode=0o700)
    (home / ".ray" / "auth_token").write_text(TOKEN)
    folder = tmp_path_factory.mktemp("checkout")
    for name in ("audioflow", "jobs", "cluster", "configs"):
        shutil.copytree(
            ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__", "tests")
        )
    for name in (".rayignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    for name in ("data/large.wav", ".venv/large.so", "runs/large.parquet"):
        (folder / name).parent.mkdir(exist_ok=True)
        with (folder / name).open("wb") as file:
            file.truncate(300 * 2**20)
    (folder / "recipe.yaml").write_text(yaml.safe_dump(RECIPE))
    place = Place(tmp_path_factory.mktemp("nodes"))
    stores = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    s3fs.S3FileSystem(endpoint_url=s3_server).mkdir("submitted")
    with running(place, RAY_AUTH_MODE="token", HOME=str(home), **stores) as cluster:
        yield Checkout(folder, home, cluster)


def receipts() -> dict[str, Any]:
    """When each receipt of the run was written."""
    store = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    try:
        found = store.ls("submitted/runs/birds/embeddings/openl3/_shards", detail=True)
    except FileNotFoundError:
        return {}
    return {one["name"]: one["LastModified"] for one in found if one["name"].endswith(".json")}


def test_a_stopped_job_is_sent_again_and_goes_on(checkout: Checkout) -> None:
    submit = ("audioflow", "submit", "recipe.yaml", "--stop-on-interrupt", "--id", "first")
    process = checkout.start(*submit)
    deadline = time.monotonic() + 150
    while not receipts():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=90)
    assert process.returncode == 1
    assert "the job first was stopped; what is committed stays, run the same command" in errors
    assert "Traceback" not in out + errors
    assert f"job first on {checkout.cluster.dashboard}" in out
    assert re.search(r"manifest +done: \d+ clips", out)  # what the driver writes comes through
    told = checkout.job("first")
    assert told["status"] == "STOPPED"
    assert told["driver_exit_code"] is None  # as cluster/README.md says
    assert "AWS_SECRET_ACCESS_KEY" not in told["runtime_env"]["env_vars"]
    assert told["runtime_env"]["env_vars"]["AWS_ENDPOINT_URL"] == os.environ["AWS_ENDPOINT_URL"]
    before = receipts()
    assert before
    _the_name_is_taken(checkout)

    plain = ("--working-dir", ".", "--runtime-env", "cluster/runtime_env.yaml")
    done = checkout.run(
        *("ray", "job", "submit", "--submission-id", "second", *plain),
        *("--", "python", "jobs/run.py", "recipe.yaml"),
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert checkout.job("second")["driver_exit_code"] == 0
    now = receipts()
    assert len(now) > len(before), "it was not stopped half-way"
    assert {name: now[name] for name in before} == before, "a committed shard was made again"
    verified = checkout.run("audioflow", "verify", RECIPE["run_dir"])
    assert verified.returncode == 0, verified.stdout + verified.stderr
    status = checkout.run("audioflow", "status", RECIPE["run_dir"]).stdout
    assert re.search(r"audioflow run recipe\.yaml  \(.*, job second\)", status)
    assert "ended well" in status


def _the_name_is_taken(checkout: Checkout) -> None:
    again = checkout.run("audioflow", "submit", "recipe.yaml", "--id", "first")
    assert again.returncode == 2, again.stderr
    assert "--id first: " in again.stderr
    assert "a job of this name already; give another one, or leave --id out" in again.stderr
    assert "Traceback" not in again.stderr


def test_a_recipe_that_cannot_be_read_here_is_checked_by_the_job(checkout: Checkout) -> None:
    """Which runs where the keys are; this user has none."""
    url = "s3://submitted/recipes/unread.yaml"
    wrong = RECIPE | {"embed": {"backbones": {"acoustic": {}}, "clip_per_shard": 2}}
    s3fs.S3FileSystem().pipe_file(url, yaml.safe_dump(wrong).encode())
    keys = {name: "" for name in os.environ if name.startswith("AWS_") and "KEY" in name}
    keys |= {"AWS_EC2_METADATA_DISABLED": "true"}
    done = checkout.run("audioflow", "submit", url, **keys)
    assert done.returncode == 4, done.stderr
    assert "cannot be read on this machine" in done.stderr
    assert "--no-check sends it unread" in done.stderr
    done = checkout.run("audioflow", "submit", url, "--no-check", **keys)
    assert done.returncode == 2, done.stdout[-3000:] + done.stderr[-3000:]
    assert "did you mean 'clips_per_shard'?" in done.stdout
    assert "ended with exit code 2" in done.stdout


def test_the_exit_code_is_that_of_the_job_also_with_a_recipe_in_a_bucket(
    checkout: Checkout,
) -> None:
    url = "s3://submitted/recipes/birds.yaml"
    s3fs.S3FileSystem().pipe_file(url, (checkout.folder / "recipe.yaml").read_bytes())
    strict = ("run_dir=s3://submitted/runs/strict", ACOUSTIC, "embed.max_failed_share=0.001")
    done = checkout.run("audioflow", "submit", url, *strict, RAY_AUTH_MODE="")
    assert done.returncode == 3, done.stdout[-3000:] + done.stderr[-3000:]
    assert "embed.max_failed_share allows" in done.stdout
    (name,) = re.findall(r"^job (\S+) ended with exit code 3$", done.stdout, flags=re.MULTILINE)
    told = checkout.job(name)
    assert (told["status"], told["driver_exit_code"]) == ("FAILED", 3)
    assert told["entrypoint"].startswith(f"python jobs/run.py {url} ")


def test_a_wrong_recipe_is_refused_before_it_is_sent_and_by_a_job(checkout: Checkout) -> None:
    wrong = "embed.clip_per_shard=2"
    done = checkout.run("audioflow", "submit", "recipe.yaml", wrong, "--id", "never")
    assert done.returncode == 2
    assert "did you mean 'clips_per_shard'?" in done.stderr
    with pytest.raises(urllib.error.HTTPError, match="404"):
        checkout.job("never")
    plain = checkout.run(
        *("ray", "job", "submit", "--submission-id", "third", "--working-dir", "."),
        *("--", "python", "jobs/embed.py", "recipe.yaml", wrong),
    )
    assert plain.returncode == 1
    assert checkout.job("third")["driver_exit_code"] == 2


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ({"RAY_AUTH_TOKEN": "another-token-0123456789"}, "does not let this client in"),
        ({"RAY_AUTH_MODE": "disabled"}, "RAY_AUTH_MODE is disabled"),
        ({"RAY_API_SERVER_ADDRESS": f"127.0.0.1:{free_port()}"}, "no Ray answers at http://127"),
    ],
)
def test_who_is_not_let_in_is_told_what_to_do(
    checkout: Checkout, more: dict[str, str], told: str
) -> None:
    done = checkout.run("audioflow", "submit", "recipe.yaml", **more)
    assert done.returncode == 4
    assert told in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr or "--address" in done.stderr
    assert "Traceback" not in done.stderr
    assert "token Set" not in done.stderr
    assert TOKEN not in done.stderr + done.stdout


def test_a_token_in_the_home_is_used_without_a_mode_being_named(checkout: Checkout) -> None:
    """Which jobs are sent with, too: the test of exit codes does so."""
    more = {"RAY_AUTH_MODE": "", "RAY_ADDRESS": checkout.cluster.address}
    done = checkout.run("audioflow", "doctor", "--url", "s3://submitted", "--json", **more)
    told = json.loads(done.stdout)["ray"]
    assert (told["running"], told["problem"]) == (True, "")


def test_too_large_a_folder_is_refused_and_what_is_large_in_it_named(checkout: Checkout) -> None:
    (checkout.folder / "clips").mkdir()
    try:
        with (checkout.folder / "clips" / "noise.wav").open("wb") as file:
            for _ in range(17):  # as many as Ray warns of, too, with a limit that is another
                file.write(os.urandom(2**24))
        done = checkout.run("audioflow", "submit", "recipe.yaml")
    finally:
        shutil.rmtree(checkout.folder / "clips")
    assert done.returncode == 4
    assert "is too large to be sent: packed it is more than the 100 MiB" in done.stderr
    assert "approaching the maximum" not in done.stderr
    assert "clips (272.0 MiB)" in done.stderr
    assert ".rayignore" in done.stderr
