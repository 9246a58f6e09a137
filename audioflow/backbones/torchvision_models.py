"""Classification networks of torchvision: their weights, what these expect, their last two layers.

What is published of weights (url, preprocessing, frame rate) is read from torchvision's own tables.

Shapes: P patches, N frames of a patch, H and W their size, D width of a layer.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

import torch
from numpy.typing import NDArray
from pydantic import Field, create_model, field_validator, model_validator
from torch import Tensor, nn
from torchvision import models

from audioflow.backbones.network import AS_TUPLE, NetworkSettings, fill, unfilled
from audioflow.registry import nearest
from audioflow.weights import RANDOM, KnownWeights, WeightsName

Layer = Literal["embedding", "logits", "scores"]
_TERMS = "the terms of the data they were trained on ({data}) may restrict what they are used for"
_SWAG = "CC-BY-NC-4.0 (Meta's SWAG: no commercial use); " + _TERMS
_TORCHVISION = "BSD-3-Clause as torchvision; " + _TERMS

# The first prefix of a model's name that fits.
CITATIONS = {
    "alexnet": "Krizhevsky 2014, One weird trick for parallelizing convolutional neural networks",
    "convnext": "Liu et al. 2022, A ConvNet for the 2020s",
    "densenet": "Huang et al. 2017, Densely connected convolutional networks",
    "efficientnet_v2": "Tan and Le 2021, EfficientNetV2: smaller models and faster training",
    "efficientnet": "Tan and Le 2019, EfficientNet: rethinking model scaling",
    "maxvit": "Tu et al. 2022, MaxViT: multi-axis vision transformer",
    "mnasnet": "Tan et al. 2019, MnasNet: platform-aware neural architecture search for mobile",
    "mobilenet_v2": "Sandler et al. 2018, MobileNetV2: inverted residuals and linear bottlenecks",
    "mobilenet_v3": "Howard et al. 2019, Searching for MobileNetV3",
    "mvit_v1": "Fan et al. 2021, Multiscale vision transformers",
    "mvit_v2": "Li et al. 2022, MViTv2: improved multiscale vision transformers",
    "regnet": "Radosavovic et al. 2020, Designing network design spaces",
    "resnet": "He et al. 2016, Deep residual learning for image recognition",
    "resnext": "Xie et al. 2017, Aggregated residual transformations for deep neural networks",
    "s3d": "Xie et al. 2018, Rethinking spatiotemporal feature learning for video understanding",
    "shufflenet": "Ma et al. 2018, ShuffleNet V2: practical guidelines for efficient CNN design",
    "swin3d": "Liu et al. 2022, Video Swin transformer",
    "swin_v2": "Liu et al. 2022, Swin transformer V2: scaling up capacity and resolution",
    "swin": "Liu et al. 2021, Swin transformer: hierarchical vision transformer",
    "vgg": "Simonyan and Zisserman 2015, Very deep convolutional networks",
    "vit": "Dosovitskiy et al. 2021, An image is worth 16x16 words",
    "wide_resnet": "Zagoruyko and Komodakis 2016, Wide residual networks",
    "": "Tran et al. 2018, A closer look at spatiotemporal convolutions for action recognition",
}

_LIKE_A_NAME = re.compile(r"\w+_Weights\.\w+|[A-Z0-9]+_[A-Z0-9_]+")

# Names of tensors in the published files that the code has changed since: (old, new).
_RENAMED = (
    (re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12])\."), r"\1\2."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_1\."), r"\1.0."),
    (re.compile(r"(encoder_layer_\d+\.mlp)\.linear_2\."), r"\1.3."),
)


def by_model(names_by_width: Mapping[int, str]) -> dict[str, int]:
    """Model -> width of its embedding, from all models of a width in one text."""
    return {name: width for width, names in names_by_width.items() for name in names.split()}


@lru_cache(maxsize=256)
def published(model: str) -> Mapping[str, Any]:
    """torchvision's weights of a model by name, such as `ResNet18_Weights.IMAGENET1K_V1`."""
    return {str(weights): weights for weights in models.get_model_weights(model)}


