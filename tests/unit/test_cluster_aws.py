"""What the machines of aws.yaml do before Ray starts on them, and what the page has you type."""

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from cluster.fill import fill
from tests.conftest import ROOT

CLUSTER = ROOT / "cluster"
ECR = "123456789012.dkr.ecr.eu-west-1.amazonaws.com"


def cluster_of(image: str) -> dict[str, Any]:
    values = {"REGION": "eu-central-1", "IMAGE": image, "IMAGE_ID": "ami-1", "SECURITY_GROUP": "s"}
    found = yaml.safe_load(fill((CLUSTER / "aws.yaml").read_text(encoding="utf-8"), values))
    assert isinstance(found, dict)
    return found


def commands(text: str) -> list[str]:
    return text.replace("\\\n", " ").splitlines()


@pytest.mark.parametrize(
    ("image", "did"),
    [
        (
            f"{ECR}/audioflow:0.1.0",
            [
                "aws ecr get-login-password --region eu-west-1",
                f"docker login --username AWS --password-stdin {ECR} <- of the role",
            ],
        ),
        ("ghcr.io/somebody/audioflow:0.1.0", []),
        ("audioflow:0.1.0", []),
    ],
)
def test_a_machine_logs_in_to_a_registry_of_ecr_and_to_no_other(
    image: str, did: list[str], tmp_path: Path
) -> None:
    programs = {
        "aws": 'echo "aws $*" >>"$DID"; echo of the role',
        "docker": 'read -r given; echo "docker $* <- $given" >>"$DID"',
    }
    for name, body in programs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)
    log = tmp_path / "did"
    log.touch()
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "DID": str(log)}
    (login,) = cluster_of(image)["initialization_commands"]
    subprocess.run(["bash", "-c", login], check=True, env=environment)
    assert sorted(log.read_text().splitlines()) == did


def test_a_login_that_fails_fails_the_machine(tmp_path: Path) -> None:
    (tmp_path / "docker").write_text("#!/bin/sh\ngrep -q . || exit 1\n")  # wants a password
    (tmp_path / "docker").chmod(0o755)
    (tmp_path / "aws").write_text("#!/bin/sh\nexit 255\n")
    (tmp_path / "aws").chmod(0o755)
    (login,) = cluster_of(f"{ECR}/audioflow:0.1.0")["initialization_commands"]
    done = subprocess.run(
        ["bash", "-c", login], check=False, env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    )
    assert done.returncode == 1


@pytest.mark.parametrize("kind", ["head", "worker"])
def test_what_is_run_in_the_container_by_hand_has_the_mode_of_authentication(kind: str) -> None:
    from ray.autoscaler._private.docker import docker_start_cmds

    docker = cluster_of("audioflow:0.1.0")["docker"]
    options = docker["run_options"] + docker[f"{kind}_run_options"]
    started = docker_start_cmds(
        "ubuntu", docker["image"], {}, "audioflow", options, "audioflow", "/home/ray", "docker"
    )
    before, _, after = started.partition(" audioflow:0.1.0 ")
    assert " -e RAY_AUTH_MODE=token " in before
    assert after == "bash"


def test_only_the_login_itself_is_a_right_at_every_registry() -> None:
    policy = json.loads((CLUSTER / "iam" / "image.json").read_text(encoding="utf-8"))
    wide = [one["Action"] for one in policy["Statement"] if one["Resource"] == "*"]
    assert wide == ["ecr:GetAuthorizationToken"]


def test_commands_of_the_page_ask_the_region_of_the_cluster() -> None:
    lines = commands((CLUSTER / "README.md").read_text(encoding="utf-8"))
    asked = [line for line in lines if re.search(r"\baws (ec2|ssm) ", line)]
    assert len(asked) == 4
    assert all(" --region $region " in line for line in asked), asked
    filled = [line for line in lines if "cluster.fill" in line and "REGION=" in line]
    assert len(filled) == 3
    assert all(" REGION=$region " in line for line in filled), filled


@pytest.mark.parametrize("page", ["cluster/README.md", "docs/operations.md"])
def test_a_head_of_your_own_has_a_dashboard_that_others_reach(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    blocks = re.findall(r"```bash\n(.*?)```", text, flags=re.DOTALL)
    heads = [
        line
        for block in blocks
        if "audioflow submit" in block
        for line in block.splitlines()
        if line.startswith("ray start --head")
    ]
    assert len(heads) == 1
    assert " --dashboard-host=0.0.0.0 " in heads[0]
