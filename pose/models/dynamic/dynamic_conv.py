"""Dynamic convolution: K kernels mixed per image by attention.

Chen et al., 'Dynamic Convolution: Attention over Convolution Kernels', CVPR 2020,
arXiv 1912.03458, section 3:

    y = g(W(x) * x + b(x)),  W(x) = sum_k pi_k(x) W_k,  b(x) = sum_k pi_k(x) b_k      (eq. 1)
    pi = softmax(z / tau)                                                             (eq. 5)

Normalisation and the activation g follow outside, as they do after ``nn.Conv2d``.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from pose.models.dynamic.per_image_conv import PerImageConv2d

TEMPERATURE = 30.0
"""tau of the paper's pose training; its ImageNet training anneals from here to 1."""


class KernelAttention(nn.Module):
    """Attention over kernels: global average pool, FC, ReLU, FC, softmax with a temperature.

    Both FCs are initialised with Kaiming's fan-out rule, which gives the near one-hot softmax at
    tau = 1 that the paper's Table 6 describes; torch's default is nearly uniform and stays so.
    The temperature is a buffer: a checkpoint carries the value that its weights were trained with.

    Args:
        in_channels: C.
        num_kernels: K, at least 1.
        temperature: tau of the softmax, positive.
        reduction: The hidden layer has max(C // reduction, 1) units.
        activation: ``softmax``, or ``sigmoid`` as in CondConv (arXiv 1904.04971, eq. 2), which has
            no hidden layer and no temperature.
        device, dtype: As for ``nn.Linear``.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        in_channels: int,
        num_kernels: int = 4,
        temperature: float = TEMPERATURE,
        reduction: int = 4,
        activation: str = "softmax",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_kernels < 1:
            raise ValueError(f"num_kernels must be at least 1, got {num_kernels}")
        if reduction < 1:
            raise ValueError(f"reduction must be at least 1, got {reduction}")
        if activation not in ("softmax", "sigmoid"):
            raise ValueError(f"attention activation must be softmax or sigmoid, got {activation!r}")
        self.num_kernels = num_kernels
        self.activation = activation
        place = {"device": device, "dtype": dtype}
        if activation == "softmax":
            hidden = max(in_channels // reduction, 1)
            self.fc1 = nn.Linear(in_channels, hidden, **place)
            self.fc2 = nn.Linear(hidden, num_kernels, **place)
        else:
            self.fc1 = None
            self.fc2 = nn.Linear(in_channels, num_kernels, **place)
        self.register_buffer("temperature", torch.ones((), device=device))
        self.set_temperature(temperature)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws the FC weights anew; biases are zero."""
        for layer in (self.fc1, self.fc2):
            if layer is not None:
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(layer.bias)

    def set_temperature(self, temperature: float) -> None:
        """Sets tau.

        Raises:
            ValueError: It is not positive and finite.
        """
        if not 0 < temperature < math.inf:
            raise ValueError(f"temperature must be positive and finite, got {temperature}")
        self.temperature.fill_(temperature)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K), in the weights' precision whatever autocast says."""
        with torch.autocast(x.device.type, enabled=False):
            pooled = x.mean(dim=(2, 3), dtype=self.fc2.weight.dtype)
            if self.fc1 is not None:
                pooled = F.relu(self.fc1(pooled), inplace=True)
            logits = self.fc2(pooled)
            return (logits / self.temperature).softmax(dim=1) if self.activation == "softmax" else logits.sigmoid()

    def extra_repr(self) -> str:
        return f"num_kernels={self.num_kernels}, temperature={self.temperature.item():g}, {self.activation}"


class DynamicConv2d(PerImageConv2d):
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
        recompute: In training, mix the kernels again for the backward pass instead of keeping N of them.

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
        place = {"device": device, "dtype": dtype}
        self.attention = KernelAttention(in_channels, num_kernels, temperature, reduction, attention, **place)
        bank = (num_kernels, out_channels, in_channels // groups, *self.kernel_size)
        self.weight = nn.Parameter(torch.empty(bank, **place))
        self.bias = nn.Parameter(torch.empty(num_kernels, out_channels, **place)) if bias else None
        self.reset_parameters()

    recompute = False

    @property
    def num_kernels(self) -> int:
        """K."""
        return self.weight.shape[0]

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DynamicConv2d:
        """``model.to(...)`` sees the bank as a matrix (K, values): memory formats raise on a 5-D bank."""

        def apply(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten(1)).view(tensor.shape) if tensor.dim() == 5 else fn(tensor)

        return super()._apply(apply, recurse)

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


def attentions(model: nn.Module) -> list[KernelAttention]:
    """Every attention of a model, in the order of its modules."""
    return [module for module in model.modules() if isinstance(module, KernelAttention)]


def set_temperature(model: nn.Module, temperature: float) -> None:
    """Sets tau in every attention of a model.

    Raises:
        ValueError: It is not positive and finite.
    """
    for attention in attentions(model):
        attention.set_temperature(temperature)


def linear_temperature(epoch: float, start: float, end: float, epochs: float) -> float:
    """tau of an epoch: from ``start`` to ``end`` in a straight line, then constant.

    The paper's ImageNet schedule is ``linear_temperature(epoch, 30, 1, 10)``; its pose training
    is constant at 30.

    Args:
        epoch: Epochs finished, from 0; may be fractional.
        start, end: tau at epoch 0 and from epoch ``epochs`` on, positive.
        epochs: Length of the line; 0 gives ``end`` at once.

    Raises:
        ValueError: A value is out of range; the message names it.
    """
    for name, value in (("start", start), ("end", end)):
        if not 0 < value < math.inf:
            raise ValueError(f"{name} must be positive and finite, got {value}")
    for name, value in (("epoch", epoch), ("epochs", epochs)):
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")
    return end if epoch >= epochs else start + (end - start) * epoch / epochs
