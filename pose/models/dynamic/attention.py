"""Attention over the kernels of dynamic convolution, and its temperature.

Chen et al., 'Dynamic Convolution: Attention over Convolution Kernels', CVPR 2020, arXiv 1912.03458, section 3:

    pi = softmax(z / tau)                                                             (eq. 5)
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from pose.models.native.training.dynamic_forms import NativeTrainedAttention
    from pose.models.native.training.operations import PoolCache

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

    temperature: Tensor

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
        self.fc1: nn.Linear | None = None
        self.activation = activation
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        if activation == "softmax":
            hidden = max(in_channels // reduction, 1)
            self.fc1 = nn.Linear(in_channels, hidden, **place)
            self.fc2 = nn.Linear(hidden, num_kernels, **place)
        else:
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

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedAttention:
        """Its form for native training."""
        from pose.models.native.training.dynamic_forms import NativeTrainedAttention

        return NativeTrainedAttention.of(self, pool_cache)

    def extra_repr(self) -> str:
        return f"num_kernels={self.num_kernels}, temperature={self.temperature.item():g}, {self.activation}"


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
