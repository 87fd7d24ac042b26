"""Convolution in which every image of the batch has its own kernel: what the dynamic layers share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

if TYPE_CHECKING:
    from pose.models.dynamic.graph_forms import GraphForms
    from pose.models.native.inference.layers import NativeLayer

PADDING_MODES = ("zeros", "reflect", "replicate", "circular")


class PerImageConv2d(nn.Module):
    """``nn.Conv2d``'s arguments and geometry, without a kernel of its own.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode: As for
            ``nn.Conv2d``, ``same`` and ``valid`` included.

    Attributes:
        padding: (rows, columns) of zeros that the convolution itself adds on both sides.
        outer_padding: (left, right, top, bottom) added before it, for everything that zeros on both
            sides cannot say; None where there is nothing to add.
        operation: How the kernels are applied: :func:`convolve_per_image`, or in a graph a form of it.

    Raises:
        ValueError: A value is out of range; the message names the argument.
    """

    transposed = False
    output_padding = (0, 0)
    operation: Callable[..., Tensor]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        padding_mode: str = "zeros",
    ) -> None:
        super().__init__()
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels), ("groups", groups)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        for name, value in (("in_channels", in_channels), ("out_channels", out_channels)):
            if value % groups:
                raise ValueError(f"{name} must be divisible by groups, got {value} and {groups}")
        if padding_mode not in PADDING_MODES:
            raise ValueError(f"padding_mode must be one of {', '.join(PADDING_MODES)}, got {padding_mode!r}")
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.kernel_size = _pair(kernel_size, "kernel_size", 1)
        self.stride = _pair(stride, "stride", 1)
        self.dilation = _pair(dilation, "dilation", 1)
        self.groups = groups
        self.padding_mode = padding_mode
        rows, columns = self._sides(padding)
        if padding_mode == "zeros" and rows[0] == rows[1] and columns[0] == columns[1]:
            self.padding, self.outer_padding = (rows[0], columns[0]), None
        else:
            self.padding, self.outer_padding = (0, 0), (*columns, *rows)

    def _sides(self, padding: int | tuple[int, int] | str) -> list[tuple[int, int]]:
        """(before, after) of the rows and of the columns."""
        if padding == "same":
            if self.stride != (1, 1):
                raise ValueError(f"padding 'same' needs stride 1, got {self.stride}")
            totals = [dilation * (size - 1) for size, dilation in zip(self.kernel_size, self.dilation, strict=True)]
            return [(total // 2, total - total // 2) for total in totals]
        if isinstance(padding, str) and padding != "valid":
            raise ValueError(f"padding must be numbers, 'same' or 'valid', got {padding!r}")
        return [(side, side) for side in _pair(0 if isinstance(padding, str) else padding, "padding", 0)]

    def reset_parameters(self) -> None:
        """Draws the weights anew; a folded layer has none."""
        raise NotImplementedError

    def init_weights(self) -> None:
        """What OpenMMLab calls to let a layer initialise itself instead of Kaiming on ``weight``."""
        self.reset_parameters()

    def pad(self, x: Tensor) -> Tensor:
        """Adds ``outer_padding`` to (N, C, H, W)."""
        if self.outer_padding is None:
            return x
        return F.pad(x, self.outer_padding, "constant" if self.padding_mode == "zeros" else self.padding_mode)

    def convolve(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The convolution with this layer's geometry, by :attr:`operation`."""
        geometry = (self.stride, self.padding, self.dilation, self.groups)
        return self.operation(self.pad(x), weight, bias, *geometry)

    def centers(self, x: Tensor) -> Tensor:
        """What lies under the kernel's center at each of its places: (N, C, H, W) to (N, C, H', W')."""
        margin = tuple(step * (size // 2) for size, step in zip(self.kernel_size, self.dilation, strict=True))
        if self.outer_padding is None and self.padding == margin:  # 'same': no need to pad only to crop
            return x[:, :, :: self.stride[0], :: self.stride[1]]
        return centers(self.padded(x), self.kernel_size, self.stride, self.dilation)

    def padded(self, x: Tensor) -> Tensor:
        """(N, C, H, W) with all of its padding, the convolution's own included."""
        rows, columns = self.padding
        return F.pad(self.pad(x), (columns, columns, rows, rows))

    def copy_geometry(self, layer: PerImageConv2d) -> None:
        """Takes the geometry of another layer, as a folded layer does of the layer that it stands for."""
        for name in ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups"):
            setattr(self, name, getattr(layer, name))
        self.padding_mode, self.outer_padding = layer.padding_mode, layer.outer_padding

    def native_form(self, activation: int, bank_dtype: torch.dtype = torch.float32) -> NativeLayer | None:
        """A folded layer and the activation after it as one native layer; None where there is none.

        Args:
            activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
            bank_dtype: Precision of matrices that are large in memory, where the layer has none of its own.
        """
        return None

    def graph_form(self, forms: GraphForms) -> nn.Module:
        """The form for a graph; it may be the layer itself, whose :attr:`operation` is set already.

        Args:
            forms: What its runtime computes fastest, see :data:`pose.export.forms.FORMS`.
        """
        return self

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.outer_padding or self.padding}, dilation={self.dilation}, groups={self.groups}"
        )


