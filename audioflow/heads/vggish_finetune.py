"""`vggish_finetune`: VGGish trained further together with its head, on log-mel patches.

The network of Splend1d/Tomofun-Challenge-Audio-Classificaiton: 72,141,184 parameters of VGGish with
its final ReLU, and 67,983 of the head with 15 classes; there zeros that fill up short clips count
like patches, here they do not. It takes what the backbone `logmel` gives with the preset `vggish`.

Shapes: B clips, P patches of a clip, N patches of all clips, V = 96 frames, D = 64 mel bands,
C classes.
"""

from typing import ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from audioflow.heads.base import HeadShape, Rates, Takes
from audioflow.heads.sequences import AttentionPool, masked_mean
from audioflow.networks.filling import put, unfilled
from audioflow.networks.vggish import FRAMES_PER_PATCH, NUM_MELS, WEIGHTS, WIDTHS, Net, renamed
from audioflow.registry import Settings
from audioflow.weights import RANDOM, WeightsName, read_tensors, resolved

_WIDTH = WIDTHS["embedding"]
_ATTENTION = "attnpooling."
"""What the names of the attention begin with in checkpoints of the dogs."""


class VggishFinetuneSettings(Settings):
    """weights: of VGGish at the start, as for the backbone `vggish`: one of its public files by
    name, a path, or `random`. Of a checkpoint of ADEE's dogs (`Best1.ckpt`) the attention is taken,
    too; the last layer always begins anew, for its classes are in another order there.

    final_relu: a ReLU after the 128 numbers, as in all code before August 2020. trunk_rate: factor
    of the learning rate for VGGish; 0 freezes it. pool: how patches become a clip, self-attention
    or the mean. num_heads, dropout: of that attention.
    """

    weights: WeightsName = "torchvggish"
    final_relu: bool = True
    trunk_rate: float = Field(1.0, ge=0)
    pool: Literal["attention", "mean"] = "attention"
    num_heads: int = Field(4, ge=1, le=_WIDTH)
    dropout: float = Field(0.1, ge=0, lt=1)


class VggishFinetune:
    """VGGish, a pooling over patches, and an affine layer.

    known: the public weight files; they are fetched as those of the backbone `weights_of`.
    """

    Settings = VggishFinetuneSettings
    takes: ClassVar[Takes] = "picture_sequences"
    normalised: ClassVar[bool] = False
    known = WEIGHTS
    weights_of: ClassVar[str] = "vggish"

    def __init__(self, settings: VggishFinetuneSettings) -> None:
        self.settings = settings

    def build(self, shape: HeadShape, num_classes: int) -> nn.Module:
        """(B, P, 96, 64), mask (B, P) -> logits (B, C).

        On torch's meta device no weights are read. Raises `ValueError` for patches that are not 96
        frames of 64 bands and `WeightsError` where weights are missing or do not fit.
        """
        given = (shape.vectors_per_patch, shape.width)
        if given != (FRAMES_PER_PATCH, NUM_MELS):
            raise ValueError(
                f"vggish_finetune takes patches of {FRAMES_PER_PATCH} frames and {NUM_MELS} mel "
                f"bands, got {given[0]} and {given[1]}: give it the backbone logmel with the "
                "preset vggish"
            )
        if _WIDTH % self.settings.num_heads and self.settings.pool == "attention":
            raise ValueError(
                f"num_heads ({self.settings.num_heads}) does not divide the width {_WIDTH} of "
                "VGGish's vectors, which they share: give 1, 2, 4, 8, ..."
            )
        if self.settings.weights == RANDOM:
            trunk = Net(self.settings.final_relu)
            _start(trunk)
            return VggishModule(trunk, num_classes, self.settings)
        with unfilled():
            trunk = Net(self.settings.final_relu)
        module = VggishModule(trunk, num_classes, self.settings)
        if torch.get_default_device().type != "meta":
            self._begin(module)
        return module

    def _begin(self, module: "VggishModule") -> None:
        """Take the weights of a file: VGGish, and the attention where it has some."""
        path = resolved(self.settings, self.known, backbone="vggish")[0].weights
        tensors = read_tensors(path)
        put(module.trunk, renamed(tensors), path)
        attention = {name for name in tensors if name.startswith(_ATTENTION)}
        if attention and module.pool is not None:
            theirs = {name.removeprefix(_ATTENTION): tensors[name] for name in attention}
            put(module.pool.attention, theirs, path)


class VggishModule(nn.Module):
    """The network of `vggish_finetune`."""

    def __init__(self, trunk: Net, num_classes: int, settings: VggishFinetuneSettings) -> None:
        super().__init__()
        self.trunk = trunk
        self.pool: AttentionPool | None = None
        if settings.pool == "attention":
            self.pool = AttentionPool(_WIDTH, settings.num_heads, settings.dropout, residual=False)
        self.classifier = nn.Linear(_WIDTH, num_classes)
        self._rates = {"trunk.": settings.trunk_rate}

    def rates(self) -> Rates:
        """VGGish by `trunk_rate`."""
        return self._rates

    def forward(self, frames_BPVD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, C)."""
        embeddings_BPH = self._embeddings(frames_BPVD, mask_BP)
        pooled_BH = (
            masked_mean(embeddings_BPH, mask_BP)
            if self.pool is None
            else self.pool(embeddings_BPH, mask_BP)
        )
        logits: Tensor = self.classifier(pooled_BH)
        return logits

    def weights(self, frames_BPVD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, P): how much every patch counted (see `AttentionPool.weights`)."""
        if self.pool is None:
            return mask_BP / mask_BP.sum(dim=1, keepdim=True).clamp(min=1)
        return self.pool.weights(self._embeddings(frames_BPVD, mask_BP), mask_BP)

    def _embeddings(self, frames_BPVD: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, P, 128); zeros where there is no patch, which VGGish never sees."""
        embeddings_NH = self.trunk(frames_BPVD[mask_BP][:, None])["embedding"]
        blank_BPH = embeddings_NH.new_zeros(*mask_BP.shape, _WIDTH)
        return blank_BPH.masked_scatter(mask_BP[..., None], embeddings_NH)


def _start(net: Net) -> None:
    """He's initial weights: with torch's own, little would be left of a signal after 9 layers."""
    for part in net.modules():
        if isinstance(part, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            assert part.bias is not None
            nn.init.zeros_(part.bias)
