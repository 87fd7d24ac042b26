"""MobileNetV2 as a pose backbone (Sandler et al., arXiv 1801.04381, Table 2)."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from pose.models.backbones.base import Backbone
from pose.models.dynamic.makers import ConvMaker, StaticConvs
from pose.models.layers import ConvNormAct, InvertedResidual, round_channels

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

STAGES = (
    # expansion, channels, blocks, stride of the first block
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
LEAST_WIDTH = 0.025
"""Below it every stage has the least channels that there are, 8: the network would be the same."""

MOST_WIDTH = 16.0
"""The greatest width: 16 times as wide has 256 times the weights."""

STEM_CHANNELS = 32
LAST_CHANNELS = 1280


class MobileNetV2(Backbone):
    """Images to features at a 32nd of their size.

    The last layer has 1280 channels at every width: both papers' parameter tables agree on it.
    For small inputs both are arguments: at 128 x 96 pixels a 32nd leaves 4 x 3 places to look at.
    The stem and the last 1 x 1 have roles of their own, ``stem`` and ``last``, and are static in
    the papers' dynamic networks.

    Args:
        width: Multiplier on the channels; the papers use 1.0, 0.75, 0.5 and 0.35.
        make_conv: The maker of the convolutions, static by default.
        depth: Multiplier on the blocks of each stage (DY-CNN, Figures 6 and 7: 1.0, 0.7 and 0.5). The
            paper gives no rule for fractions: here it is the nearest number, halves down, at least 1.
        out_stride: Image pixels per feature pixel, 8, 16 or 32: stages that would go beyond keep their
            resolution.
        last_channels: Channels of the last layer.

    Attributes:
        out_channels: Channels of the output.
        out_stride: Image pixels per pixel of the output.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        width: float = 1.0,
        make_conv: ConvMaker | None = None,
        depth: float = 1.0,
        out_stride: int = 32,
        last_channels: int = LAST_CHANNELS,
    ) -> None:
        super().__init__()
        for name, value in (("width", width), ("depth", depth), ("last_channels", last_channels)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if not LEAST_WIDTH <= width <= MOST_WIDTH:
            raise ValueError(f"width must be from {LEAST_WIDTH} to {MOST_WIDTH:g}, got {width:g}")
        if out_stride not in (8, 16, 32):
            raise ValueError(f"out_stride must be 8, 16 or 32, got {out_stride}")
        make_conv = make_conv or StaticConvs()
        channels = round_channels(STEM_CHANNELS * width)
        self.stem = ConvNormAct(
            make_conv(3, channels, 3, 2, role="stem", input_stride=1), channels, nn.ReLU6(inplace=True)
        )
        input_stride = 2
        blocks = []
        for expansion, stage_channels, count, first_stride in STAGES:
            out_channels = round_channels(stage_channels * width)
            for index in range(max(math.ceil(count * depth - 0.5), 1)):
                stride = first_stride if index == 0 and input_stride < out_stride else 1
                blocks.append(
                    InvertedResidual(
                        channels,
                        out_channels,
                        channels * expansion,
                        make_conv,
                        input_stride,
                        stride=stride,
                        expand=expansion != 1,
                    )
                )
                channels = out_channels
                input_stride *= stride
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNormAct(
            make_conv(channels, last_channels, 1, role="last", input_stride=input_stride),
            last_channels,
            nn.ReLU6(inplace=True),
        )
        self.out_channels = last_channels
        self.out_stride = input_stride

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB to (N, ``out_channels``, H / ``out_stride``, W / ``out_stride``)."""
        return self.last(self.blocks(self.stem(x)))

    def native_form(self) -> NativeSequence | None:
        """The backbone as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        return chain((self.stem, self.blocks, self.last))
