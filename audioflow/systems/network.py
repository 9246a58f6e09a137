"""A system as one network: normalisation, head and pooling, on clips of any number of patches.

Shapes: B clips, P patches of a clip, N patches of all clips, V vectors of a patch, D width of a
vector, C classes, R readouts (one, but for heads that read several layers).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from audioflow.heads import HEADS
from audioflow.systems.examples import Examples
from audioflow.systems.inputs import InputSpec

_LEAST_SCORE = 1e-12
"""Stands for a score of 0, where a logarithm is needed."""
_ROWS_AT_ONCE, _PICTURES_AT_ONCE = 4096, 64
"""Patches that go through the network at once where no gradient is needed: vectors, and pictures,
of which convolutions make thousands of times as much."""


@dataclass(frozen=True)
class Batch:
    """Examples as tensors: rows per layer (N, D) or (N, V, D), and patches per example (B,)."""

    rows: tuple[Tensor, ...]
    counts: Tensor

    @classmethod
    def of(cls, examples: Examples, device: torch.device | str = "cpu") -> "Batch":
        rows = tuple(torch.from_numpy(np.ascontiguousarray(r)).to(device) for r in examples.rows)
        return cls(rows, torch.from_numpy(np.diff(examples.offsets)).to(device))

    @property
    def flat(self) -> bool:
        """Whether every example has exactly one row."""
        return len(self.counts) == len(self.rows[0])


@dataclass(frozen=True)
class NetworkSpec:
    """What a network is made of, as plain values.

    head: name and settings. normalised: whether columns are shifted and scaled. multi_label:
    whether scores of a clip's classes are independent.
    """

    inputs: InputSpec
    head: Mapping[str, Any]
    num_classes: int
    normalised: bool
    multi_label: bool = False


class SystemNetwork(nn.Module):
    """Embeddings of clips -> logits (R, B, C).

    State: `head.*`, `pooling.*`, and per layer `normalise.<i>.mean` and `.std` (D,).
    """

    def __init__(self, spec: NetworkSpec, head: nn.Module | None = None) -> None:
        """head: one that is there already, instead of a fresh one.

        Raises `ValueError` for parts that do not fit each other.
        """
        super().__init__()
        self.spec = spec
        inputs = spec.inputs
        self.head: nn.Module = _built_head(spec) if head is None else head
        self.pooling: nn.Module | None = None
        pool = inputs.pool
        if pool is not None and pool.name == "vote" and spec.multi_label:
            raise ValueError(
                "vote gives every patch one class, but clips may have several labels; use mean, "
                "max or top_k on scores"
            )
        if pool is not None and not pool.while_reading:
            width = inputs.widths[0] * inputs.vectors_per_patch
            columns = width if pool.on == "embeddings" else spec.num_classes
            self.pooling = pool.built().module(width, columns)
        widths = inputs.shape.widths if spec.normalised else ()
        self.normalise = nn.ModuleList(_Normalise(width) for width in widths)

    def forward(self, batch: Batch) -> Tensor:
        """Logits (R, B, C) of clips."""
        rows = self._normalised(batch.rows)
        takes, pool = self.spec.inputs.takes, self.spec.inputs.pool
        if takes in ("sequences", "picture_sequences"):
            padded, mask = _padded(rows[0], batch.counts)
            return self.head(padded, mask)[None]
        if self.pooling is None or pool is None:
            return self._read(rows)
        if pool.on == "embeddings":
            padded, mask = _padded(rows[0], batch.counts)
            return self._read((self.pooling(padded, padded, mask),))
        logits_RNC = self._read(rows)
        if batch.flat and self._needless(pool.name):
            return logits_RNC
        return torch.stack([self._pooled(one, rows[0], batch.counts) for one in logits_RNC])

    def patches(self, batch: Batch) -> Tensor:
        """Logits (R, N, C) of patches by themselves, before any pooling of logits or scores."""
        return self._read(self._normalised(batch.rows))

    def _needless(self, name: str) -> bool:
        """Whether a clip of one patch has the logits of that patch: not after a vote, through which
        nothing is learned; and every worker has to reach the parameters of a pooling."""
        assert self.pooling is not None
        return self.training if name == "vote" else not any(True for _ in self.pooling.parameters())

    def _normalised(self, rows: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        if not len(self.normalise):
            return rows
        return tuple(norm(layer) for norm, layer in zip(self.normalise, rows, strict=True))

    def _read(self, rows: tuple[Tensor, ...]) -> Tensor:
        if self.spec.inputs.takes == "layers":
            readouts: Tensor = self.head(list(rows))
            return readouts
        return self.head(rows[0])[None]

    def _pooled(self, logits_NC: Tensor, vectors: Tensor, counts: Tensor) -> Tensor:
        assert self.pooling is not None
        assert self.spec.inputs.pool is not None
        values, mask = _padded(logits_NC.float(), counts)
        of, _ = _padded(vectors.flatten(1), counts)
        if self.spec.inputs.pool.on == "logits":
            pooled: Tensor = self.pooling(values, of, mask)
            return pooled
        if self.spec.multi_label:
            scores = self.pooling(torch.sigmoid(values), of, mask)
            return torch.logit(scores.clamp(_LEAST_SCORE, 1 - 1e-6))
        scores = self.pooling(torch.softmax(values, dim=-1), of, mask)
        return torch.log(scores.clamp(min=_LEAST_SCORE))

    @torch.no_grad()
    def set_normalisation(self, means: list[Tensor], stds: list[Tensor]) -> None:
        """Shift and scale of every layer's columns, each (D,)."""
        for norm, mean, std in zip(self.normalise, means, stds, strict=True):
            assert isinstance(norm, _Normalise)
            norm.mean.copy_(mean)
            norm.std.copy_(std)

    def rates(self) -> Mapping[str, float]:
        """Factors of the learning rate by the beginning of parameters' names."""
        rates = getattr(self.head, "rates", None)
        return {f"head.{name}": rate for name, rate in rates().items()} if rates else {}


