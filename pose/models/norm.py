"""Batch normalisation that also takes one value per channel, and a normalisation as scale and shift."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from pose.models.native.training.forms import NativeTrainedBatchNorm2d
    from pose.models.native.training.operations import PoolCache


class SafeBatchNorm2d(nn.BatchNorm2d):
    """``nn.BatchNorm2d``; where a training batch has one value per channel, the running statistics stand in.

    One value has no deviation, and torch refuses it: a batch of one image whose features shrank
    to 1 x 1. Such a batch is normalised as in evaluation and leaves the running statistics alone.
    """

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        if self.training and x.numel() == x.shape[1] and self.track_running_stats:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps)
        return super().forward(x)

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedBatchNorm2d:
        """Its form for native training."""
        from pose.models.native.training.forms import NativeTrainedBatchNorm2d

        return NativeTrainedBatchNorm2d.of(self, pool_cache)


def scale_and_shift(
    norm: nn.BatchNorm2d | None, channels: int, dtype: torch.dtype | None = None, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """The factor and the addend of a normalisation in evaluation mode, each (C,): y = scale x + shift.

    Args:
        norm: The normalisation; None for none, whose scale is 1 and whose shift is 0.
        channels: C.
        dtype: Precision of the result; the normalisation's own where it is None.
        device: Device of the result where there is no normalisation.
    """
    if norm is None:
        place: dict[str, Any] = {"dtype": dtype, "device": device}
        return torch.ones(channels, **place), torch.zeros(channels, **place)
    assert norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var.to(dtype) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias
