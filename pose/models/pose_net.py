"""PoseNet: a backbone and a head; named parts, and the one place where a configuration becomes a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose import options
from pose.models.backbones.base import Backbone
from pose.models.backbones.mobilenet_v2 import MobileNetV2
from pose.models.backbones.mobilenet_v3 import MobileNetV3Small
from pose.models.backbones.resnet import ResNet
from pose.models.dynamic.makers import CONVS, ConvMaker
from pose.models.heads import HEATMAP_STRIDE, BottleneckHead, DeconvHead, Head

if TYPE_CHECKING:
    from pose.models.native.inference.layers import NativeSequence

BACKBONES: dict[str, type[Backbone]] = {
    "mobilenet_v2": MobileNetV2,
    "mobilenet_v3_small": MobileNetV3Small,
    "resnet": ResNet,
}
HEADS: dict[str, type[Head]] = {"deconv": DeconvHead, "bottleneck": BottleneckHead}
Part = TypeVar("Part", bound=nn.Module)
CHANNEL_ORDERS = ("rgb", "bgr")

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
"""ImageNet's mean and standard deviation of RGB in [0, 1]: what networks take."""


class PoseNet(nn.Module):
    """A top-down pose network.

    Args:
        backbone: Images (N, 3, H, W) to features (N, C, H / s, W / s) with s its ``out_stride``, 32 as a rule.
        head: Features to heatmaps (N, K, H / 4, W / 4).
        channel_order: ``rgb``, or ``bgr`` where the backbone takes BGR normalized by RGB's mean and deviation, as
            SimpleBaseline's and HRNet's published ResNets do; the network's input is normalized RGB in either case.

    Raises:
        ValueError: The head does not bring the backbone's features to stride 4, or there is no such order.
    """

    def __init__(self, backbone: Backbone, head: Head, channel_order: str = "rgb") -> None:
        super().__init__()
        if channel_order not in CHANNEL_ORDERS:
            raise ValueError(f"channel_order must be one of {', '.join(CHANNEL_ORDERS)}, got {channel_order!r}")
        if backbone.out_stride != HEATMAP_STRIDE * head.upsampling:
            raise ValueError(
                f"a head that refines {head.upsampling} times needs features at stride "
                f"{HEATMAP_STRIDE * head.upsampling}, the backbone's are at {backbone.out_stride}"
            )
        self.input: nn.Module = nn.Identity() if channel_order == "rgb" else SwappedChannels()
        self.backbone = backbone
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) normalised RGB, H and W multiples of 32, to heatmaps (N, K, H / 4, W / 4)."""
        return self.head(self.backbone(self.input(x)))

    def native_form(self) -> NativeSequence | None:
        """The network as one native sequence, its parts folded already; None where there is none."""
        from pose.models.native.inference.layers import chain

        return chain((self.input, self.backbone, self.head))


class SwappedChannels(nn.Module):
    """RGB normalized by its own mean and deviation to BGR normalized by them as if it were RGB.

    It stands before the backbone, whose padding thus has the zeros that it had in training. It has no weights.
    """

    kernel: Tensor
    shift: Tensor

    def __init__(self) -> None:
        super().__init__()
        mean, std = torch.tensor(MEAN), torch.tensor(STD)
        kernel = torch.diag(std / std.flip(0)).flip(0)[:, :, None, None]
        self.register_buffer("kernel", kernel, persistent=False)
        self.register_buffer("shift", (mean.flip(0) - mean) / std, persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W) to the same shape."""
        return F.conv2d(x, self.kernel, self.shift)

    def native_form(self) -> nn.Module:
        """A native convolution of the same kernel."""
        from pose.models.native.inference.layers import fuse

        conv = nn.Conv2d(3, 3, 1)
        with torch.no_grad():
            conv.weight.copy_(self.kernel)
            assert conv.bias is not None
            conv.bias.copy_(self.shift)
        return fuse(conv, nn.Identity())


def build_pose_net(
    backbone: Mapping[str, Any], head: Mapping[str, Any], num_keypoints: int = 17, channel_order: str = "rgb"
) -> PoseNet:
    """A network from a configuration's ``model`` section.

    Args:
        backbone: ``type`` (one of :data:`BACKBONES`), the constructor's arguments, and ``conv``: the
            ``type`` of convolutions (one of :data:`~pose.models.dynamic.makers.CONVS`) and its arguments; static if
            left out.
        head: Likewise, of :data:`HEADS`.
        num_keypoints: K.
        channel_order: See :class:`PoseNet`.

    Raises:
        OptionError: A type or key does not exist or a value is refused; the message names it.
    """
    features = build_part(BACKBONES, backbone, "model.backbone")
    heatmaps = build_part(HEADS, head, "model.head", in_channels=features.out_channels, num_keypoints=num_keypoints)
    return options.call(PoseNet, {"channel_order": channel_order}, "model", backbone=features, head=heatmaps)


def build_part(choices: Mapping[str, type[Part]], section: Mapping[str, Any], where: str, **given: Any) -> Part:
    """A backbone or head from its section of a configuration.

    ``conv`` becomes the constructor's ``make_conv``; everything else is handed on.

    Args:
        choices: The types by name.
        section: ``type`` and arguments.
        where: The section's dotted path, for messages.
        given: Arguments that the program supplies; the section may not name them.

    Raises:
        OptionError: A type or key does not exist or a value is refused; the message names it.
    """
    if not isinstance(section, Mapping):
        raise options.OptionError(f"{where}: needs a dict with a 'type', got {section!r}")
    section = dict(section)
    conv = section.pop("conv", None)
    kind = section.get("type")
    part = choices.get(kind) if isinstance(kind, str) else None
    if part is not None:
        known = set(options.parameters(part))
        if "make_conv" in known:
            given["make_conv"] = make_convs(conv, f"{where}.conv")
            known.add("conv")
        elif conv is not None:
            raise options.OptionError(f"{where}.conv: {section['type']!r} has no convolutions to choose")
        options.check_keys(section, (known | {"type"}) - set(given), where)
    return options.call_typed(choices, section, where, **given)


def make_convs(conv: Mapping[str, Any] | None, where: str) -> ConvMaker:
    """The maker that a ``conv`` section names; static where there is none.

    Raises:
        OptionError: As in :func:`build_part`.
    """
    return options.call_typed(CONVS, {"type": "static"} if conv is None else conv, where)