class _Normalise(nn.Module):
    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def forward(self, vectors: Tensor) -> Tensor:
        return (vectors - self.mean) / self.std


def _padded(rows: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (N, ...) of clips with so many each -> (B, P, ...) and where there is one (B, P)."""
    longest = max(1, int(counts.max())) if len(counts) else 1
    mask = torch.arange(longest, device=rows.device) < counts[:, None]
    padded = rows.new_zeros((len(counts), longest, *rows.shape[1:]))
    padded[mask] = rows
    return padded, mask


def _built_head(spec: NetworkSpec) -> nn.Module:
    options = {key: value for key, value in spec.head.items() if key != "name"}
    built: nn.Module = HEADS.build(spec.head["name"], options).build(
        spec.inputs.shape, spec.num_classes
    )
    return built


def network_for(spec: NetworkSpec, seed: int) -> SystemNetwork:
    """A fresh network; equal for an equal seed."""
    torch.manual_seed(seed)
    return SystemNetwork(spec)


def all_logits(network: SystemNetwork, examples: Examples, device: str = "cpu") -> Tensor:
    """Logits float32 (R, N, C) of any number of examples, on the CPU."""
    network.eval()
    parts = []
    with torch.inference_mode():
        for indices in _blocks(examples):
            part = examples.take(indices)
            parts.append(network(Batch.of(part, device)).float().cpu())
    return torch.cat(parts, dim=1)


def _blocks(examples: Examples) -> list[NDArray[np.int64]]:
    """Runs of examples of so many patches; of more only where one example alone has them."""
    ends = np.asarray(examples.offsets[1:])
    at_once = _PICTURES_AT_ONCE if examples.rows[0].ndim > 2 else _ROWS_AT_ONCE
    blocks, start = [], 0
    while start < len(examples):
        limit = examples.offsets[start] + at_once
        stop = max(start + 1, int(np.searchsorted(ends, limit, side="right")))
        blocks.append(np.arange(start, stop))
        start = stop
    return blocks or [np.arange(0)]
