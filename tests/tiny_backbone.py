"""A small real network as a backbone, for tests of what all networks share.

It is also the shortest example of one.
"""

import torch
from torch import Tensor, nn

from audioflow.backbones.network import Network, NetworkSettings, fill
from audioflow.frontend import to_float
from audioflow.media.patches import Patching
from audioflow.weights import KnownWeights, WeightsName

SAMPLE_RATE_HZ = 8_000


class TinySettings(NetworkSettings):
    weights: WeightsName = "published"
    hop_s: float = 0.5


class Tiny:
    Settings = TinySettings
    revision = 1
    known = (KnownWeights("published", "https://example.org/tiny.safetensors", "MIT", "Nobody"),)

    def __init__(self, settings: TinySettings) -> None:
        self._settings = settings

    @property
    def input(self) -> Patching:
        return Patching(SAMPLE_RATE_HZ, 1.0, self._settings.hop_s)

    @property
    def layers(self) -> dict[str, int]:
        return {"embedding": 16}

    def to(self, device: torch.device) -> None:
        module = nn.Sequential(
            nn.Conv1d(1, 32, 64, 16), nn.BatchNorm1d(32), nn.ReLU(), nn.Conv1d(32, 16, 4)
        )
        fill(module, self._settings.weights, self._settings.seed)
        self._network = Network(module, device, self._settings)

    def embed(self, batch: Tensor) -> dict[str, Tensor]:
        return {"embedding": self._network(to_float(batch)[:, None]).mean(dim=2)}
