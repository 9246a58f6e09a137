"""Versions of what audioflow is built on, and whether it loads."""

import importlib
import importlib.util
import platform
import shutil
import sys
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from audioflow import __version__

PACKAGES = (
    "ray torch torchaudio torchvision av decord soxr numpy scipy pyarrow pandas polars fsspec s3fs"
    " pydantic scikit-learn safetensors h5py"
).split()

NATIVE = ("torch", "torchaudio", "torchvision", "av", "decord", "soxr")
"""Packages with libraries of their own, which may be there and yet not load."""

EXTRAS = {
    "tensorboard": ("tensorboard",),
    "ffmpeg": ("imageio-ffmpeg",),
    "litert": ("ai-edge-litert",),
    "onnx": ("onnxruntime",),
    "huggingface": ("transformers",),
    "tracking": ("mlflow-skinny", "wandb"),
    "explain": ("captum", "shap"),
    "serve": ("watchfiles",),  # of those that ray[serve] brings, one that nothing else does
}
"""Optional extras and what they bring."""


@dataclass(frozen=True)
class Packages:
    """versions: "" where a package is missing. details: of some, such as the CUDA of torch.

    extras: whether all of an extra is installed. broken: package -> why it does not load. compiled:
    whether processes find bytecode of what they import, or may leave some for the next.
    """

    versions: dict[str, str] = field(default_factory=dict)
    details: dict[str, str] = field(default_factory=dict)
    extras: dict[str, bool] = field(default_factory=dict)
    broken: dict[str, str] = field(default_factory=dict)
    compiled: bool = True


def packages() -> Packages:
    """Versions as installed; native libraries are loaded."""
    versions = {"Python": platform.python_version(), "audioflow": __version__}
    versions |= {name: _version(name) for name in PACKAGES}
    broken = {name: f"{name} is not installed" for name in PACKAGES if not versions[name]}
    for name in NATIVE:
        if name not in broken:
            try:
                importlib.import_module(name)
            except (ImportError, OSError, RuntimeError, AttributeError) as error:
                broken[name] = f"{name} {versions[name]} does not load: {error}"
    extras = {name: all(map(_version, needed)) for name, needed in EXTRAS.items()}
    return Packages(versions, _details(broken), extras, broken, _compiled())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


def _compiled() -> bool:
    if not sys.dont_write_bytecode:
        return True
    found = importlib.util.find_spec("ray")
    return found is None or found.cached is None or Path(found.cached).exists()


def _details(broken: dict[str, str]) -> dict[str, str]:
    found = {"ffmpeg program": shutil.which("ffmpeg") or "not on the path"}
    if "torch" not in broken:
        import torch

        found["torch"] = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    if "av" not in broken:
        import av

        found["av"] = f"FFmpeg {av.ffmpeg_version_info}"
    return found
