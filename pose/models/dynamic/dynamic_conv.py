"""Dynamic convolution: K kernels mixed per image by attention.

Chen et al., 'Dynamic Convolution: Attention over Convolution Kernels', CVPR 2020,
arXiv 1912.03458, section 3:

    y = g(W(x) * x + b(x)),  W(x) = sum_k pi_k(x) W_k,  b(x) = sum_k pi_k(x) b_k      (eq. 1)
    pi = softmax(z / tau)                                                             (eq. 5)

Normalisation and the activation g follow outside, as they do after ``nn.Conv2d``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from pose.models.dynamic.attention import TEMPERATURE, KernelAttention
from pose.models.dynamic.base import DynamicLayer

if TYPE_CHECKING:
    from pose.models.dynamic.folded import FoldedDynamicConv2d
    from pose.models.native.training.dynamic_forms import NativeTrainedDynamicConv2d
    from pose.models.native.training.operations import PoolCache


class DynamicConv2d(DynamicLayer):
    """``nn.Conv2d`` whose kernel is mixed per image from K kernels (eq. 1).

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            device, dtype: As for ``nn.Conv2d``.
        num_kernels: K.
        temperature: tau of the softmax, positive.
        reduction: C_in over the attention's hidden units.
        attention: ``softmax``, or ``sigmoid`` for CondConv.

    Attributes:
        weight: (K, C_out, C_in / groups, kh, kw), each kernel initialised on its own.
        bias: (K, C_out) or None.

    Raises:
        ValueError: A value is out of range or the groups do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        num_kernels: int = 4,
        temperature: float = TEMPERATURE,
        reduction: int = 4,
        attention: str = "softmax",
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.attention = KernelAttention(in_channels, num_kernels, temperature, reduction, attention, **place)
        bank = (num_kernels, out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(bank, **place))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_channels, **place)) if bias else None
        self.reset_parameters()

    @property
    def num_kernels(self) -> int:
        """K."""
        return self.weight.shape[0]

    def reset_parameters(self) -> None:
        """Kaiming fan-out for each kernel (on the 5-D bank it would give half the deviation), zero bias."""
        for kernel in self.weight:
            nn.init.kaiming_normal_(kernel, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.attention.reset_parameters()

    def aggregate(self, attention: Tensor) -> tuple[Tensor, Tensor | None]:
        """Mixes the kernels.

        Args:
            attention: (N, K).

        Returns:
            weight (N, C_out, C_in / groups, kh, kw) and bias (N, C_out) or None.
        """
        with torch.autocast(attention.device.type, enabled=False):
            weight = (attention @ self.weight.flatten(1)).view(-1, *self.weight.shape[1:])
            return weight, None if self.bias is None else attention @ self.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        attention = self.attention(x)
        if self.recompute and self.training and torch.is_grad_enabled():
            return checkpoint(self._mixed, x, attention, use_reentrant=False, preserve_rng_state=False)
        return self._mixed(x, attention)

    def _mixed(self, x: Tensor, attention: Tensor) -> Tensor:
        return self.convolve(x, *self.aggregate(attention))

    def kernel(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`: W(x) and b(x) of eq. 1."""
        return self.aggregate(self.attention(x))

    @torch.no_grad()
    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> FoldedDynamicConv2d:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`: the bank and the attention's first FC."""
        from pose.models.dynamic.folded import FoldedDynamicConv2d

        return FoldedDynamicConv2d(self, norm, bank_dtype)

    @torch.no_grad()
    def load_static(self, weight: Tensor, bias: Tensor | None, noise: float = 0.0) -> None:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`.

        Softmax shares sum to one whatever they are. Sigmoids start at one half each, and every kernel times 2 / K.
        """
        super().load_static(weight, bias)
        if self.attention.activation == "sigmoid":
            nn.init.zeros_(self.attention.fc2.weight)
            nn.init.zeros_(self.attention.fc2.bias)
            for bank in (self.weight, self.bias):
                if bank is not None:
                    bank.mul_(2 / self.num_kernels)
        if noise > 0:
            self.weight.add_(torch.randn_like(self.weight) * (noise * weight.std(correction=0)))

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedDynamicConv2d:
        """Its form for native training."""
        from pose.models.native.training.dynamic_forms import NativeTrainedDynamicConv2d

        return NativeTrainedDynamicConv2d.of(self, pool_cache)
