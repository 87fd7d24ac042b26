"""Layers in the forms that runtimes compute fastest, in a graph of one image.

With one image a kernel made for it is one kernel, and its layer an ordinary convolution whose weight is computed:
runtimes fuse bias, activation and shortcut into it, which they do not do for batched matrix products. A free batch
size is the business of :mod:`pose.export.batch_scan`. What is measured, by layer, is in docs/benchmarks.md:

* 1 x 1 and k x k: a convolution with a computed weight, which on many pixels costs no more than the static one;
* depthwise in OpenVINO: the same;
* depthwise in ONNX Runtime, which copies every channel's windows for computed weights: K convolutions with constant
  kernels, their inputs scaled by the shares and each added to the last, save for small kernels on many pixels.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.folded import FoldedDynamicConv2d

RUNTIMES = ("onnxruntime", "onnxruntime-here", "openvino")
"""What a file is made for. Files for ``onnxruntime`` and ``openvino`` run in both, and on any processor."""

COPIED_PIXELS = 768
"""From here on copying the windows of a kernel up to 3 x 3 costs ONNX Runtime less than K convolutions."""


def one_image(deployed: nn.Module, runtime: str) -> nn.Module:
    """A copy of a network deployed with ``fused=False`` in the forms that are fastest for one image."""
    return _replaced(copy.deepcopy(deployed), runtime)


def _replaced(module: nn.Module, runtime: str) -> nn.Module:
    for name, child in module.named_children():
        setattr(module, name, _replaced(child, runtime))
    if isinstance(module, DynamicBranch):
        return BranchForm(module)
    if isinstance(module, DCDConv2d):
        return AssembledForm(module)
    if isinstance(module, FoldedDynamicConv2d) and module.groups > 1 and runtime != "openvino":
        return DepthwiseForm(module)
    return module


class DepthwiseForm(nn.Module):
    """A depthwise :class:`~pose.models.dynamic.folded.FoldedDynamicConv2d` as a chain of constant convolutions.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: FoldedDynamicConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C_out, H', W')."""
        layer = self.layer
        pixels = int(x.shape[2]) // layer.stride[0] * (int(x.shape[3]) // layer.stride[1])
        if max(layer.kernel_size) <= 3 and pixels >= COPIED_PIXELS:
            return layer(x)
        shares = layer.attend(x)
        x, y = layer.pad(x), None
        for index, kernel in enumerate(layer.bank.view(-1, layer.out_channels, 1, *layer.kernel_size)):
            scaled, bias = x * shares[:, index, None, None, None], layer.bias if index == 0 else None
            answer = F.conv2d(scaled, kernel, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
            y = answer if y is None else answer + y
        return y if layer.biases is None else y + (shares @ layer.biases)[:, :, None, None]


class AssembledForm(nn.Module):
    """A :class:`~pose.models.dynamic.dcd.DCDConv2d` whose residual is depthwise or joint, or that has none."""

    def __init__(self, layer: DCDConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        return self.layer.convolve(x, *self.layer.kernel(x))


class BranchForm(nn.Module):
    """A branch whose averages may be over parts of any size, which graphs have no operation for."""

    def __init__(self, branch: DynamicBranch) -> None:
        super().__init__()
        self.branch = branch
        self.to_lambda, self.to_phi = branch.to_lambda, branch.to_phi

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """As the branch."""
        if self.branch.pool_size == 1:
            return self.branch.values(x.mean((2, 3)))
        height, width = int(x.shape[2]), int(x.shape[3])
        pixel = torch.eye(height * width).view(1, -1, height, width)
        parts = F.adaptive_avg_pool2d(pixel, self.branch.pool_size).view(height * width, -1)
        return self.branch.values((x.flatten(2) @ parts).flatten(1))