def default_weights(model: str) -> str:
    """The name of the weights that torchvision recommends."""
    return str(models.get_model_weights(model).DEFAULT)


def known_weights(names: Iterable[str]) -> tuple[KnownWeights, ...]:
    """All published weights of these models.

    The digits at the end of a file's name are the first of its sha256.
    """
    return tuple(_known(name, weights) for name in names for weights in published(name).values())


def _known(model: str, weights: Any) -> KnownWeights:
    data = "Kinetics-400" if "KINETICS" in weights.name else "ImageNet-1K"
    citation = next(text for prefix, text in CITATIONS.items() if model.startswith(prefix))
    accuracy = weights.meta["_metrics"].get(data, {}).get("acc@1")
    return KnownWeights(
        name=str(weights),
        url=weights.url,
        licence=(_SWAG if "SWAG" in weights.name else _TORCHVISION).format(data=data),
        citation=citation,
        sha256=weights.url.rpartition("-")[2].removesuffix(".pth"),
        note=f"{weights.meta['num_params']:,} parameters; top-1 on {data} {accuracy} %",
    )


class TorchvisionSettings(NetworkSettings):
    """model: as torchvision names it. weights: `IMAGENET1K_V2`, `DEFAULT` (as if none is given),
    a path or url, or `random`.

    preset: the published weights whose resizing, cropping and normalisation are used; those of
    `weights`, where they are (or are named like the file of) published ones, else the model's
    `DEFAULT`. layers: of `embedding` (what the last layer is given), `logits` (what it gives per
    class) and `scores` (their softmax).
    """

    model: str
    weights: WeightsName
    preset: str = ""
    layers: Annotated[tuple[Layer, ...], AS_TUPLE] = Field(("embedding",), min_length=1)

    @field_validator("layers")
    @classmethod
    def _once(cls, layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
        for layer in layers:
            if layers.count(layer) > 1:
                raise ValueError(f"names {layer!r} twice")
        return layers

    @model_validator(mode="before")
    @classmethod
    def _named_in_full(cls, data: Any) -> Any:
        """Fill in the names that follow from the model, while it is known what was given."""
        model = data.get("model", cls.model_fields["model"].default)
        try:
            names = list(published(model))
        except (ValueError, AttributeError):
            return data  # said by the check of `model`
        weights = _in_full(data.get("weights", "DEFAULT"), model, names)
        preset = _in_full(data.get("preset") or _of_file(weights, model), model, names)
        if preset not in names:
            told = f"{preset!r} are no weights of {model}; allowed: {', '.join(names)}"
            raise ValueError(f"preset: {told}")
        return {**data, "weights": weights, "preset": preset}

    @property
    def published(self) -> Any:
        """torchvision's entry of the weights whose preprocessing is used."""
        return published(self.model)[self.preset]


def _in_full(given: Any, model: str, names: Sequence[str]) -> Any:
    """The full name of published weights given by their short one; anything else as it is."""
    if given == "DEFAULT":
        return default_weights(model)
    full = [name for name in names if given == name.partition(".")[2]]
    if full:
        return full[0]
    if given not in names and _LIKE_A_NAME.fullmatch(str(given)):
        allowed = f"{', '.join(names)}, {RANDOM}, a path or a url"
        raise ValueError(f"{given!r} are no weights of {model}; allowed: {allowed}")
    return given


def _of_file(weights: Any, model: str) -> str:
    """Which published weights these are, by name or by the name of their file; else `DEFAULT`."""
    file = PurePosixPath(str(weights)).name
    for name, entry in published(model).items():
        if weights == name or file == PurePosixPath(entry.url).name:
            return name
    return "DEFAULT"


def refuse_unknown(model: str, known: Mapping[str, int]) -> str:
    """The model's name, if it is known; raises `ValueError` naming the nearest."""
    if model not in known:
        near = nearest(model, known)
        hint = f"did you mean {near!r}? " if near else ""
        raise ValueError(f"{model!r} is not known; {hint}allowed: {', '.join(sorted(known))}")
    return model


def num_classes(settings: TorchvisionSettings) -> int:
    return len(settings.published.meta["categories"])


def widths(settings: TorchvisionSettings, width: int) -> dict[str, int]:
    """The layers asked for, in their fixed order, and their widths."""
    classes = num_classes(settings)
    every = {"embedding": width, "logits": classes, "scores": classes}
    return {name: size for name, size in every.items() if name in settings.layers}


def network(settings: TorchvisionSettings, **sizes: int) -> "TwoLayers":
    """The network with its weights. Raises `WeightsError` for a file of another one."""
    if settings.model.startswith("vit"):
        sizes["image_size"] = settings.published.meta["min_size"][0]
    with unfilled():
        module = models.get_model(
            settings.model, weights=None, num_classes=num_classes(settings), **sizes
        )
    fill(module, settings.weights, settings.seed, _renamed)
    return TwoLayers(module)


def _renamed(tensors: dict[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {_new_name(name): tensor for name, tensor in tensors.items()}


def _new_name(name: str) -> str:
    for old, new in _RENAMED:
        name = old.sub(new, name)
    return name


def only(model: str, base: Any) -> Any:
    """The backbone `base` with one model, to be registered under that model's name."""
    usual = base.Settings.model_validate({"model": model}).weights
    fields: Any = {"model": (Literal[model], model), "weights": (WeightsName, usual)}
    settings = create_model(
        f"{model}Settings", __base__=base.Settings, __doc__=base.Settings.__doc__, **fields
    )
    members = {"Settings": settings, "known": known_weights([model]), "__doc__": base.__doc__}
    return type(model, (base,), members)


class TwoLayers(nn.Module):
    """A classification network that gives what its last layer is given, and what that makes of it.

    In S3D the last layer is a convolution of width one whose outputs are averaged over time; it is
    given the average here, which is the same.
    """

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        name, last = _last(module)
        self.last = last if isinstance(last, nn.Linear) else _as_linear(last)
        module.set_submodule(name, nn.Identity())
        for place, inner in list(module.named_modules()):
            if isinstance(inner, nn.AvgPool3d):
                module.set_submodule(place, _InFloat32(inner))
        self.trunk = module

    def forward(self, pictures: Tensor) -> tuple[Tensor, Tensor]:
        """Pictures, or films, normalised -> (P, D) and logits (P, C)."""
        embedding = self.trunk(pictures)
        return embedding, self.last(embedding)


def _last(module: nn.Module) -> tuple[str, nn.Linear | nn.Conv3d]:
    kinds = [
        (name, inner)
        for name, inner in module.named_modules()
        if isinstance(inner, nn.Linear)
        or (isinstance(inner, nn.Conv3d) and inner.kernel_size == (1, 1, 1))
    ]
    return kinds[-1]


def _as_linear(convolution: nn.Conv3d) -> nn.Linear:
    made = nn.Linear(convolution.in_channels, convolution.out_channels)
    with torch.no_grad():
        made.weight.copy_(convolution.weight.flatten(1))
        if convolution.bias is not None:
            made.bias.copy_(convolution.bias)
    return made


class _InFloat32(nn.Module):
    """A module that does not exist in bfloat16 on every device."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, values: Tensor) -> Tensor:
        return self.inner(values.float()).to(values.dtype)


def chosen(outputs: tuple[Tensor, Tensor], settings: TorchvisionSettings) -> dict[str, Tensor]:
    """The layers asked for, of a network's two."""
    embedding, logits = outputs
    every = {"embedding": embedding, "logits": logits, "scores": logits.softmax(dim=1)}
    return {name: vectors for name, vectors in every.items() if name in settings.layers}
