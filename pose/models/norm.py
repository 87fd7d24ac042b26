"""Batch normalisation that also takes one value per channel."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class SafeBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``; where a training batch has one value per channel, the running statistics stand in.

    One value has no deviation, and torch refuses it: a batch of one picture whose features shrank
    to 1 x 1. Such a batch is normalised as in evaluation and leaves the running statistics alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.training and x.numel() == x.shape[1] and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)
