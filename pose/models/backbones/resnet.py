"""ResNet as a pose backbone (He et al., arXiv 1512.03385, Table 1; ResNet-10 has one block a stage)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from pose.models.backbones.base import Backbone
from pose.models.dynamic.makers import ConvMaker, StaticConvs
from pose.models.layers import ConvNormAct

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

STAGE_CHANNELS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3 x 3 convolutions and a shortcut.

    Args:
        in_channels: Channels of the input.
        channels: Channels of the stage; the output has ``channels * expansion``.
        make_conv: The maker of its convolutions.
        input_stride: Image pixels per pixel of the input.
        stride: Stride of the first convolution and of the shortcut.
    """

    expansion = 1

    def __init__(
        self, in_channels: int, channels: int, make_conv: ConvMaker, input_stride: int, stride: int = 1
    ) -> None:
        super().__init__()
        self.convs = nn.Sequential(
            ConvNormAct(
                make_conv(in_channels, channels, 3, stride, role="3x3", input_stride=input_stride),
                channels,
                nn.ReLU(inplace=True),
            ),
            ConvNormAct(make_conv(channels, channels, 3, role="3x3", input_stride=input_stride * stride), channels),
        )
        self.shortcut = _shortcut(in_channels, channels, make_conv, input_stride, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C, H / stride, W / stride)."""
        return self.activation(self.convs(x) + self.shortcut(x))

    def native_form(self) -> NativeSequence | None:
        """The block as one native sequence, its convolutions folded already; None where there is none."""
        return _native_block(self)


class Bottleneck(nn.Module):
    """1 x 1, 3 x 3, 1 x 1 and a shortcut; the 3 x 3 takes the stride, as in torchvision's weights.

    Args:
        As for :class:`BasicBlock`.
    """

    expansion = 4

    def __init__(
        self, in_channels: int, channels: int, make_conv: ConvMaker, input_stride: int, stride: int = 1
    ) -> None:
        super().__init__()
        out_channels = channels * self.expansion
        self.convs = nn.Sequential(
            ConvNormAct(
                make_conv(in_channels, channels, 1, role="reduce", input_stride=input_stride),
                channels,
                nn.ReLU(inplace=True),
            ),
            ConvNormAct(
                make_conv(channels, channels, 3, stride, role="3x3", input_stride=input_stride),
                channels,
                nn.ReLU(inplace=True),
            ),
            ConvNormAct(
                make_conv(channels, out_channels, 1, role="restore", input_stride=input_stride * stride), out_channels
            ),
        )
        self.shortcut = _shortcut(in_channels, out_channels, make_conv, input_stride, stride)
        self.activation = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, 4 C, H / stride, W / stride)."""
        return self.activation(self.convs(x) + self.shortcut(x))

    def native_form(self) -> NativeSequence | None:
        """The block as one native sequence, its convolutions folded already; None where there is none."""
        return _native_block(self)


DEPTHS: dict[int, tuple[type[BasicBlock] | type[Bottleneck], tuple[int, ...]]] = {
    10: (BasicBlock, (1, 1, 1, 1)),
    18: (BasicBlock, (2, 2, 2, 2)),
    50: (Bottleneck, (3, 4, 6, 3)),
}
"""Kind and number of the blocks of each stage."""


class ResNet(Backbone):
    """Images to features at a 32nd of their size.

    Args:
        depth: 10, 18 or 50.
        make_conv: The maker of the convolutions, static by default.

    Attributes:
        out_channels: Channels of the output: 512, or 2048 for ResNet-50.
        out_stride: Image pixels per pixel of the output, 32.

    Raises:
        ValueError: There is no such depth.
    """

    def __init__(self, depth: int = 18, make_conv: ConvMaker | None = None) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise ValueError(f"depth must be one of {', '.join(map(str, DEPTHS))}, got {depth}")
        make_conv = make_conv or StaticConvs()
        block, counts = DEPTHS[depth]
        in_channels = STAGE_CHANNELS[0]
        self.stem = ConvNormAct(
            make_conv(3, in_channels, 7, 2, role="stem", input_stride=1), in_channels, nn.ReLU(inplace=True)
        )
        self.pool = nn.MaxPool2d(3, 2, 1)
        input_stride = 4
        blocks = []
        for stage, (channels, count) in enumerate(zip(STAGE_CHANNELS, counts, strict=True)):
            for index in range(count):
                stride = 2 if stage > 0 and index == 0 else 1
                blocks.append(block(in_channels, channels, make_conv, input_stride, stride))
                in_channels = channels * block.expansion
                input_stride *= stride
        self.blocks = nn.Sequential(*blocks)
        self.out_channels = in_channels
        self.out_stride = 32

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB to (N, ``out_channels``, H / 32, W / 32)."""
        return self.blocks(self.pool(self.stem(x)))

    def native_form(self) -> NativeSequence | None:
        """The backbone as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        return chain((self.stem, self.pool, self.blocks))


def _native_block(block: BasicBlock | Bottleneck) -> NativeSequence | None:
    """A folded block as one native sequence, whose last layer activates after the shortcut."""
    from pose.models.native import ACTIVATIONS
    from pose.models.native.inference.layers import NativeLayer, NativeSequence, chain

    if not isinstance(block.convs, NativeSequence) or type(block.activation) not in ACTIVATIONS:
        return None
    whole = chain(list(block.convs.layers), block.shortcut)
    if whole is not None:
        last = whole.layers[-1]
        assert isinstance(last, NativeLayer)
        last.activation = ACTIVATIONS[type(block.activation)]
    return whole


def _shortcut(in_channels: int, out_channels: int, make_conv: ConvMaker, input_stride: int, stride: int) -> nn.Module:
    """The identity where it fits, else a 1 x 1."""
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    conv = make_conv(in_channels, out_channels, 1, stride, role="shortcut", input_stride=input_stride)
    return ConvNormAct(conv, out_channels)
