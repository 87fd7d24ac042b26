"""What the networks are built from: conv-norm-activation, squeeze-and-excitation, inverted residual.

Native forms are imported where they are asked for: a network that is built and run by torch needs none of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.makers import ConvMaker
from pose.models.norm import SafeBatchNorm2d

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence, NativeSqueezeExcitation
    from pose.models.native.training.forms import NativeTrainedConvNormAct, NativeTrainedInvertedResidual
    from pose.models.native.training.operations import PoolCache


class ConvNormAct(nn.Module):
    """Convolution, batch normalisation, activation (or none)."""

    def __init__(self, conv: nn.Module, channels: int, activation: nn.Module | None = None) -> None:
        super().__init__()
        self.conv = conv
        self.norm = SafeBatchNorm2d(channels)
        self.activation = activation if activation is not None else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        return self.activation(self.norm(self.conv(x)))

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedConvNormAct:
        """Its form for native training."""
        from pose.models.native.training.forms import NativeTrainedConvNormAct

        return NativeTrainedConvNormAct.of(self, pool_cache)


class SqueezeExcitation(nn.Module):
    """Channels scaled by what their averages say (arXiv 1709.01507; hard sigmoid as in MobileNetV3).

    Args:
        channels: C.
        squeeze_channels: Channels of the hidden layer.
    """

    def __init__(self, channels: int, squeeze_channels: int) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(channels, squeeze_channels, 1)
        self.fc2 = nn.Conv2d(squeeze_channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        scale = F.adaptive_avg_pool2d(x, 1)
        return x * F.hardsigmoid(self.fc2(F.relu(self.fc1(scale), inplace=True)))

    def native_form(self) -> NativeSqueezeExcitation:
        """The native layer for inference, which needs a native one before it."""
        from pose.models.native.inference.layers import NativeSqueezeExcitation

        return NativeSqueezeExcitation(self.fc1, self.fc2)


class InvertedResidual(nn.Module):
    """MobileNet's bottleneck: expand, depthwise, squeeze-and-excitation (V3), project.

    MobileNetV2 (arXiv 1801.04381, Figure 4) and V3 (arXiv 1905.02244, Figure 4). The input is added
    to the output where stride and channels allow it.

    Args:
        in_channels, out_channels: The numbers of channels.
        hidden_channels: Channels of the depthwise convolution.
        make_conv: The maker of its convolutions.
        input_stride: Image pixels per pixel of the input.
        kernel_size, stride: Kernel size and stride of the depthwise convolution.
        expand: Whether there is an expanding 1 x 1; without it ``hidden_channels`` is ``in_channels``.
        activation: Makes the activations after expand and depthwise.
        squeeze_channels: Channels of the squeeze-and-excitation's hidden layer; None for no such layer.

    Attributes:
        stride, out_channels: As given.

    Raises:
        ValueError: ``hidden_channels`` differs from ``in_channels`` without ``expand``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        hidden_channels: int,
        make_conv: ConvMaker,
        input_stride: int,
        kernel_size: int = 3,
        stride: int = 1,
        expand: bool = True,
        activation: Callable[..., nn.Module] = nn.ReLU6,
        squeeze_channels: int | None = None,
    ) -> None:
        super().__init__()
        if not expand and hidden_channels != in_channels:
            raise ValueError(f"hidden_channels must be {in_channels} without expand, got {hidden_channels}")
        self.stride, self.out_channels = stride, out_channels
        self.has_shortcut = stride == 1 and in_channels == out_channels
        self.expand = (
            ConvNormAct(
                make_conv(in_channels, hidden_channels, 1, role="expand", input_stride=input_stride),
                hidden_channels,
                activation(inplace=True),
            )
            if expand
            else nn.Identity()
        )
        self.depthwise = ConvNormAct(
            make_conv(
                hidden_channels,
                hidden_channels,
                kernel_size,
                stride,
                hidden_channels,
                role="depthwise",
                input_stride=input_stride,
            ),
            hidden_channels,
            activation(inplace=True),
        )
        self.squeeze = (
            nn.Identity() if squeeze_channels is None else SqueezeExcitation(hidden_channels, squeeze_channels)
        )
        self.project = ConvNormAct(
            make_conv(hidden_channels, out_channels, 1, role="project", input_stride=input_stride * stride),
            out_channels,
        )

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        y = self.project(self.squeeze(self.depthwise(self.expand(x))))
        return x + y if self.has_shortcut else y

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedInvertedResidual:
        """Its form for native training."""
        from pose.models.native.training.forms import NativeTrainedInvertedResidual

        return NativeTrainedInvertedResidual.of(self, pool_cache)

    def native_form(self) -> NativeSequence | None:
        """The block as one native sequence, its convolutions folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        squeeze = self.squeeze.native_form() if isinstance(self.squeeze, SqueezeExcitation) else self.squeeze
        layers = (self.expand, self.depthwise, squeeze, self.project)
        return chain(layers, nn.Identity() if self.has_shortcut else None)


def round_channels(channels: float, divisor: int = 8) -> int:
    """The multiple of ``divisor`` nearest to ``channels`` that is not below 90 % of it (MobileNet's rule)."""
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded
