"""How layers with a kernel for each image are written in graphs: the choices, and convolutions that converters know."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor, nn
from torch.nn import functional as F


class GraphForms(NamedTuple):
    """How layers with a kernel for each image are written in a graph for a runtime; a layer takes what concerns it.

    Attributes:
        depthwise: Grouped layers: ``computed``, a convolution whose weight is computed, or ``chain``: K constant
            convolutions of scaled inputs, each added to the last. All other layers are ``computed``.
        linear: Fully connected layers of what computes a kernel: ``product``, or ``convolution`` of one pixel.
        copied_pixels: The pixels from which kernels up to 3 x 3 are computed rather than a chain; None for never.
        computed_bias: Whether a convolution's bias may be computed as its weight may; else it is added afterwards.
        batch: ``one`` image, or ``any`` number of them by unfolding, which is slower.
        mixing: A computed kernel is the shares' ``product`` with the bank, or the ``sum`` of the scaled kernels.
        pointwise: A computed kernel of 1 x 1 is a ``convolution``'s, or multiplies the pixels as a matrix ``product``.
        bank: How a bank of bytes is written, a key of :data:`pose.models.dynamic.graph_bytes.BANKS`; None for float32.
        constant_pixels: The pixels up to which a 1 x 1 layer multiplies its input, scaled by each share and side by
            side, by all K kernels, which stay constant; None for never.
        channels_last: Averages and depthwise kernels are computed with the channels last, as convolutions are in
            runtimes that would transpose images between.
        averages: Averages of an image are an image of one pixel first (``kept``), or a row at once (``dropped``), but
            with ``channels_last``; those of its parts are pooled where they are kept and of equal size, else a product.
        parts: Shares, and blocks of joint fusion, are taken one by one by a ``split``, or by ``slices``.
        decomposed: A decomposed layer's kernel is assembled or its factors are applied, whichever is ``fewest``
            multiply-adds, or its factors are ``constant`` kernels and only Phi is computed. Depthwise layers have that
            where they are a ``chain`` as well; those of joint fusion are always their factors, with a computed kernel.
    """

    depthwise: str = "computed"
    linear: str = "product"
    copied_pixels: int | None = None
    computed_bias: bool = True
    batch: str = "one"
    mixing: str = "product"
    pointwise: str = "convolution"
    bank: str | None = None
    constant_pixels: int | None = None
    channels_last: bool = False
    averages: str = "dropped"
    parts: str = "split"
    decomposed: str = "fewest"


COMPUTED = GraphForms()
"""Computed kernels everywhere: what every converter takes."""


def average(x: Tensor, forms: GraphForms) -> Tensor:
    """The averages (N, C) of images (N, C, H, W)."""
    if forms.channels_last:
        return x.permute(0, 2, 3, 1).mean((1, 2))
    return x.mean((2, 3), keepdim=True).flatten(1) if forms.averages == "kept" else x.mean((2, 3))


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, forms: GraphForms) -> Tensor:
    """A fully connected layer: (N, C) and (C', C) to (N, C')."""
    if forms.linear != "convolution":
        return F.linear(x, weight, bias)
    rows, columns = (int(side) for side in weight.shape)
    return F.conv2d(x.reshape(-1, columns, 1, 1), weight.reshape(rows, columns, 1, 1), bias).reshape(-1, rows)


class LinearForm(nn.Module):
    """An ``nn.Linear`` in its form for graphs.

    Args:
        layer: The layer.
        forms: ``linear`` is used.
    """

    def __init__(self, layer: nn.Linear, forms: GraphForms) -> None:
        super().__init__()
        self.layer, self.forms = layer, forms

    def forward(self, x: Tensor) -> Tensor:
        """(N, C) to (N, C')."""
        return linear(x, self.layer.weight, self.layer.bias, self.forms)


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
        return F.conv2d(x, kernel, bias.reshape(-1), stride, padding, dilation, groups)
    y = F.conv2d(x, kernel, None, stride, padding, dilation, groups)
    return y if bias is None else y + bias.reshape(1, -1, 1, 1)


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
