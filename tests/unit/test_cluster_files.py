"""What lies in cluster/: filled in, it is what Ray, EC2, IAM, Kubernetes and Docker take.

EC2 and IAM are a server of their interfaces on this machine; `ray up`'s own code talks to it.
"""

import fnmatch
import json
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import jsonschema
import pytest
import yaml
from typer.main import get_command

from audioflow.cli import app
from audioflow.engine.submit import EXCLUDES, STOP_WAIT_S
from audioflow.errors import StorageError
from audioflow.storage import Folder, StorageOptions
from cluster import kuberay_schema
from cluster.fill import fill, main, places, policy_faults
from tests.conftest import ROOT, aws_server

CLUSTER = ROOT / "cluster"
VALUES = {
    "ACCOUNT": "123456789012",
    "DATA_ROLE_ARN": "arn:aws:iam::123456789012:role/audioflow-data",
    "IMAGE": "registry.example.org/audioflow:0.1.0",
    "IMAGE_ID": "ami-0123456789abcdef0",
    "KEY_ARN": "arn:aws:kms:eu-central-1:123456789012:key/1234abcd",
    "MEDIA_BUCKET": "media",
    "RECIPE_URL": "s3://results/runs/recipes/birds.yaml",
    "REGION": "eu-central-1",
    "REPOSITORY": "audioflow",
    "RESULTS_BUCKET": "results",
    "RUN_PREFIX": "runs",
    "SECURITY_GROUP": "sg-0123456789abcdef0",
}
FILES = [
    "aws.yaml",
    *("iam/data.json", "iam/head.json", "iam/image.json", "iam/key.json", "iam/trust.json"),
    *("kuberay/raycluster.yaml", "kuberay/rayjob.yaml", "kuberay/serviceaccount.yaml"),
]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def text_of(name: str) -> str:
    return (CLUSTER / name).read_text(encoding="utf-8")


def filled(name: str, **values: str) -> str:
    text = text_of(name)
    return fill(text, {key: (VALUES | values)[key] for key in places(text)})


@pytest.mark.parametrize("name", FILES)
def test_a_file_is_right_when_it_is_filled_in_and_says_what_is_missing_before(
    name: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path = CLUSTER / name
    names = places(text_of(name))
    assert set(names) <= set(VALUES)
    pairs = [f"{key}={VALUES[key]}" for key in names]
    assert main([str(path), *pairs]) == 0
    (tmp_path / path.name).write_text(capsys.readouterr().out)
    assert main([str(tmp_path / path.name)]) == 0
    assert capsys.readouterr().out == (tmp_path / path.name).read_text()
    if names:
        assert main([str(path), *pairs[1:]]) == 2
        told = capsys.readouterr()
        assert told.out == ""
        assert f"still to be filled in: {names[0]}=..." in told.err


def test_every_file_with_something_to_fill_in_is_tested_here() -> None:
    known = {
        str(path.relative_to(CLUSTER))
        for path in CLUSTER.rglob("*")
        if path.suffix in (".yaml", ".json")
        and not path.name.startswith(("grafana", "prometheus", "runtime_env"))
    }
    assert known == set(FILES)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["cluster/none.yaml"], "No such file"),
        (["cluster/aws.yaml", "REGION"], "'REGION' is not NAME=VALUE"),
        (["cluster/aws.yaml", "REGIN=a"], "REGIN: not in the file; it has REGION, IMAGE"),
        (["cluster/slurm.sbatch", "A=1"], "A: not in the file; it has no <...> to be filled in\n"),
    ],
)
def test_what_cannot_be_filled_in_is_told(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str], monkeypatch: Any
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(arguments) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("name", "right", "wrong", "told"),
    [
        ("aws.yaml", "max_workers: 44", "max_worker: 44", "'max_worker' was unexpected"),
        ("aws.yaml", "{CPU: 16}", "{CPU: 1.5}", "1.5 is not of type 'integer'"),
        ("aws.yaml", "head_node_type: head", "head_node_type: heat", "one of `available_n"),
        ("aws.yaml", "InstanceType: m6i", "InstanceTyp: m6i", 'parameter in input: "InstanceTyp"'),
        ("aws.yaml", "{VolumeSize: 150,", "{VolumeSize: big,", "VolumeSize, value: big"),
        (
            "aws.yaml",
            "      ImageId: <IMAGE_ID>  ",
            "      #",
            "head.node_config: ImageId is missing",
        ),
        ("iam/data.json", '"s3:PutObject"', '"s3:*"', "'s3:*' is not service:Action"),
        ("iam/data.json", '"Effect": "Allow"', '"Effect": "Alow"', "Effect is neither"),
        ("kuberay/rayjob.yaml", "maxReplicas: 20", "maxReplica: 20", "maxReplicas: Field required"),
        (
            "kuberay/rayjob.yaml",
            'num-cpus: "0"',
            "num-cpus: 0",
            "num-cpus: Input should be a valid s",
        ),
        ("kuberay/rayjob.yaml", "mode: token", "mode: tokens", "Input should be 'token' or"),
        ("kuberay/rayjob.yaml", "mountPath:", "mountpath:", "mountpath: Extra inputs are not"),
        ("kuberay/raycluster.yaml", "sizeLimit: 8Gi", "sizeLimit: 4Gi", "object-store-memory <= "),
        ("kuberay/raycluster.yaml", "kind: RayCluster", "kind: RayClutser", "'RayClutser' is not"),
    ],
)
def test_a_typing_error_is_found(
    name: str, right: str, wrong: str, told: str, tmp_path: Path, capsys: Any
) -> None:
    text = filled(name)
    right = re.sub(r"<(\w+)>", lambda found: VALUES[found[1]], right)
    assert right in text
    (tmp_path / Path(name).name).write_text(text.replace(right, wrong, 1))
    assert main([str(tmp_path / Path(name).name)]) == 2
    assert told in capsys.readouterr().err


