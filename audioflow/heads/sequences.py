"""What heads share that read a clip's patches in sequence: masks, and pooling by self-attention.

Shapes: B clips, P patches of a clip, H width of a token.
"""

import torch
from torch import Tensor, nn


def shown(patches: Tensor, mask_BP: Tensor) -> Tensor:
    """Patches (B, P, ...) with zeros where there is none, whatever stood there."""
    tail = patches.ndim - mask_BP.ndim
    return patches.masked_fill(~mask_BP.reshape(*mask_BP.shape, *[1] * tail), 0.0)


def masked_mean(values_BPH: Tensor, mask_BP: Tensor) -> Tensor:
    """(B, H) mean over the patches that there are; zeros for a clip without any."""
    counts_B1 = mask_BP.sum(dim=1, keepdim=True).clamp(min=1)
    return shown(values_BPH, mask_BP).sum(dim=1) / counts_B1


class AttentionPool(nn.Module):
    """Self-attention over a clip's patches, then the mean over them.

    residual: whether tokens are added to what attention makes of them.
    """

    def __init__(self, width: int, num_heads: int, dropout: float, *, residual: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(width, num_heads, dropout, batch_first=True)
        self._residual = residual

    def forward(self, tokens_BPH: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, H)."""
        attended_BPH, _ = self._attended(tokens_BPH, mask_BP, need_weights=False)
        if self._residual:
            attended_BPH = attended_BPH + tokens_BPH
        return masked_mean(attended_BPH, mask_BP)

    def weights(self, tokens_BPH: Tensor, mask_BP: Tensor) -> Tensor:
        """(B, P): the attention that every patch gets, mean over heads and over who pays it.

        Sums to 1 over the patches that there are (in evaluation: dropout changes the sum).
        """
        _, weights_BPP = self._attended(tokens_BPH, mask_BP, need_weights=True)
        assert weights_BPP is not None
        return masked_mean(weights_BPP, mask_BP)

    def _attended(
        self, tokens_BPH: Tensor, mask_BP: Tensor, *, need_weights: bool
    ) -> tuple[Tensor, Tensor | None]:
        tokens_BPH = shown(tokens_BPH, mask_BP)
        count = tokens_BPH.shape[0]  # not `len`, which a traced graph would take for a constant
        if not count:  # torch's attention fails on a batch of none: one of zeros, taken off again
            tokens_BPH = torch.cat([tokens_BPH, tokens_BPH.new_zeros(1, *tokens_BPH.shape[1:])])
            mask_BP = mask_BP.new_ones(1, mask_BP.shape[1])
        # Of a clip without patches attention would be NaN; it attends to zeros instead.
        hidden_BP = ~mask_BP & mask_BP.any(dim=1, keepdim=True)
        attended_BPH, weights_BPP = self.attention(
            tokens_BPH,
            tokens_BPH,
            tokens_BPH,
            key_padding_mask=hidden_BP,
            need_weights=need_weights,
        )
        return attended_BPH[:count], None if weights_BPP is None else weights_BPP[:count]
