"""The part of KubeRay's RayCluster and RayJob (ray.io/v1) that the manifests here use, and strict.

Kubernetes drops an unknown field without a word: here it is a fault. Whatever is not listed may
well exist, and is added here before it is used there.
"""

import re
from collections.abc import Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

Quantity = str

SHM = "/dev/shm"  # noqa: S108 - where Ray keeps its objects
_UNITS = {"": 1, "m": 1e-3, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def amount(quantity: Quantity) -> float:
    """`500m` as 0.5, `2Gi` as bytes; raises `ValueError`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(m|Ki|Mi|Gi|Ti|)", quantity)
    if not found:
        raise ValueError(f"{quantity!r} is no quantity; as 500m, 4, 12Gi")
    return float(found[1]) * _UNITS[found[2]]


class Part(BaseModel):
    """One mapping of a manifest."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Metadata(Part):
    name: str | None = None
    generateName: str | None = None
    namespace: str | None = None
    labels: dict[str, str] = {}
    annotations: dict[str, str] = {}

    @model_validator(mode="after")
    def _has_a_name(self) -> "Metadata":
        if (self.name is None) == (self.generateName is None):
            raise ValueError("needs one of name and generateName")
        return self


class Resources(Part):
    requests: dict[str, Quantity]
    limits: dict[str, Quantity]

    @model_validator(mode="after")
    def _requests_fit(self) -> "Resources":
        for name, asked in self.requests.items():
            if name in self.limits and amount(asked) > amount(self.limits[name]):
                raise ValueError(f"requests.{name} is {asked}, more than its limit")
        if self.requests.get("memory") != self.limits.get("memory"):
            raise ValueError("requests.memory and limits.memory have to be the same")
        return self


class EnvVar(Part):
    name: str
    value: str | None = None
    valueFrom: dict[str, Any] | None = None


class Port(Part):
    name: str
    containerPort: int


class Mount(Part):
    name: str
    mountPath: str
    readOnly: bool = False


class Container(Part):
    name: str
    image: str
    env: list[EnvVar] = []
    ports: list[Port] = []
    resources: Resources
    volumeMounts: list[Mount] = []


class EmptyDir(Part):
    medium: Literal["Memory", ""] = ""
    sizeLimit: Quantity | None = None


class Volume(Part):
    name: str
    emptyDir: EmptyDir


class Toleration(Part):
    key: str
    operator: Literal["Exists", "Equal"]
    value: str | None = None
    effect: Literal["NoSchedule", "PreferNoSchedule", "NoExecute"] | None = None


class PodSpec(Part):
    serviceAccountName: str
    restartPolicy: Literal["Never"]  # the autoscaler v2 makes new pods itself
    nodeSelector: dict[str, str] = {}
    tolerations: list[Toleration] = []
    containers: list[Container] = Field(min_length=1)
    volumes: list[Volume] = []


class Template(Part):
    metadata: dict[str, Any] = {}
    spec: PodSpec


class Group(Part):
    rayStartParams: dict[str, str]
    template: Template

    @model_validator(mode="after")
    def _object_store_fits(self) -> "Group":
        spec = self.template.spec
        (main,) = spec.containers[:1]
        mounted = {mount.name for mount in main.volumeMounts if mount.mountPath == SHM}
        sizes = [v.emptyDir for v in spec.volumes if v.name in mounted]
        if not sizes or sizes[0].medium != "Memory" or sizes[0].sizeLimit is None:
            raise ValueError(f"{SHM} needs a volume in memory, with its sizeLimit")
        shm = amount(sizes[0].sizeLimit)
        store = amount(self.rayStartParams.get("object-store-memory", ""))
        if not store <= shm < amount(main.resources.limits["memory"]):
            raise ValueError(
                "object-store-memory <= sizeLimit of /dev/shm < limits.memory is not so"
            )
        if "RAY_AUTH_MODE" in {one.name for one in main.env}:
            raise ValueError("RAY_AUTH_MODE is set by authOptions")
        return self


class WorkerGroup(Group):
    groupName: str
    replicas: int = Field(ge=0)
    minReplicas: int = Field(ge=0)
    maxReplicas: int = Field(ge=1)
    idleTimeoutSeconds: int = Field(ge=1)
    labels: dict[str, str] = {}

    @model_validator(mode="after")
    def _replicas_in_order(self) -> "WorkerGroup":
        if not self.minReplicas <= self.replicas <= self.maxReplicas:
            raise ValueError("minReplicas <= replicas <= maxReplicas is not so")
        return self


class AuthOptions(Part):
    mode: Literal["token", "disabled"]


class AutoscalerOptions(Part):
    version: Literal["v2"]
    idleTimeoutSeconds: int
    resources: Resources


class ClusterSpec(Part):
    rayVersion: str
    authOptions: AuthOptions
    enableInTreeAutoscaling: bool
    autoscalerOptions: AutoscalerOptions
    headGroupSpec: Group
    workerGroupSpecs: list[WorkerGroup]


class RayCluster(Part):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayCluster"]
    metadata: Metadata
    spec: ClusterSpec


class JobSpec(Part):
    entrypoint: str
    submissionMode: Literal["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]
    runtimeEnvYAML: str = ""
    backoffLimit: int = Field(ge=0)
    activeDeadlineSeconds: int = Field(ge=1)
    shutdownAfterJobFinishes: bool
    ttlSecondsAfterFinished: int = Field(ge=0)
    rayClusterSpec: ClusterSpec


class RayJob(Part):
    apiVersion: Literal["ray.io/v1"]
    kind: Literal["RayJob"]
    metadata: Metadata
    spec: JobSpec


class ServiceAccount(Part):
    apiVersion: Literal["v1"]
    kind: Literal["ServiceAccount"]
    metadata: Metadata


KINDS: Mapping[str, type[Part]] = {
    "RayCluster": RayCluster,
    "RayJob": RayJob,
    "ServiceAccount": ServiceAccount,
}


def faults(data: Mapping[str, Any]) -> list[str]:
    """What is wrong with a manifest, each as `path: problem`."""
    model = KINDS.get(str(data.get("kind")))
    if model is None:
        return [f"kind: {data.get('kind')!r} is not one of {', '.join(KINDS)}"]
    try:
        model.model_validate(dict(data))
    except ValidationError as error:
        return [f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
    return []
