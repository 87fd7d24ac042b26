"""MobileNetV3-Small as a pose backbone (Howard et al., arXiv 1905.02244, Table 2).

Both dynamic-convolution tables fit the first version of that paper: a squeeze-and-excitation after
the last 1 x 1 and 1280 hidden channels in the classifier. torchvision's network has neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn

from pose.models.backbones.base import Backbone
from pose.models.dynamic.makers import ConvMaker, StaticConvs
from pose.models.layers import ConvNormAct, InvertedResidual, SqueezeExcitation, round_channels

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

BLOCKS = (
    # kernel, hidden channels, channels, squeeze-and-excitation, activation, stride
    (3, 16, 16, True, nn.ReLU, 2),
    (3, 72, 24, False, nn.ReLU, 2),
    (3, 88, 24, False, nn.ReLU, 1),
    (5, 96, 40, True, nn.Hardswish, 2),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 240, 40, True, nn.Hardswish, 1),
    (5, 120, 48, True, nn.Hardswish, 1),
    (5, 144, 48, True, nn.Hardswish, 1),
    (5, 288, 96, True, nn.Hardswish, 2),
    (5, 576, 96, True, nn.Hardswish, 1),
    (5, 576, 96, True, nn.Hardswish, 1),
)
STEM_CHANNELS = 16
LAST_CHANNELS = 576
SQUEEZE = 4
"""Channels over hidden channels of a squeeze-and-excitation."""

FORMS = {"paper": 1280, "torchvision": 1024}
"""Hidden channels of each form's classifier."""


class MobileNetV3Small(Backbone):
    """Images to features at a 32nd of their size.

    Args:
        form: ``paper`` for its first version, or ``torchvision`` for the network whose ImageNet
            weights torchvision has: no squeeze-and-excitation after the last 1 x 1, and its
            batch normalisation's constants.
        make_conv: The maker of the convolutions, static by default.

    Attributes:
        out_channels: Channels of the output, 576.
        out_stride: Image pixels per pixel of the output, 32.
        classifier_channels: Channels of the hidden layer that this form's ImageNet classifier has.

    Raises:
        ValueError: There is no such form.
    """

    def __init__(self, form: str = "paper", make_conv: ConvMaker | None = None) -> None:
        super().__init__()
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}")
        make_conv = make_conv or StaticConvs()
        channels = STEM_CHANNELS
        self.stem = ConvNormAct(
            make_conv(3, channels, 3, 2, role="stem", input_stride=1), channels, nn.Hardswish(inplace=True)
        )
        input_stride = 2
        blocks = []
        for kernel_size, hidden_channels, out_channels, squeezes, activation, stride in BLOCKS:
            blocks.append(
                InvertedResidual(
                    channels,
                    out_channels,
                    hidden_channels,
                    make_conv,
                    input_stride,
                    kernel_size,
                    stride,
                    expand=hidden_channels != channels,
                    activation=activation,
                    squeeze_channels=round_channels(hidden_channels / SQUEEZE) if squeezes else None,
                )
            )
            channels = out_channels
            input_stride *= stride
        self.blocks = nn.Sequential(*blocks)
        self.last = ConvNormAct(
            make_conv(channels, LAST_CHANNELS, 1, role="last", input_stride=input_stride),
            LAST_CHANNELS,
            nn.Hardswish(inplace=True),
        )
        self.squeeze: nn.Module = nn.Identity()
        if form == "paper":
            self.squeeze = SqueezeExcitation(LAST_CHANNELS, LAST_CHANNELS // SQUEEZE)
        else:
            for module in self.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eps, module.momentum = 1e-3, 1e-2
        self.out_channels = LAST_CHANNELS
        self.out_stride = 32
        self.classifier_channels = FORMS[form]

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB to (N, 576, H / 32, W / 32)."""
        return self.squeeze(self.last(self.blocks(self.stem(x))))

    def native_form(self) -> NativeSequence | None:
        """The backbone as one native sequence, its layers folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        squeeze = self.squeeze.native_form() if isinstance(self.squeeze, SqueezeExcitation) else self.squeeze
        return chain((self.stem, self.blocks, self.last, squeeze))
