"""How layers with a kernel for each image are written in graphs: the choices, and convolutions that converters know."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class GraphForms(NamedTuple):
    """How layers with a kernel for each image are written in a graph for a runtime; a layer takes what concerns it.

    Attributes:
        pointwise: 1 x 1 layers: ``computed``, a convolution whose weight is computed, or ``product``, a matrix product.
        depthwise: ``computed``, or ``chain``: K constant convolutions of scaled inputs, each added to the last.
        spatial: All other layers: ``computed`` or ``chain``.
        decomposed: ``assembled``, a computed kernel; ``factors``, which need none; or ``fewest`` multiply-adds of both.
        copied_pixels: From so many pixels on, kernels up to 3 x 3 are computed rather than a chain; None for never.
        computed_bias: Whether a convolution's bias may be computed as its weight may; else it is added afterwards.
        batch: ``one`` image, or ``any`` number of them by unfolding, which is slower.
    """

    pointwise: str = "computed"
    depthwise: str = "computed"
    spatial: str = "computed"
    decomposed: str = "fewest"
    copied_pixels: int | None = None
    computed_bias: bool = True
    batch: str = "one"


COMPUTED = GraphForms()
"""Computed kernels everywhere: what every converter takes."""


def convolve_one_image(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    forms: GraphForms = COMPUTED,
) -> Tensor:
    """:func:`~pose.models.dynamic.per_image_conv.convolve_per_image` of one image, in operations that converters know.

    No indexing among them: pnnx makes of ``weight[0]`` a layer that ncnn lacks.
    """
    kernel = weight.reshape([int(side) for side in weight.shape[1:]])
    if bias is not None and forms.computed_bias:
        return convolve(x, kernel, bias.reshape(-1), stride, padding, dilation, groups, forms)
    y = convolve(x, kernel, None, stride, padding, dilation, groups, forms)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


def convolve(
    x: Tensor,
    kernel: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    forms: GraphForms,
) -> Tensor:
    """A convolution of one image with a kernel (C_out, C_in / groups, kh, kw), or the matrix product that it is."""
    rows, columns = int(kernel.shape[0]), int(kernel.shape[1])
    pointwise = tuple(kernel.shape[2:]) == (1, 1) and groups == 1 and padding == (0, 0) and stride == (1, 1)
    if forms.pointwise != "product" or not pointwise:
        return F.conv2d(x, kernel, bias, stride, padding, dilation, groups)
    height, width = int(x.shape[2]), int(x.shape[3])
    y = torch.matmul(kernel.reshape(rows, columns), x.reshape(columns, height * width))
    return (y if bias is None else y + bias.reshape(-1, 1)).reshape(1, rows, height, width)


def convolve_any_batch(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """:func:`~pose.models.dynamic.per_image_conv.convolve_per_image` as a product of kernels and windows.

    It has no branch on the number of images and none that counts them as groups, so that a graph may leave it free.
    """
    sizes = zip(x.shape[2:], weight.shape[3:], stride, padding, dilation, strict=True)
    height, width = ((size + 2 * pad - gap * (side - 1) - 1) // step + 1 for size, side, step, pad, gap in sizes)
    windows = F.unfold(x, tuple(weight.shape[3:]), dilation, padding, stride).unflatten(1, (groups, -1))
    y = (weight.flatten(2).unflatten(1, (groups, -1)) @ windows).flatten(1, 2)
    return (y if bias is None else y + bias[:, :, None]).unflatten(2, (height, width))
