"""Pose heads: features, usually at stride 32, to heatmaps at stride 4.

Type-A is the head of SimpleBaseline (arXiv 1804.06208); Type-B is the dynamic-convolution paper's
(arXiv 1912.03458, Table 9). Both start as docs/protocol.md#initialization says.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.makers import ConvMaker, StaticConvs
from pose.models.layers import InvertedResidual
from pose.models.norm import SafeBatchNorm2d

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

HEATMAP_STRIDE = 4
"""Input pixels per heatmap pixel, of every head."""


class Head(nn.Module):
    """Features to heatmaps (N, K, h, w).

    Attributes:
        upsampling: How much finer the heatmaps are than the features.
    """

    upsampling: int


class DeconvHead(Head):
    """Type-A: three deconvolutions 4 x 4 with stride 2, batch normalisation and ReLU, then a 1 x 1.

    Args:
        in_channels: Channels of the features.
        num_keypoints: K.
        channels: Channels of each deconvolution.

    Attributes:
        upsampling: How much finer the heatmaps are than the features: 8 with three deconvolutions.
    """

    def __init__(self, in_channels: int, num_keypoints: int = 17, channels: Sequence[int] = (256, 256, 256)) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for out_channels in channels:
            deconv = nn.ConvTranspose2d(in_channels, out_channels, 4, 2, 1, bias=False)
            nn.init.normal_(deconv.weight, std=0.001)
            layers += [deconv, SafeBatchNorm2d(out_channels), nn.ReLU(inplace=True)]
            in_channels = out_channels
        self.deconvs = nn.Sequential(*layers)
        self.final = _final_conv(in_channels, num_keypoints)
        self.upsampling = 2 ** len(channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, ``upsampling`` h, ``upsampling`` w)."""
        return self.final(self.deconvs(x))

    def native_form(self) -> NativeSequence | None:
        """The head as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        return chain((self.deconvs, self.final))


class BottleneckHead(Head):
    """Type-B: stages of a bilinear x 2 upsampling and MobileNetV2 bottlenecks, then a static 1 x 1.

    The first bottleneck has no expanding convolution: its depthwise convolution works on the
    features themselves. The paper's Table 9 leaves this open; its parameters and multiply-adds,
    static and dynamic, fit nothing else.

    Args:
        in_channels: Channels of the features.
        num_keypoints: K.
        make_conv: The maker of the bottlenecks' convolutions, static by default.
        stages: (expansion channels, output channels, bottlenecks) of each stage.
        kernel_size: Kernel size of the depthwise convolutions.

    Attributes:
        upsampling: How much finer the heatmaps are than the features: 8 with three stages.
    """

    def __init__(
        self,
        in_channels: int,
        num_keypoints: int = 17,
        make_conv: ConvMaker | None = None,
        stages: Sequence[tuple[int, int, int]] = ((768, 256, 2), (768, 128, 1), (384, 128, 1)),
        kernel_size: int = 5,
    ) -> None:
        super().__init__()
        make_conv = make_conv or StaticConvs()
        self.stages = nn.ModuleList()
        self.upsampling = 2 ** len(stages)
        input_stride = HEATMAP_STRIDE * self.upsampling
        for number, (hidden_channels, out_channels, count) in enumerate(stages):
            input_stride //= 2
            blocks = []
            for index in range(count):
                expand = number > 0 or index > 0
                blocks.append(
                    InvertedResidual(
                        in_channels,
                        out_channels,
                        hidden_channels if expand else in_channels,
                        make_conv,
                        input_stride,
                        kernel_size,
                        expand=expand,
                    )
                )
                in_channels = out_channels
            self.stages.append(nn.Sequential(*blocks))
        self.final = _final_conv(in_channels, num_keypoints)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, ``upsampling`` h, ``upsampling`` w)."""
        for stage in self.stages:
            x = stage(F.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False))
        return self.final(x)

    def native_form(self) -> NativeSequence | None:
        """The head as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import NativeUpsample, chain

        layers = [part for stage in self.stages for part in (NativeUpsample("bilinear"), stage)]
        return chain((*layers, self.final))


def _final_conv(in_channels: int, num_keypoints: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, num_keypoints, 1)
    with torch.no_grad():
        nn.init.normal_(conv.weight, std=0.001)
        assert conv.bias is not None
        nn.init.zeros_(conv.bias)
    return conv