def convolve_per_image(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: tuple[int, int],
    padding: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
) -> Tensor:
    """A convolution in which every image of the batch has its own kernel.

    One image is a plain convolution. A batch is a batched matrix product where the kernel is
    1 x 1, and otherwise one convolution with N x groups groups; both in NCHW, since grouped
    convolution is several times slower in channels_last.

    Args:
        x: (N, C_in, H, W); N may be 0.
        weight: (N, C_out, C_in / groups, kh, kw).
        bias: (N, C_out) or None.
        stride, padding, dilation, groups: As for ``F.conv2d``.

    Returns:
        (N, C_out, H', W').
    """
    batch, out_channels = weight.shape[:2]
    if batch == 0:  # no image, but an output of the right shape
        return F.conv2d(x, weight.sum(0), None if bias is None else bias.sum(0), stride, padding, dilation, groups)
    if batch == 1:
        return F.conv2d(x, weight[0], None if bias is None else bias[0], stride, padding, dilation, groups)
    pointwise = weight.shape[3:] == (1, 1) and groups == 1 and padding == (0, 0)
    if pointwise:
        if stride != (1, 1):
            x = x[:, :, :: stride[0], :: stride[1]]
        height, width = x.shape[2:]
        kernel, pixels = weight.flatten(2), x.flatten(2)
        y = torch.bmm(kernel, pixels) if bias is None else torch.baddbmm(bias[:, :, None], kernel, pixels)
        return y.view(batch, out_channels, height, width)
    y = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]),
        weight.flatten(0, 1),
        None if bias is None else bias.flatten(),
        stride,
        padding,
        dilation,
        groups * batch,
    )
    return y.view(batch, out_channels, *y.shape[2:])


PerImageConv2d.operation = staticmethod(convolve_per_image)


def centers(x: Tensor, kernel_size: tuple[int, int], stride: tuple[int, int], dilation: tuple[int, int]) -> Tensor:
    """What lies under the kernel's center at each of its places: (N, C, H, W), padded, to (N, C, H', W')."""
    rows, columns = (step * (size // 2) for size, step in zip(kernel_size, dilation, strict=True))
    return x[:, :, rows : x.shape[2] - rows : stride[0], columns : x.shape[3] - columns : stride[1]]


def _pair(value: int | tuple[int, int], name: str, least: int) -> tuple[int, int]:
    """An int twice, or a pair as it is; ValueError below ``least``."""
    pair = (value, value) if isinstance(value, int) else tuple(value)
    if len(pair) != 2 or any(side < least for side in pair):
        raise ValueError(f"{name} must be an int or a pair of at least {least}, got {value}")
    return pair
