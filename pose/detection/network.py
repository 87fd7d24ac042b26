"""The detector's network: a backbone, a small feature pyramid and five maps at stride 8.

Persons are found as points (Zhou, 'Objects as Points', arXiv 1904.07850): one map says how much a cell is a person's
center, four say how far from it the person's box reaches. The maps are made from the backbone's features at strides
8, 16 and 32, the coarser ones upsampled and added (Lin, 'Feature Pyramid Networks', arXiv 1612.03144).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.detection.letterbox import STRIDE
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.dynamic.makers import StaticConvs
from pose.models.layers import ConvNormAct, InvertedResidual

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

COLORS = 3
"""Channels of a picture."""

MAPS = 5
"""A person's center, then left, top, right, bottom."""

PRIOR = 0.01
"""The center map's value at the start: nearly all cells are background (arXiv 1708.02002, 3.3)."""


class DetectionNet(nn.Module):
    """Pictures to maps.

    Args:
        width: The width of the MobileNetV2 backbone.
        channels: The channels of the pyramid's features at strides 32, 16 and 8.
        blocks: Inverted residuals on the features at stride 8.
        kernel_size: The kernel size of the pyramid's depthwise convolutions.
        frozen: How many of the backbone's three stages, from the first on, are to keep their weights in training.

    Attributes:
        stages: The backbone's layers up to stride 8, on to 16, on to 32.
        frozen_parts: Names of the stages that are to keep their weights, as a trainer takes them.
    """

    def __init__(
        self,
        width: float = 1.0,
        channels: Sequence[int] = (96, 96, 64),
        blocks: int = 2,
        kernel_size: int = 5,
        frozen: int = 0,
    ) -> None:
        super().__init__()
        if isinstance(width, bool) or not isinstance(width, int | float):
            raise ValueError(f"width must be a number, got {width!r}")
        counts = channels if isinstance(channels, Sequence) else ()
        if len(counts) != 3 or not all(_is_whole(count, 1) for count in counts):
            raise ValueError(f"channels must be three whole numbers of at least 1, got {channels!r}")
        for name, value in (("kernel_size", kernel_size), ("blocks", blocks), ("frozen", frozen)):
            if not _is_whole(value):
                raise ValueError(f"{name} must be a whole number, got {value!r}")
        if kernel_size < 1 or kernel_size % 2 == 0:
            raise ValueError(f"kernel_size must be odd, got {kernel_size}; the nearest is {max(kernel_size - 1, 1)}")
        if blocks < 0:
            raise ValueError(f"blocks must not be negative, got {blocks}")
        backbone = MobileNetV2(width)
        stages, features = split(backbone)
        if not 0 <= frozen <= len(stages):
            raise ValueError(f"frozen must be from 0 to {len(stages)} stages, got {frozen}")
        if any(count % 4**level for level, count in enumerate(features[:frozen])):
            raise ValueError(f"frozen: {features[:frozen]} channels cannot be packed at width {width}; freeze fewer")
        self.stages = nn.ModuleList(stages)
        maker = StaticConvs()
        strides = (32, 16, 8)
        self.frozen, self._channels = frozen, features
        self.frozen_parts = tuple(f"stages.{stage}" for stage in range(frozen))
        self.laterals = nn.ModuleList(
            ConvNormAct(maker(inputs, outputs, 1, role="lateral", input_stride=stride), outputs)
            for inputs, outputs, stride in zip(reversed(features), channels, strides, strict=True)
        )
        self.merges = nn.ModuleList(
            InvertedResidual(
                channels[level], channels[level + 1], channels[level], maker, strides[level], kernel_size, expand=False
            )
            for level in range(2)
        )
        last = channels[-1]
        self.head = nn.Sequential(
            *(InvertedResidual(last, last, 2 * last, maker, STRIDE, kernel_size) for _ in range(blocks)),
            ConvNormAct(maker(last, last, 3, groups=last, role="depthwise", input_stride=STRIDE), last),
            ConvNormAct(maker(last, 2 * last, 1, role="expand", input_stride=STRIDE), 2 * last, nn.ReLU6(inplace=True)),
        )
        self.final = nn.Conv2d(2 * last, MAPS, 1)
        with torch.no_grad():
            nn.init.normal_(self.final.weight, std=0.01)
            assert self.final.bias is not None
            self.final.bias.copy_(torch.tensor([-math.log(1 / PRIOR - 1), *4 * [math.log(2.0)]]))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised RGB to maps.

        Args:
            x: (N, 3, H, W), H and W multiples of 32; or of such pictures :meth:`frozen_features`.

        Returns:
            (N, 5, H / 8, W / 8): the center's logit, and the logarithms of the distances from a cell's center to the
            box's left, top, right and bottom in cells.
        """
        features = self._unpacked(x) if x.shape[1] != COLORS else [self.stages[0](x)]
        for stage in self.stages[len(features) :]:
            features.append(stage(features[-1]))
        x = self.laterals[0](features[2])
        for level, merge in enumerate(self.merges):
            x = F.interpolate(merge(x), scale_factor=2.0, mode="nearest")
            x = x + self.laterals[level + 1](features[1 - level])
        return self.final(self.head(x))

    def native_form(self) -> NativeSequence | None:
        """The network as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import NativeUpsample, chain

        x = chain((self.stages[2], self.laterals[0]))
        for level, merge in enumerate(self.merges):
            x = x and chain((x, merge, NativeUpsample("nearest")), self.laterals[level + 1])
            x = x and chain((self.stages[1 - level], x))
        return x and chain((x, self.head, self.final))

    def chains(self) -> list[list[nn.Module]]:
        """The layers of each stage, which run one after another, see :class:`pose.engine.frozen.FrozenParts`."""
        return [list(stage.children()) for stage in self.stages]

    def frozen_features(self, x: Tensor) -> Tensor:
        """What the frozen stages make of pictures, as one tensor: :meth:`forward` goes on from it.

        Args:
            x: (N, 3, H, W) normalised RGB.

        Returns:
            (N, C, H / 8, W / 8); features of larger strides have their pixels shuffled into the place of channels.
        """
        packed = []
        for level, stage in enumerate(self.stages[: self.frozen]):
            x = stage(x)
            packed.append(F.pixel_shuffle(x, 2**level))
        return torch.cat(packed, 1)

    def _unpacked(self, packed: Tensor) -> list[Tensor]:
        """The features of :meth:`frozen_features`, stage by stage."""
        sizes = [channels // 4**level for level, channels in enumerate(self._channels[: self.frozen])]
        return [F.pixel_unshuffle(part, 2**level) for level, part in enumerate(packed.split(sizes, 1))]


def _is_whole(value: object, least: float = -math.inf) -> bool:
    """Whether a value is a whole number from ``least`` on."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def split(backbone: MobileNetV2) -> tuple[list[nn.Sequential], list[int]]:
    """A MobileNetV2's layers up to the last at stride 8, 16 and 32, and the channels there.

    Its last block and its last layer, 320 and 1280 channels at width 1, are left out.
    """
    parts: list[list[nn.Module]] = [[backbone.stem]]
    channels, stride = [0], 2
    for block in list(backbone.blocks)[:-1]:
        assert isinstance(block, InvertedResidual)
        if block.stride == 2 and stride >= 8:
            parts.append([])
            channels.append(0)
        stride *= block.stride
        parts[-1].append(block)
        channels[-1] = block.out_channels
    return [nn.Sequential(*part) for part in parts], channels
