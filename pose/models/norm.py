"""Batch normalisation that also takes one value per channel, and a normalisation as scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.native import ACTIVATIONS
from pose.models.native.training.layers import adopt, fits
from pose.models.native.training.operations import Norm, PoolCache


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
        form = adopt(NativeTrainedBatchNorm2d, self)
        form.pool_cache = pool_cache
        return form


class NativeTrainedBatchNorm2d(SafeBatchNorm2d):
    """:class:`SafeBatchNorm2d` that normalises, activates and adds a shortcut at once.

    Attributes:
        pool_cache: Gets the averages of the output where an attention of the network wants them.
    """

    pool_cache: PoolCache

    def forward(self, x: Tensor, activation: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape."""
        code = ACTIVATIONS.get(type(activation), 0)
        known = self.affine and self.track_running_stats and self.momentum is not None
        if not (fits(self, x) and known and x.numel() > x.shape[1]):
            y = super().forward(x)
            y = y if activation is None else activation(y)
            return y if shortcut is None else shortcut + y
        self.num_batches_tracked.add_(1)
        running = (self.running_mean, self.running_var)
        constants = (self.momentum, self.eps, code, self.pool_cache.wanted)
        fused = code or activation is None or isinstance(activation, nn.Identity)
        y, averages = Norm.apply(x, self.weight, self.bias, shortcut if fused else None, running, constants)
        if not fused:
            y = activation(y)
            return y if shortcut is None else shortcut + y
        if self.pool_cache.wanted:
            self.pool_cache.put(y, averages)
        return y


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
        place = {"dtype": dtype, "device": device}
        return torch.ones(channels, **place), torch.zeros(channels, **place)
    scale = (norm.running_var.to(dtype) + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias
