"""What every dynamic layer is: ``nn.Conv2d`` with a kernel for each image, and an answer to what others ask of it.

A new kind of layer is one subclass of :class:`DynamicLayer` in one file, with its parameters and its ``kernel``. With
those it trains, is deployed with its normalisation folded, counted, inflated from a static network, and exported.
Every answer has a default that holds for any such layer, and is overridden where a layer knows a better one:

* training: ``forward``, and ``native_training`` for :mod:`pose.models.native.training.layers`;
* :mod:`pose.models.deploy.folding`: ``fold``, and of what it returns ``native_form``;
* :mod:`pose.export.forms`: ``graph_form`` of what ``fold`` returns;
* :mod:`pose.models.complexity`: ``cost``;
* :mod:`pose.models.dynamic.inflate`: ``load_static``.

Folded and native forms are imported where they are asked for: a network that is built and run needs none of them.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.norm import scale_and_shift

if TYPE_CHECKING:
    from pose.models.native.training.operations import PoolCache


class DynamicCost(NamedTuple):
    """Multiply-adds of one image that a dynamic layer needs beyond its static counterpart.

    Args:
        attention: Pooling, where an addition alone counts half, and fully connected layers.
        aggregation: Making the kernel, or applying what takes its place.
    """

    attention: int
    aggregation: int


class DynamicLayer(PerImageConv2d):
    """``nn.Conv2d`` whose kernel depends on the image.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode: As for ``nn.Conv2d``.

    Attributes:
        weight: The static kernel's shape (C_out, C_in / groups, kh, kw), or a bank of K such kernels with a dimension
            more in front.
        bias: (C_out,) or (K, C_out); None for none.
        recompute: In training, make the kernels again for the backward pass instead of keeping N of them, where the
            layer can.
    """

    weight: nn.Parameter
    bias: nn.Parameter | None
    recompute = False

    def kernel(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The kernel of each image of (N, C_in, H, W), N at least 1.

        Returns:
            weight (N, C_out, C_in / groups, kh, kw) and bias (N, C_out) or None.
        """
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        return self.convolve(x, *self.kernel(x))

    def native_training(self, pool_cache: PoolCache) -> nn.Module | None:
        """The form that trains by native operations; None where there is none.

        A class speaks for itself here, not for its subclasses, whose kernels may be others.

        Args:
            pool_cache: Has the averages of the input where a native normalisation made it; set its ``wanted``.
        """
        return None

    @torch.no_grad()
    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> nn.Module:
        """The layer and the normalisation after it, for inference.

        Args:
            norm: The normalisation, in evaluation mode; None for none.
            bank_dtype: Precision of kernels that are large in memory, float32 or bfloat16; a layer may keep float32.
        """
        return FoldedDynamicLayer(self, norm)

    def cost(self, height: int, width: int) -> DynamicCost:
        """Multiply-adds of one image beyond the static layer's: by default all fully connected layers in it and the
        pooling of its input, and one product for each value of ``weight`` and ``bias``.

        Args:
            height, width: Size of the input.
        """
        linears = sum(layer.weight.numel() for layer in self.modules() if isinstance(layer, nn.Linear))
        values = sum(parameter.numel() for parameter in (self.weight, self.bias) if parameter is not None)
        return DynamicCost(linears + self.in_channels * height * width // 2, values)

    def kernel_bytes(self, batch_size: int) -> int:
        """Bytes of a batch's kernels, which training keeps from the forward to the backward pass."""
        return batch_size * math.prod(self.static_shapes()["weight"]) * self.weight.element_size()

    def static_shapes(self) -> dict[str, torch.Size]:
        """Names and shapes of the parameters of the static layer that this one stands for."""
        kernel = torch.Size((self.out_channels, self.in_channels // self.groups, *self.kernel_size))
        return {"weight": kernel} if self.bias is None else {"weight": kernel, "bias": kernel[:1]}

    @torch.no_grad()
    def load_static(self, weight: Tensor, bias: Tensor | None, noise: float = 0.0) -> None:
        """Takes a static layer's weights, so that the outputs are that layer's at the start.

        By default every kernel of a bank is the static one, which is enough where their shares sum to one.

        Args:
            weight: (C_out, C_in / groups, kh, kw).
            bias: (C_out,); None where the layer has none.
            noise: Copies of the kernel get normal noise of this fraction of the kernel's standard deviation.
        """
        self.weight.copy_(weight)
        if self.bias is not None:
            assert bias is not None
            self.bias.copy_(bias)
        if noise > 0 and self.weight.dim() > weight.dim():
            self.weight.add_(torch.randn_like(self.weight) * (noise * weight.std(correction=0)))

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> DynamicLayer:
        """``model.to(...)`` sees a bank as a matrix (K, values): memory formats raise on a 5-D bank."""

        def apply(tensor: Tensor) -> Tensor:
            return fn(tensor.flatten(1)).view(tensor.shape) if tensor.dim() == 5 else fn(tensor)

        return super()._apply(apply, recurse)


class FoldedDynamicLayer(PerImageConv2d):
    """Any dynamic layer and the normalisation after it: the kernels that the layer makes are scaled.

    Args:
        layer: The layer.
        norm: The normalisation, in evaluation mode; None for none.
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, layer: DynamicLayer, norm: nn.BatchNorm2d | None = None) -> None:
        nn.Module.__init__(self)
        self.copy_geometry(layer)
        self.layer = copy.deepcopy(layer).eval()
        scale, shift = scale_and_shift(norm, layer.out_channels, torch.float64, layer.weight.device)
        self.register_buffer("scale", scale.float())
        self.register_buffer("shift", shift.float())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        weight, bias = self.layer.kernel(x)
        weight = weight * self.scale[:, None, None, None]
        bias = self.shift.expand(weight.shape[0], -1) if bias is None else torch.addcmul(self.shift, bias, self.scale)
        return self.convolve(x, weight, bias)
