"""The logit of one class of a clip, as a differentiable function of what the clip is made of.

What is explained are logits before calibration; temperature and softmax, which make scores of them,
come after and mix classes.

Shapes: B copies of one clip (or as many clips), P patches, L vectors of a patch, N = P L vectors of
a clip, D width of a vector, F frames and M bands of a spectrogram, R readouts, K classes that the
head knows, C classes, W width of a pooled vector.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from audioflow.backbones.base import SpectrogramBackbone
from audioflow.errors import InputError
from audioflow.heads import HEADS
from audioflow.heads.base import is_estimator
from audioflow.systems.bundle import HeadBundle
from audioflow.systems.inputs import InputSpec, Pool
from audioflow.systems.network import Batch

_TINY = 1e-12


@dataclass(frozen=True)
class ClassLogit:
    """The logit of a class, by one head or as the mean of several (the heads of all folds)."""

    heads: Sequence[HeadBundle]
    label: str

    def __post_init__(self) -> None:
        spec = self.heads[0].spec
        if self.label not in spec.classes:
            raise InputError(
                f"the system {spec.system} has no class {self.label!r}; its classes are "
                f"{', '.join(spec.classes[:40])}"
            )
        for head in self.heads:
            head.network.requires_grad_(False)

    @property
    def place(self) -> int:
        """The class among all."""
        return self.heads[0].spec.classes.index(self.label)

    def of_layers(self, layers: Mapping[str, Tensor], copies: int = 1) -> Tensor:
        """(B,) from the layers (B N, D), or (B P, L, D), of B copies."""
        return all_logits(self.heads, layers, copies)[:, self.place]

    def of_vectors(self, vectors_BW: Tensor) -> Tensor:
        """(B,) of clips of which each is one vector, as their head takes it after pooling."""
        rows = Batch((vectors_BW,), torch.ones(len(vectors_BW), dtype=torch.int64))
        found = [_classes(head, head.network(rows)) for head in self.heads]
        return torch.stack(found).mean(dim=0)[:, self.place]


def refuse_estimators(heads: Sequence[HeadBundle], method: str) -> None:
    """Raise `InputError` for a head without gradients."""
    for head in heads:
        name = head.spec.head["name"]
        if is_estimator(HEADS.load(name)):
            raise InputError(
                f"{method} needs gradients, and the head {name} of {head.spec.system} was fitted "
                "by scikit-learn, which gives none: take --method occlusion or shap"
            )


def all_logits(
    heads: Sequence[HeadBundle], layers: Mapping[str, Tensor], copies: int = 1
) -> Tensor:
    """Logits (B, C) of all classes, from the layers (B N, D) or (B P, L, D) of B copies."""
    per_clip = {
        name: values.reshape(copies, -1, values.shape[-1]) for name, values in layers.items()
    }
    found = []
    for head in heads:
        rows, count = rows_of(head.inputs, per_clip)
        batch = Batch(rows, torch.full((copies,), count, dtype=torch.int64))
        found.append(_classes(head, head.network(batch)))
    return torch.stack(found).mean(dim=0)


def _classes(head: HeadBundle, logits_RBK: Tensor) -> Tensor:
    """(B, C): the mean over readouts; of classes that were merged, of all that became one."""
    spec = head.spec
    logits_BK = logits_RBK.float().mean(dim=0)
    if spec.merge is None:
        return logits_BK
    columns = []
    for label in spec.classes:
        mine = [k for k, name in enumerate(spec.head_classes) if spec.merge[name] == label]
        part = logits_BK[:, mine]
        columns.append(part.amax(dim=1) if spec.multi_label else torch.logsumexp(part, dim=1))
    return torch.stack(columns, dim=1)


def rows_of(inputs: InputSpec, per_clip: Mapping[str, Tensor]) -> tuple[tuple[Tensor, ...], int]:
    """What a network takes of the layers (B, N, D) of clips, and how many rows each clip has."""
    layers = [per_clip[name] for name in inputs.layers]
    if inputs.takes in ("pictures", "picture_sequences"):
        tall = inputs.vectors_per_patch
        return (layers[0].reshape(-1, tall, inputs.widths[0]),), layers[0].shape[1] // tall
    if inputs.pool is not None and inputs.pool.while_reading:
        pool = inputs.pool
        return tuple(pooled(pool, layer) for layer in layers), 1
    return tuple(layer.flatten(0, 1) for layer in layers), layers[0].shape[1]


def pooled(pool: Pool, vectors_BND: Tensor) -> Tensor:
    """(B, W): what the pooling makes of clips as they are read, with gradients."""
    if pool.name in _WIDENING:
        return _WIDENING[pool.name](vectors_BND)
    width = vectors_BND.shape[-1]
    mask_BN = torch.ones(vectors_BND.shape[:2], dtype=torch.bool)
    found: Tensor = pool.built().module(width, width)(vectors_BND, vectors_BND, mask_BN)
    return found


def _mean_std(vectors_BND: Tensor) -> Tensor:
    mean_BD = vectors_BND.mean(dim=1)
    variance_BD = (vectors_BND - mean_BD[:, None]).square().mean(dim=1)
    # Where all patches are alike the root has no slope, and none is taken.
    spread_BD = torch.where(variance_BD > _TINY, variance_BD.clamp(min=_TINY).sqrt(), 0.0)
    return torch.cat([mean_BD, spread_BD], dim=1)


def _mean_max(vectors_BND: Tensor) -> Tensor:
    return torch.cat([vectors_BND.mean(dim=1), vectors_BND.amax(dim=1)], dim=1)


_WIDENING = {"mean_std": _mean_std, "mean_max": _mean_max}
"""Those that are no part of a network, since they give wider vectors than they take."""


class SpectrogramLogit(nn.Module):
    """Spectrograms of a clip's patches -> the logit of a class."""

    def __init__(self, backbone: SpectrogramBackbone, logit: ClassLogit) -> None:
        super().__init__()
        self._backbone = backbone
        self._logit = logit

    def forward(self, spectrograms_BPFM: Tensor) -> Tensor:
        """(B,) of B copies of the clip."""
        layers = self.layers(spectrograms_BPFM.flatten(0, 1))
        return self.of_layers(layers, len(spectrograms_BPFM))

    def layers(self, spectrograms_PFM: Tensor) -> dict[str, Tensor]:
        """What the backbone makes of patches."""
        return self._backbone.from_spectrogram(spectrograms_PFM)

    def of_layers(self, layers: Mapping[str, Tensor], copies: int) -> Tensor:
        """(B,) from the layers of all patches of B copies of the clip."""
        return self._logit.of_layers(layers, copies)
