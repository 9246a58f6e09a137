"""What a head bundle does to embeddings, as one torch module that can be traced.

Every clip of a batch has the same number of patches, so nothing is padded. Shapes: B clips,
P patches, V vectors of a patch, D width, K columns, R readouts, F classes of the head, C classes.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from audioflow.calibration.identity import Identity
from audioflow.calibration.isotonic import Isotonic
from audioflow.calibration.platt import Platt
from audioflow.calibration.temperature import Temperature
from audioflow.calibration.vector import Vector
from audioflow.errors import InputError
from audioflow.systems.bundle import HeadBundle
from audioflow.systems.inputs import Pool
from audioflow.systems.network import SystemNetwork

_MOST_PATCHES = 2**20
_MOST_SCORE = 1 - 2**-24


class ScoreGraph(nn.Module):
    """Layers (B, P, D) or (B, P, V, D) -> scores (B, C): the mean of members, calibrated.

    Raises `InputError` for a pooling or a calibrator that is no graph.
    """

    def __init__(self, bundles: Sequence[HeadBundle], calibrator: Any = None) -> None:
        super().__init__()
        self.members = nn.ModuleList(_Member(bundle) for bundle in bundles)
        multi = bundles[0].spec.multi_label
        self.calibrated = nn.Identity() if calibrator is None else _calibration(calibrator, multi)
        self.most_patches = min(map(_most_patches, bundles))

    def forward(self, *layers: Tensor) -> Tensor:
        scores = [member(layers) for member in self.members]
        mean: Tensor = torch.stack(scores).mean(dim=0)
        calibrated: Tensor = self.calibrated(mean)
        return calibrated


class _Member(nn.Module):
    """One bundle: pooling, normalisation, head, readout."""

    def __init__(self, bundle: HeadBundle) -> None:
        super().__init__()
        _refuse_unknown(bundle.inputs.pool)
        self.network = _known_to_onnx(bundle.network)
        self._inputs = bundle.inputs
        self._readout = bundle.spec.readout
        self._multi = bundle.spec.multi_label

    def forward(self, layers: tuple[Tensor, ...]) -> Tensor:
        return self._scores(self._logits(layers))

    def _logits(self, layers: tuple[Tensor, ...]) -> Tensor:
        """Logits (R, B, F)."""
        pool, takes = self._inputs.pool, self._inputs.takes
        if pool is not None and pool.while_reading:
            return self._read(self._normalised(tuple(_pooled(pool, layer) for layer in layers)))
        normalised = self._normalised(layers)
        mask = torch.ones(layers[0].shape[:2], dtype=torch.bool)
        if takes in ("sequences", "picture_sequences"):
            return self.network.head(normalised[0], mask)[None]
        assert pool is not None
        pooling = self.network.pooling
        assert pooling is not None
        if pool.on == "embeddings":
            return self._read((pooling(normalised[0], normalised[0], mask),))
        logits_RNF = self._read(tuple(layer.flatten(0, 1) for layer in normalised))
        counts = layers[0].shape[:2]
        logits_RBPF = logits_RNF.reshape(logits_RNF.shape[0], *counts, logits_RNF.shape[2])
        of_BPD = normalised[0].flatten(2)
        parts = [self._over_patches(pool, one, of_BPD, mask) for one in logits_RBPF]
        return torch.stack(parts)

    def _over_patches(self, pool: Pool, logits: Tensor, of_BPD: Tensor, mask: Tensor) -> Tensor:
        pooling = self.network.pooling
        assert pooling is not None
        if pool.on == "logits":
            found: Tensor = pooling(logits, of_BPD, mask)
            return found
        if self._multi:
            scores = pooling(torch.sigmoid(logits), of_BPD, mask)
            return torch.logit(scores.clamp(1e-12, 1 - 1e-6))
        scores = pooling(torch.softmax(logits, dim=-1), of_BPD, mask)
        return torch.log(scores.clamp(min=1e-12))

    def _normalised(self, layers: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        norms = self.network.normalise
        if not len(norms):
            return layers
        return tuple(norm(layer) for norm, layer in zip(norms, layers, strict=True))

    def _read(self, rows: tuple[Tensor, ...]) -> Tensor:
        if self._inputs.takes == "layers":
            readouts: Tensor = self.network.head(list(rows))
            return readouts
        return self.network.head(rows[0])[None]

    def _scores(self, logits_RBF: Tensor) -> Tensor:
        logits_BF = logits_RBF.mean(dim=0) / self._readout.temperature
        scores_BF = torch.sigmoid(logits_BF) if self._multi else torch.softmax(logits_BF, dim=1)
        merge = self._readout.merge
        if merge is None:
            return scores_BF
        columns = [
            scores_BF[:, [at for at, to in enumerate(merge) if to == place]]
            for place in range(self._readout.num_classes)
        ]
        merged = [one.amax(dim=1) if self._multi else one.sum(dim=1) for one in columns]
        return torch.stack(merged, dim=1)


class _Largest(nn.Module):
    """The largest value of each picture, as a picture of one point."""

    def forward(self, pictures_NCHW: Tensor) -> Tensor:
        return pictures_NCHW.amax(dim=(2, 3), keepdim=True)


def _known_to_onnx(network: SystemNetwork) -> SystemNetwork:
    """The network with modules of the same function in the place of those that ONNX has not."""
    for module in list(network.modules()):
        for name, inner in list(module.named_children()):
            if isinstance(inner, nn.AdaptiveMaxPool2d) and inner.output_size in (1, (1, 1)):
                setattr(module, name, _Largest())
    return network


_POOLED = ("mean", "max", "mean_max", "mean_std")
"""The poolings that are applied as embeddings are read, and stand below."""


def _pooled(pool: Pool, layer_BPD: Tensor) -> Tensor:
    mean = layer_BPD.mean(dim=1)
    if pool.name == "mean":
        return mean
    if pool.name == "max":
        return layer_BPD.amax(dim=1)
    if pool.name == "mean_max":
        return torch.cat([mean, layer_BPD.amax(dim=1)], dim=1)
    variance = ((layer_BPD - mean[:, None]) ** 2).mean(dim=1)
    return torch.cat([mean, torch.sqrt(variance)], dim=1)


def _refuse_unknown(pool: Pool | None) -> None:
    if pool is not None and pool.while_reading and pool.name not in _POOLED:
        raise InputError(
            f"the pooling {pool.name} of embeddings cannot be written as ONNX; there are "
            f"{', '.join(_POOLED)}, and every pooling of logits or scores"
        )


def _most_patches(bundle: HeadBundle) -> int:
    """The most patches that a head takes."""
    most = bundle.spec.head.get("max_patches")
    return _MOST_PATCHES if most is None else int(most)


def _calibration(calibrator: Any, multi: bool) -> nn.Module:
    """The same as `calibrator.apply`; raises `InputError` for one that is no graph."""
    if isinstance(calibrator, Identity):
        return nn.Identity()
    if isinstance(calibrator, Isotonic):
        raise InputError(
            "the calibration isotonic cannot be written as ONNX; those that can are temperature, "
            "vector and platt (systems.NAME.calibration.method)"
        )
    if isinstance(calibrator, Temperature):
        lines = torch.tensor([[1 / calibrator.temperature], [0.0]])
    else:
        assert isinstance(calibrator, Vector | Platt)
        lines = torch.from_numpy(calibrator.lines).float()
    odds = isinstance(calibrator, Platt) or multi
    return _Line(lines, calibrator.least, odds=odds, multi=multi)


class _Line(nn.Module):
    """A weight and an offset on log scores, then softmax; or on log odds, then a logistic curve,
    and of single labels each row divided by its sum."""

    lines: Tensor

    def __init__(self, lines: Tensor, least: float, *, odds: bool, multi: bool) -> None:
        super().__init__()
        self.register_buffer("lines", lines)
        self._least, self._odds, self._multi = least, odds, multi

    def forward(self, scores_BC: Tensor) -> Tensor:
        if not self._odds:
            logs_BC = torch.log(scores_BC.clamp(min=self._least))
            return torch.softmax(self.lines[0] * logs_BC + self.lines[1], dim=1)
        odds_BC = self._log_odds(scores_BC)
        chances_BC = torch.sigmoid((self.lines[0] * odds_BC + self.lines[1]).clamp(-80, 80))
        return chances_BC if self._multi else chances_BC / chances_BC.sum(dim=1, keepdim=True)

    def _log_odds(self, scores_BC: Tensor) -> Tensor:
        """As `calibration.base.log_odds`."""
        if self._multi:
            kept_BC = scores_BC.clamp(self._least, _MOST_SCORE)
            return torch.log(kept_BC) - torch.log1p(-kept_BC)
        block_BC = scores_BC.double().clamp(min=self._least)
        columns_C = torch.arange(scores_BC.shape[1])
        best_BC = columns_C == block_BC.argmax(dim=1, keepdim=True)
        others_B1 = torch.where(best_BC, 0.0, block_BC).sum(dim=1, keepdim=True)
        others_B1 = others_B1.clamp(min=self._least)
        total_B1 = block_BC.amax(dim=1, keepdim=True) + others_B1
        rest_BC = torch.where(best_BC, others_B1, (total_B1 - block_BC).clamp(min=self._least))
        return (torch.log(block_BC) - torch.log(rest_BC)).float()
