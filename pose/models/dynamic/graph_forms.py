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
        batch: ``one`` image, or ``any`` number of them by unfolding, which is slower.
    """

    pointwise: str = "computed"
    depthwise: str = "computed"
    spatial: str = "computed"
    decomposed: str = "fewest"
    copied_pixels: int | None = None
    batch: str = "one"


def convolve_one_image(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """:func:`~pose.models.dynamic.per_image_conv.convolve_per_image` of one image, in operations that converters know.

    No indexing among them: pnnx makes of ``weight[0]`` a layer that ncnn lacks.
    """
    kernel = weight.reshape([int(side) for side in weight.shape[1:]])
    return F.conv2d(x, kernel, None if bias is None else bias.reshape(-1), stride, padding, dilation, groups)


def multiply_one_image(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """:func:`convolve_one_image`, with layers of single pixels as a matrix product."""
    if tuple(weight.shape[3:]) != (1, 1) or groups > 1 or padding != (0, 0) or stride != (1, 1):
        return convolve_one_image(x, weight, bias, stride, padding, dilation, groups)
    height, width = int(x.shape[2]), int(x.shape[3])
    y = torch.matmul(weight.flatten(2), x.flatten(2))
    y = y if bias is None else y + bias.reshape(1, -1, 1)
    return y.reshape(1, int(weight.shape[1]), height, width)


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
