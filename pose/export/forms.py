"""Layers in forms that a graph with a free batch size can hold.

In a graph neither the number of groups nor the branch taken may depend on the batch, so every image's own
kernel is applied by operations that broadcast over images:

* 1 x 1: a batched matrix product;
* k x k: the same on the k^2 shifted copies of the input, one below the other;
* depthwise: K ordinary convolutions with the layer's kernels, mixed afterwards, where there is a bank of them;
  a kernel that exists per image only is applied tap by tap.
"""

from __future__ import annotations

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dcd import DCDConv2d
from pose.models.dcd_branch import DynamicBranch
from pose.models.folded import FoldedDynamicConv2d
from pose.models.folded_dcd import FoldedDCDConv2d
from pose.models.per_image_conv import PerImageConv2d


def free_batch(deployed: nn.Module) -> nn.Module:
    """A copy of a network deployed with ``fused=False`` in which every layer has such a form."""
    return _replaced(copy.deepcopy(deployed))


def _replaced(module: nn.Module) -> nn.Module:
    for kind, form in FORMS.items():
        if isinstance(module, kind):
            return form(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module


class DynamicForm(nn.Module):
    """A :class:`~pose.models.folded.FoldedDynamicConv2d`, depthwise as K convolutions mixed afterwards.

    Args:
        layer: With groups 1 or a depthwise one.
    """

    def __init__(self, layer: FoldedDynamicConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        layer = self.layer
        shares = layer.attend(x)
        if layer.groups == 1:
            return convolve(layer, x, *layer.kernels(shares))
        padded = layer.pad(x)
        kernels = layer.bank.float().view(-1, layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        y = layer.bias[:, None, None]
        if layer.biases is not None:
            y = y + (shares @ layer.biases)[:, :, None, None]
        for index, kernel in enumerate(kernels):
            answer = F.conv2d(padded, kernel, None, layer.stride, layer.padding, layer.dilation, layer.groups)
            y = y + shares[:, index, None, None, None] * answer
        return y


class FactorisedForm(nn.Module):
    """A :class:`~pose.models.folded_dcd.FoldedDCDConv2d`, always factorised."""

    def __init__(self, layer: FoldedDCDConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        scale, phi = branch_values(self.layer.branch, x)
        return self.layer.factorised(x, scale, self.layer.mix(phi))


class AssembledForm(nn.Module):
    """A :class:`~pose.models.dcd.DCDConv2d` whose residual is depthwise or joint, or that has none."""

    def __init__(self, layer: DCDConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        layer = self.layer
        if layer.branch is None:
            bias = layer.bias
            return F.conv2d(layer.pad(x), layer.weight, bias, layer.stride, layer.padding, layer.dilation, layer.groups)
        scale, phi = branch_values(layer.branch, x)
        weight, bias = layer.weight[None], layer.bias[None]
        if scale is not None:
            weight = weight * scale[:, :, None, None, None]
        if phi is not None:
            residual, shift = layer.residual.kernel(phi)
            weight = weight + residual
            bias = bias if shift is None else bias + shift
        return convolve(layer, x, weight, bias)


FORMS = {FoldedDynamicConv2d: DynamicForm, FoldedDCDConv2d: FactorisedForm, DCDConv2d: AssembledForm}


def branch_values(branch: DynamicBranch, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
    """What a branch says of (N, C, H, W); averages over parts of any size, which graphs have no operation for."""
    if branch.pool_size == 1:
        return branch.values(x.mean((2, 3)))
    size, height, width = branch.pool_size, int(x.shape[2]), int(x.shape[3])
    pixel = torch.eye(height * width).view(1, -1, height, width)
    parts = F.adaptive_avg_pool2d(pixel, size).view(height * width, -1)
    return branch.values((x.flatten(2) @ parts).flatten(1))


def convolve(layer: PerImageConv2d, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """A convolution with a kernel per image.

    Args:
        layer: Its geometry; groups 1 or depthwise.
        x: (N, C_in, H, W).
        weight: (N, C_out, C_in / groups, kh, kw).
        bias: (N, C_out), or (1, C_out) for all images.

    Returns:
        (N, C_out, H', W').
    """
    rows, columns = layer.padding
    x = F.pad(layer.pad(x), (columns, columns, rows, rows)) if rows or columns else layer.pad(x)
    size = [
        (int(side) - step * (kernel - 1) - 1) // stride + 1
        for side, step, kernel, stride in zip(x.shape[2:], layer.dilation, layer.kernel_size, layer.stride, strict=True)
    ]
    shifted = []
    for a, b in itertools.product(*map(range, layer.kernel_size)):
        top, left = a * layer.dilation[0], b * layer.dilation[1]
        bottom, right = top + (size[0] - 1) * layer.stride[0] + 1, left + (size[1] - 1) * layer.stride[1] + 1
        shifted.append(x[:, :, top : bottom : layer.stride[0], left : right : layer.stride[1]])
    if layer.groups > 1:
        taps = weight.flatten(2).unbind(2)
        y = sum(tap[:, :, None, None] * part for tap, part in zip(taps, shifted, strict=True))
        return y + bias[:, :, None, None]
    pixels = torch.stack([part.flatten(2) for part in shifted], 2).flatten(1, 2)  # (N, C_in kh kw, H' W')
    return (weight.flatten(2) @ pixels + bias[:, :, None]).unflatten(2, size)
