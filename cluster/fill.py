"""Fill in what stands in <...> in a file of this folder, and check the whole.

    python -m cluster.fill cluster/aws.yaml REGION=eu-central-1 IMAGE=... > my-aws.yaml
    python -m cluster.fill my-aws.yaml

Writes the filled file to standard output; exit code 2, and nothing there, where something is
missing or wrong. Checked are: the file for `ray up` by Ray's own schema, each `node_config` by the
model of EC2's RunInstances, policies of IAM by their grammar, and manifests by `kuberay_schema`.
Nothing is asked of any cloud.
"""

import json
import logging
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from cluster import kuberay_schema

_PLACE = re.compile(r"<([A-Z][A-Z0-9_]*)>")
_RAYS_OWN = ("SubnetIds",)
"""Keys of a node_config that Ray takes out before it asks EC2."""
_STATEMENT = {"Sid", "Effect", "Principal", "Action", "Resource", "Condition"}


def places(text: str) -> list[str]:
    """The names that stand in <...>, outside of comments, in order."""
    code = "\n".join(re.sub(r"(^|\s)#.*", "", line) for line in text.splitlines())
    return list(dict.fromkeys(_PLACE.findall(code)))


def fill(text: str, values: Mapping[str, str]) -> str:
    """The text with these values; names that it does not have are faults, and so are left ones."""
    names = places(text)
    unknown = [name for name in values if name not in names]
    if unknown:
        there = f"it has {', '.join(names)}" if names else "it has no <...> to be filled in"
        raise ValueError(f"{', '.join(unknown)}: not in the file; {there}")
    missing = [name for name in names if name not in values]
    if missing:
        raise ValueError(f"still to be filled in: {' '.join(f'{name}=...' for name in missing)}")
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), text)


def faults(text: str) -> list[str]:
    """What is wrong with a file, whatever of this folder it is."""
    try:
        data = yaml.safe_load(text)
    except yaml.YAMLError as error:
        return [f"is not YAML: {error}"]
    if not isinstance(data, dict):
        return ["is no mapping"]
    if "Statement" in data:
        return policy_faults(data)
    if "available_node_types" in data:
        return ray_up_faults(data)
    return kuberay_schema.faults(data)


def ray_up_faults(data: dict[str, Any]) -> list[str]:
    """What Ray's own schema and EC2's model say of a file for `ray up`."""
    from jsonschema import ValidationError
    from ray.autoscaler._private.util import prepare_config, validate_config

    logging.getLogger("ray").setLevel(logging.ERROR)
    try:
        validate_config(prepare_config(json.loads(json.dumps(data))))
    except (ValidationError, ValueError, KeyError, TypeError) as error:
        where = ".".join(map(str, getattr(error, "absolute_path", ())))
        told = str(getattr(error, "message", error))
        return [f"{where}: {told}" if where else told]
    found = []
    for name, node_type in data["available_node_types"].items():
        found += [f"{name}.{fault}" for fault in node_faults(node_type["node_config"])]
    return found


def node_faults(node_config: Mapping[str, Any]) -> list[str]:
    """What a node_config lacks, or has and EC2 does not know."""
    import botocore.session
    from botocore.validate import ParamValidator

    asked = {key: value for key, value in node_config.items() if key not in _RAYS_OWN}
    model = botocore.session.Session().get_service_model("ec2")
    shape = model.operation_model("RunInstances").input_shape
    told = ParamValidator().validate(asked | {"MinCount": 1, "MaxCount": 1}, shape)
    found = [f"node_config: {line}" for line in told.generate_report().splitlines() if line]
    needed = ("InstanceType", "ImageId", "IamInstanceProfile")
    return found + [f"node_config: {key} is missing" for key in needed if key not in asked]


def policy_faults(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with the grammar of a policy, or wider than it has to be."""
    found = [] if data.get("Version") == "2012-10-17" else ["Version: not 2012-10-17"]
    for number, statement in enumerate(data["Statement"]):
        name = statement.get("Sid", f"statement {number + 1}")
        found += [f"{name}: unknown {key}" for key in statement if key not in _STATEMENT]
        if statement.get("Effect") not in ("Allow", "Deny"):
            found.append(f"{name}: Effect is neither Allow nor Deny")
        if not ("Principal" in statement) ^ ("Resource" in statement):
            found.append(f"{name}: needs one of Resource and Principal")
        actions = statement.get("Action", [])
        for action in [actions] if isinstance(actions, str) else actions:
            if not re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", action):
                found.append(f"{name}: {action!r} is not service:Action, without *")
        if not actions:
            found.append(f"{name}: Action is missing")
    return found


def main(arguments: Sequence[str]) -> int:
    """Fill, check, and write the result."""
    if not arguments or arguments[0] in ("-h", "--help"):
        sys.stdout.write(f"{__doc__}")
        return 0 if arguments else 2
    path, *pairs = arguments
    try:
        values = dict(_pair(text) for text in pairs)
        text = fill(Path(path).read_text(encoding="utf-8"), values)
        wrong = faults(text)
    except (OSError, ValueError) as error:
        wrong = [getattr(error, "strerror", None) or str(error)]
    if wrong:
        sys.stderr.write("".join(f"error: {path}: {line}\n" for line in wrong))
        return 2
    sys.stdout.write(text)
    return 0


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not value:
        raise ValueError(f"{text!r} is not NAME=VALUE")
    return name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
