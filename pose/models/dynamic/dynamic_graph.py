"""Dynamic layers in a graph of one image: a computed kernel, or constant kernels and the input scaled by shares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.graph_bytes import BANKS, LINEARS
from pose.models.dynamic.graph_forms import GraphForms, average

if TYPE_CHECKING:
    from pose.models.dynamic.folded import FoldedDynamicConv2d


class OneImageDynamic(nn.Module):
    """A :class:`~pose.models.dynamic.folded.FoldedDynamicConv2d` of one image.

    Args:
        layer: The layer.
        forms: All but ``computed_bias`` and ``batch`` are used; ``bank`` for kernels that are not depthwise.
    """

    def __init__(self, layer: FoldedDynamicConv2d, forms: GraphForms) -> None:
        super().__init__()
        self.layer, self.forms = layer, forms
        kernels = layer.bank.unflatten(1, layer.kernel_shape())
        if layer.groups > 1 and forms.depthwise == "chain":
            for index, kernel in enumerate(kernels):
                self.register_buffer(f"kernel{index}", kernel.clone())  # a part of the bank is no constant to exporters
        if self._is_depthwise() and forms.channels_last:
            self.register_buffer("bank_last", kernels[:, :, 0].permute(0, 2, 3, 1).flatten(1).contiguous())
        if self._is_pointwise() and forms.constant_pixels is not None:
            self.register_buffer("whole", kernels.flatten(2).transpose(0, 1).flatten(1).contiguous())
        bank = BANKS.get(forms.bank or "") if layer.groups == 1 else None
        self.bank = None if bank is None else bank(layer)
        first = LINEARS.get(forms.bank or "")
        self.first = None if first is None or layer.w1 is None else first(layer.w1, layer.b1)
        self.quantized: list[list[str]] = []
        if forms.bank == "linear":
            # not the second matrix, as narrow as the shares: it costs AP and no time (docs/benchmarks/runtimes.md)
            kernels = ["bank.weight"] * (self.bank is not None) + ["whole"] * hasattr(self, "whole")
            self.quantized = [names for names in (kernels, ["layer.w1"] * (layer.w1 is not None)) if names]

    def forward(self, x: Tensor) -> Tensor:
        """(1, C_in, H, W) to (1, C_out, H', W')."""
        layer = self.layer
        shares = layer.shares(average(x, self.forms), self.forms, self.first)
        form = self._chain if self._is_chain(x) else self._constant if self._is_constant(x) else self._computed
        y = form(layer.pad(x), shares)
        return y if layer.biases is None else y + (shares @ layer.biases).reshape(1, -1, 1, 1)

    def _is_chain(self, x: Tensor) -> bool:
        layer, copied = self.layer, self.forms.copied_pixels
        if layer.groups == 1 or self.forms.depthwise != "chain":
            return False
        pixels = int(x.shape[2]) // layer.stride[0] * (int(x.shape[3]) // layer.stride[1])
        return copied is None or max(layer.kernel_size) > 3 or pixels < copied

    def _is_constant(self, x: Tensor) -> bool:
        most = self.forms.constant_pixels
        return most is not None and self._is_pointwise() and int(x.shape[2]) * int(x.shape[3]) <= most

    def _constant(self, x: Tensor, shares: Tensor) -> Tensor:
        """K scaled inputs side by side, times all kernels: nothing is mixed, and K times as much multiplied."""
        rows, columns = (int(side) for side in x.shape[2:])
        pixels = x.permute(0, 2, 3, 1).reshape(rows * columns, -1)
        scaled = torch.cat([pixels * share.reshape(1, 1) for share in self._each(shares)], 1)
        y = F.linear(scaled, self.get_buffer("whole"), self.layer.bias)
        return y.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)

    def _computed(self, x: Tensor, shares: Tensor) -> Tensor:
        """A convolution whose kernel is mixed for the image, and whose bias is constant."""
        layer = self.layer
        kernel = self._kernel(shares)
        if self.forms.pointwise == "product" and self._is_pointwise():
            rows, columns = (int(side) for side in x.shape[2:])
            y = torch.bmm(kernel.reshape(1, *kernel.shape[:2]), x.reshape(1, -1, rows * columns))
            return (y + layer.bias.reshape(1, -1, 1)).reshape(1, -1, rows, columns)
        return self._convolve(x, kernel, layer.bias)

    def _kernel(self, shares: Tensor) -> Tensor:
        if self.bank is not None:
            return self.bank(shares)
        if self.forms.mixing == "sum":
            return self._sum(shares)
        if self._is_depthwise() and self.forms.channels_last:
            kernel = (shares @ self.get_buffer("bank_last")).reshape(*self.layer.kernel_size, -1, 1)
            return kernel.permute(2, 3, 0, 1)
        return (shares @ self.layer.bank).reshape(self.layer.kernel_shape())

    def _is_depthwise(self) -> bool:
        return self.layer.groups > 1 and self.layer.kernel_shape()[1] == 1

    def _is_pointwise(self) -> bool:
        layer = self.layer
        return layer.groups == 1 and layer.kernel_size == layer.stride == (1, 1) and layer.padding == (0, 0)

    def _sum(self, shares: Tensor) -> Tensor:
        kernels = self.layer.bank.unflatten(1, self.layer.kernel_shape())
        first, *others = (kernel * share for kernel, share in zip(kernels, self._each(shares), strict=True))
        for other in others:
            first = first + other
        return first

    def _chain(self, x: Tensor, shares: Tensor) -> Tensor:
        """K constant convolutions of the input scaled by each share, each added to the last."""
        y: Tensor | None = None
        for index, share in enumerate(self._each(shares)):
            part = self._convolve(x * share, self.get_buffer(f"kernel{index}"), self.layer.bias if y is None else None)
            y = part if y is None else part + y
        assert y is not None
        return y

    def _each(self, shares: Tensor) -> list[Tensor]:
        """(1, K) to K of (1, 1, 1, 1).

        No index makes these by default: it would become layers that ncnn lacks, and in ONNX Runtime two operations a
        share.
        """
        count = len(self.layer.bank)
        if self.forms.parts == "slices":
            image = shares.reshape(1, -1, 1, 1)
            return [image[:, index : index + 1] for index in range(count)]
        each = shares.split(1, 1) if count > 1 else [shares]
        return [share.reshape(1, 1, 1, 1) for share in each]

    def _convolve(self, x: Tensor, kernel: Tensor, bias: Tensor | None) -> Tensor:
        layer = self.layer
        return F.conv2d(x, kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
