"""Dynamic layers as inference wants them: normalisation and constants folded in, nothing left to work out twice.

A normalisation after the layer scales and shifts its channels: y = s (W * x + b) + t. The scale goes into
every kernel. The shift is one for all kernels: with softmax attention the shares sum to one, and with
sigmoid attention (CondConv), whose shares do not, it must not be multiplied by them either.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.dynamic.per_image_conv import PerImageConv2d

BANK_DTYPES = (torch.float32, torch.bfloat16)


def scale_and_shift(norm: nn.BatchNorm2d | None, channels: int) -> tuple[Tensor, Tensor]:
    """s and t of a normalisation in evaluation mode, each (C,), in float64; 1 and 0 where there is none."""
    if norm is None:
        return torch.ones(channels, dtype=torch.float64), torch.zeros(channels, dtype=torch.float64)
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = -norm.running_mean * scale
    return scale, shift if norm.bias is None else shift + norm.bias


def copy_geometry(target: PerImageConv2d, layer: PerImageConv2d) -> None:
    """Gives a folded layer the geometry of the layer that it stands for."""
    for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
        setattr(target, name, getattr(layer, name))
    target.padding_mode, target.outer_padding = layer.padding_mode, layer.outer_padding


class FoldedDynamicConv2d(PerImageConv2d):
    """:class:`~pose.models.dynamic.dynamic_conv.DynamicConv2d` and the normalisation after it.

    Args:
        layer: The layer.
        norm: In evaluation mode; None for none.
        bank_dtype: Of the kernels and of the attention's first matrix, the two that are large; all else is
            float32.

    Attributes:
        w1, b1: (hidden, C_in) and (hidden,) of the attention; None with sigmoid attention.
        w2, b2: (K, hidden) and (K,), divided by the temperature.
        bank: (K, C_out x C_in / groups x kh x kw), scaled.
        bias: (C_out,) shared by all kernels.
        biases: (K, C_out) mixed like the kernels; None where the layer has none.
    """

    def __init__(
        self, layer: DynamicConv2d, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32
    ) -> None:
        nn.Module.__init__(self)
        copy_geometry(self, layer)
        attention = layer.attention
        scale, shift = scale_and_shift(norm, layer.out_channels)
        softmax = attention.fc1 is not None
        tau = attention.temperature.double() if softmax else 1.0
        bank = layer.weight.double() * scale[:, None, None, None]
        self.register_buffer("w1", attention.fc1.weight.to(bank_dtype).contiguous() if softmax else None)
        self.register_buffer("b1", attention.fc1.bias.float() if softmax else None)
        self.register_buffer("w2", (attention.fc2.weight / tau).float().contiguous())
        self.register_buffer("b2", (attention.fc2.bias / tau).float())
        self.register_buffer("bank", bank.flatten(1).to(bank_dtype))
        self.register_buffer("bias", shift.float())
        self.register_buffer("biases", None if layer.bias is None else (layer.bias * scale).float())

    def attend(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to the kernels' shares (N, K)."""
        pooled = x.mean((2, 3))
        if self.w1 is None:
            return F.linear(pooled, self.w2, self.b2).sigmoid()
        hidden = F.linear(pooled, self.w1.to(pooled.dtype), self.b1).relu_()
        return F.linear(hidden, self.w2, self.b2).softmax(1)

    def kernels(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K) to weight (N, C_out, C_in / groups, kh, kw) and bias (N, C_out), or (1, C_out) for all images."""
        weight = (shares.to(self.bank.dtype) @ self.bank).to(shares.dtype)
        weight = weight.view(-1, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        return weight, self.bias[None] if self.biases is None else torch.addmm(self.bias, shares, self.biases)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        weight, bias = self.kernels(self.attend(x))
        return self.convolve(x, weight, bias.expand(len(x), -1))