# ray up


@pytest.fixture(scope="module")
def aws() -> Iterator[str]:
    """A server of S3, EC2 and IAM of its own, since it will ask for permissions."""
    with aws_server() as url:
        yield url


@pytest.fixture
def as_admin(aws: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    settings = {
        "AWS_ENDPOINT_URL": aws,
        "AWS_ACCESS_KEY_ID": "admin",
        "AWS_SECRET_ACCESS_KEY": "admin",
        "AWS_DEFAULT_REGION": VALUES["REGION"],
        "HOME": str(tmp_path),
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)


def test_ray_up_starts_the_machines_that_are_meant_with_the_rights_of_the_head(
    as_admin: None,
) -> None:
    from ray.autoscaler._private import providers
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.util import prepare_config

    ec2, iam = boto3.client("ec2"), boto3.client("iam")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    group = ec2.create_security_group(GroupName="audioflow", Description="its nodes")["GroupId"]
    for role in ("audioflow-head", "audioflow-worker"):
        iam.create_role(RoleName=role, AssumeRolePolicyDocument=text_of("iam/trust.json"))
        iam.create_instance_profile(InstanceProfileName=role)
        iam.add_role_to_instance_profile(InstanceProfileName=role, RoleName=role)
    data = yaml.safe_load(filled("aws.yaml", IMAGE_ID=image, SECURITY_GROUP=group))
    config = bootstrap_aws(prepare_config(data))
    assert config["setup_commands"] == config["head_setup_commands"] == []
    provider = providers._get_node_provider(config["provider"], config["cluster_name"])
    asked: set[str] = set()
    for resource in (provider.ec2, provider.ec2_fail_fast):
        resource.meta.client.meta.events.register(
            "before-call.ec2", lambda model, **_: asked.add(f"ec2:{model.name}")
        )
    for name, node_type in config["available_node_types"].items():
        provider.create_node(node_type["node_config"], {"ray-user-node-type": name}, 1)
    machines = {
        next(tag["Value"] for tag in one["Tags"] if tag["Key"] == "ray-user-node-type"): one
        for each in ec2.describe_instances()["Reservations"]
        for one in each["Instances"]
    }
    found = provider.non_terminated_nodes({})
    provider.set_node_tags(found[0], {"ray-node-status": "up-to-date"})
    provider.terminate_node(found[0])

    rights = json.loads(filled("iam/head.json"))["Statement"]
    allowed = {action for one in rights for action in _listed(one["Action"])}
    assert allowed == asked | {"iam:PassRole"}
    lifecycle = {name: one.get("InstanceLifecycle") for name, one in machines.items()}
    assert lifecycle == {"head": None, "decode": "spot", "gpu": "spot"}
    for name, one in machines.items():
        profile = "audioflow-head" if name == "head" else "audioflow-worker"
        assert one["IamInstanceProfile"]["Arn"].endswith(f"/{profile}")
        assert one["MetadataOptions"]["HttpTokens"] == "required"
        assert {"Key": "ray-cluster-name", "Value": "audioflow"} in one["Tags"]


def test_every_node_says_the_mode_of_authentication_and_spot_machines_are_watched() -> None:
    data = yaml.safe_load(filled("aws.yaml"))
    for when in ("head_start_ray_commands", "worker_start_ray_commands"):
        (start,) = [line for line in data[when] if re.search(r"\bray start\b", line)]
        assert "export RAY_AUTH_MODE=token" in start
    assert data["file_mounts"] == {"~/.ray/auth_token": "~/.ray/auth_token"}
    (watch,) = [line for line in data["worker_start_ray_commands"] if "spot_watch" in line]
    script = re.search(r"python (/opt/audioflow/\S+)", watch)
    assert script
    assert (ROOT / script[1].removeprefix("/opt/audioflow/")).is_file()
    types = data["available_node_types"]
    assert types["head"]["resources"] == {"CPU": 0}
    assert sum(one.get("max_workers", 0) for one in types.values()) == data["max_workers"]


# IAM


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def test_the_rights_of_the_head_end_at_its_own_cluster_and_the_role_of_workers() -> None:
    statements = json.loads(filled("iam/head.json"))["Statement"]
    cluster = yaml.safe_load(filled("aws.yaml"))["cluster_name"]
    for action in ("ec2:RunInstances", "ec2:TerminateInstances"):
        (one,) = [
            one
            for one in statements
            if action in _listed(one["Action"]) and "instance/*" in str(one["Resource"])
        ]
        assert list(one["Condition"]["StringEquals"].values()) == [cluster]
    (pass_role,) = [one for one in statements if one["Action"] == "iam:PassRole"]
    assert pass_role["Resource"] == f"arn:aws:iam::{VALUES['ACCOUNT']}:role/audioflow-worker"
    wide = [one["Sid"] for one in statements if one["Resource"] == "*"]
    assert wide == ["SeeMachines"]


def test_the_policy_of_the_data_is_enough_for_a_run_and_for_nothing_else(
    as_admin: None, aws: str
) -> None:
    import requests

    iam, s3 = boto3.client("iam"), boto3.client("s3")
    region = {"LocationConstraint": VALUES["REGION"]}
    for bucket in ("media", "results"):
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration=region)
    s3.put_object(Bucket="media", Key="birds/a.wav", Body=b"sound")
    s3.put_object(Bucket="results", Key="runs/recipes/birds.yaml", Body=b"run_dir: a")
    iam.create_user(UserName="worker")
    policy = iam.create_policy(PolicyName="data", PolicyDocument=filled("iam/data.json"))
    iam.attach_user_policy(UserName="worker", PolicyArn=policy["Policy"]["Arn"])
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    options = StorageOptions.of(
        {"key": key["AccessKeyId"], "secret": key["SecretAccessKey"], "endpoint_url": aws}
    )
    before = requests.post(f"{aws}/moto-api/reset-auth", data=b"0", timeout=10).json()
    try:
        media = Folder("s3://media/birds", options)
        assert media.names() == ["a.wav"]
        assert media.read("a.wav") == b"sound"
        assert not media.exists("b.wav")
        run = Folder("s3://results/runs/birds/manifest", options)
        run.write("_header.json", b"{}")
        run.write("large.parquet", bytes(60 * 2**20))  # s3fs sends it in parts
        assert run.names() == ["_header.json", "large.parquet"]
        assert run.read("_header.json") == b"{}"
        run.remove_all()  # also one by one: this server allows no removal in bulk
        assert not run.exists("large.parquet")
        place, _, name = VALUES["RECIPE_URL"].rpartition("/")
        assert Folder(place, options).read(name) == b"run_dir: a"
        for elsewhere in ("s3://media/birds", "s3://results/others"):
            with pytest.raises(StorageError, match=re.escape(elsewhere)):
                Folder(elsewhere, options).write("a.wav", b"other")
    finally:
        count = before["PREVIOUS_INITIAL_NO_AUTH_ACTION_COUNT"]
        requests.post(f"{aws}/moto-api/reset-auth", data=str(count).encode(), timeout=10)


def test_a_policy_has_no_wild_cards_in_actions() -> None:
    for name in ("data", "head", "image", "key", "trust"):
        statements = json.loads(filled(f"iam/{name}.json"))
        assert policy_faults(statements) == []
        assert not fnmatch.filter([str(statements)], "*:Action': '*'*")


# Kubernetes


def test_a_job_has_the_same_cluster_as_the_cluster_that_stays() -> None:
    job, stays = (
        yaml.safe_load(filled(f"kuberay/{name}.yaml")) for name in ("rayjob", "raycluster")
    )
    assert job["spec"]["rayClusterSpec"] == stays["spec"]
    account = yaml.safe_load(filled("kuberay/serviceaccount.yaml"))["metadata"]["name"]
    groups = [stays["spec"]["headGroupSpec"], *stays["spec"]["workerGroupSpecs"]]
    assert {one["template"]["spec"]["serviceAccountName"] for one in groups} == {account}
    gpu = stays["spec"]["workerGroupSpecs"][1]["template"]["spec"]["containers"][0]["resources"]
    assert gpu["limits"]["nvidia.com/gpu"] == "1"
    assert stays["spec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    assert job["spec"]["backoffLimit"] > 0  # a run goes on where the last one stopped


def test_manifests_fit_the_definition_that_kuberay_publishes() -> None:
    """Where somebody has it: the folder of the operator's `ray.io_*.yaml`."""
    folder = os.environ.get("AUDIOFLOW_TEST_KUBERAY_CRDS")
    if not folder:
        pytest.skip("AUDIOFLOW_TEST_KUBERAY_CRDS names no folder with KubeRay's definitions")
    for name, plural in (("raycluster", "rayclusters"), ("rayjob", "rayjobs")):
        found = yaml.safe_load((Path(folder) / f"ray.io_{plural}.yaml").read_text())
        (version,) = [one for one in found["spec"]["versions"] if one["name"] == "v1"]
        schema = strict(version["schema"]["openAPIV3Schema"])
        jsonschema.validate(yaml.safe_load(filled(f"kuberay/{name}.yaml")), schema)


def strict(schema: Any) -> Any:
    """With unknown fields as faults, and Kubernetes' own kind of number or text."""
    if isinstance(schema, list):
        return [strict(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: strict(value) for key, value in schema.items()}
    if made.pop("x-kubernetes-int-or-string", False):
        return {}
    if "properties" in made and isinstance(made.get("type"), str):
        loose = made.get("x-kubernetes-preserve-unknown-fields") or not made["properties"]
        names = {"apiVersion", "kind", "metadata"} <= set(made["properties"])
        if names:
            made["properties"]["metadata"] = {"type": "object"}
        made.setdefault("additionalProperties", bool(loose))
    return made


def test_quantities_are_read() -> None:
    assert kuberay_schema.amount("500m") == 0.5
    assert kuberay_schema.amount("2Gi") == 2 * 2**30
    with pytest.raises(ValueError, match="'2GB' is no quantity"):
        kuberay_schema.amount("2GB")


# the image and the environments


def ray_series() -> str:
    (found,) = [one for one in PROJECT["dependencies"] if one.startswith("ray[")]
    return found.partition("==")[2].removesuffix(".*")


def test_ray_and_python_are_of_one_version_everywhere() -> None:
    (pinned,) = re.findall(r"^ray==(.*)$", text_of("requirements.lock"), flags=re.MULTILINE)
    assert pinned.startswith(ray_series() + ".")
    docker = text_of("Dockerfile")
    assert f"ARG RAY_VERSION={pinned}\n" in docker
    assert "FROM rayproject/ray:${RAY_VERSION}-py311-gpu\n" in docker
    assert PROJECT["requires-python"] == ">=3.11"
    assert yaml.safe_load(text_of("kuberay/raycluster.yaml"))["spec"]["rayVersion"] == pinned


def test_nodes_have_what_the_project_needs_in_the_versions_of_its_lock() -> None:
    ours, whole = text_of("requirements.lock").splitlines(), requirements("requirements.lock")
    assert set(ours) <= whole, "make lock"
    names = {re.split(r"[=\[]", line)[0].lower() for line in ours}
    wanted = {re.split(r"[=<>\[;~]", one)[0].strip().lower() for one in PROJECT["dependencies"]}
    assert {re.sub(r"[_.]", "-", name) for name in wanted} <= names
    assert "boto3" in names


def requirements(name: str) -> set[str]:
    return set((ROOT / name).read_text(encoding="utf-8").splitlines())


def context_files() -> list[str]:
    """What Docker would be sent: all but what the ignore file leaves out."""
    lines = text_of("Dockerfile.dockerignore").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    kept = [rule[1:] for rule in rules if rule.startswith("!")]
    left_out = [rule.removeprefix("**/") for rule in rules[1:] if not rule.startswith("!")]
    found = []
    for top in kept:
        place = ROOT / top
        assert place.exists(), top
        for path in [place] if place.is_file() else place.rglob("*"):
            parts = path.relative_to(ROOT).parts
            if path.is_file() and not any(fnmatch.fnmatch(p, r) for p in parts for r in left_out):
                found.append("/".join(parts))
    return found


def test_the_image_is_sent_little_and_all_that_it_copies() -> None:
    files = context_files()
    assert sum((ROOT / name).stat().st_size for name in files) < 20 * 2**20
    assert "cluster/requirements.lock" in files
    assert {"pyproject.toml", "README.md", "audioflow/cli.py", "jobs/run.py"} <= set(files)
    readme = PROJECT["readme"]
    assert readme in files, "the installation reads it"
    assert not [name for name in files if name.startswith(("tests/", "data/", "runs/", ".venv"))]
    docker = text_of("Dockerfile").splitlines()
    assert [line for line in docker if line.startswith("USER ")][-1] == "USER ray"


def test_the_runtime_env_for_ray_job_submit_is_that_of_audioflow_submit() -> None:
    from ray.runtime_env import RuntimeEnv

    found = yaml.safe_load(text_of("runtime_env.yaml"))
    assert found["excludes"] == list(EXCLUDES)
    assert found["env_vars"] == {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_WAIT_S)}
    assert RuntimeEnv(**found)
    ignored = (ROOT / ".rayignore").read_text().split()
    assert set(ignored) <= set(EXCLUDES)
    pip = yaml.safe_load(text_of("runtime_env_pip.yaml"))["pip"]
    packages = RuntimeEnv(pip=str(ROOT / pip))["pip"]["packages"]
    assert f"torch=={PROJECT['version']}" not in packages
    assert any(one.startswith("torch==2.") for one in packages)


# the page


def test_the_commands_of_the_page_fill_in_all_there_is_and_name_real_options() -> None:
    page = text_of("README.md").replace("\\\n", " ")
    commands = re.findall(r"python -m cluster\.fill (cluster/\S+)((?: +[A-Z_]+=\S+)+)", page)
    assert len(commands) == len([name for name in FILES if places(text_of(name))])
    for path, pairs in commands:
        given = {pair.partition("=")[0] for pair in pairs.split()}
        assert given == set(places((ROOT / path).read_text(encoding="utf-8"))), path
    options = {opt for one in get_command(app).commands["submit"].params for opt in one.opts}
    options |= {
        opt for one in get_command(app).commands["submit"].params for opt in one.secondary_opts
    }
    named = re.findall(r"audioflow submit .*?(--[a-z-]+)", page)
    assert named
    assert set(named) <= options
    assert {"--no-wait", "--stop-on-interrupt", "--env", "--runtime-env"} <= options


def test_the_links_of_the_page_lead_somewhere() -> None:
    page = text_of("README.md")
    links = re.findall(r"\]\(([^)#]*)(?:#([^)]*))?\)", page)
    assert len(links) > 5
    for target, anchor in links:
        other = CLUSTER / target if target else CLUSTER / "README.md"
        assert other.exists(), target
        if anchor:
            headings = re.findall(r"^#+ (.*)$", other.read_text(encoding="utf-8"), flags=re.M)
            assert anchor in {title.lower().replace(" ", "-") for title in headings}


# Slurm


def test_the_script_for_slurm_has_no_fault_that_shellcheck_knows() -> None:
    shellcheck = Path(sys.executable).parent / "shellcheck"
    done = subprocess.run(
        [shellcheck, CLUSTER / "slurm.sbatch"], check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


def test_slurm_reads_its_options_before_the_first_command() -> None:
    options: dict[str, str] = {}
    for line in text_of("slurm.sbatch").splitlines():
        if line and not line.startswith("#"):
            break
        if found := re.fullmatch(r"#SBATCH --([a-z-]+)(?:=(.*))?", line):
            options[found[1]] = found[2]
    assert options["ntasks-per-node"] == "1"
    assert options["signal"].startswith("B:USR1@")
    assert "requeue" in options
    assert options["open-mode"] == "append"
