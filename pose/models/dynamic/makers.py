"""Convolution makers: which convolutions of a network are dynamic, and how.

A network asks a *maker* for each convolution and says which role it plays and at which stride of
the image its input lies; the maker decides whether it is static or dynamic. So one architecture
file serves every kind of convolution, and which layers are dynamic is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Protocol

from torch import nn

from pose.models.dynamic.attention import TEMPERATURE
from pose.models.dynamic.dynamic_conv import DynamicConv2d

ROLES = (
    "stem",
    "expand",  # of an inverted residual
    "depthwise",
    "project",
    "reduce",  # 1 x 1s of ResNet-50's bottleneck
    "restore",
    "3x3",  # of ResNet's blocks
    "shortcut",
    "last",  # the backbone's closing 1 x 1
    "hidden",  # before the classifier
    "classifier",
)
"""Every role a convolution can play."""

STRIDES = (1, 2, 4, 8, 16, 32)
"""Image pixels per pixel of a convolution's input."""


class ConvMaker(Protocol):
    """Makes the convolution for one place of a network."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        role: str,
        input_stride: int,
    ) -> nn.Module:
        """A convolution with 'same' padding.

        Args:
            in_channels, out_channels, kernel_size, stride, groups, bias: As for ``nn.Conv2d``.
            role: One of :data:`ROLES`.
            input_stride: Image pixels per pixel of the input, e.g. 4 for 56 x 56 of 224 x 224.
        """


class StaticConvs:
    """Makes ``nn.Conv2d``, Kaiming fan-out initialised."""

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        role: str,
        input_stride: int,
    ) -> nn.Module:
        conv = nn.Conv2d(in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias)
        if role == "classifier":
            nn.init.normal_(conv.weight, std=0.01)  # MobileNetV2's and V3's
        else:
            nn.init.kaiming_normal_(conv.weight, mode="fan_out", nonlinearity="relu")
        if conv.bias is not None:
            nn.init.zeros_(conv.bias)
        return conv


class SelectedConvs:
    """Makes one kind of convolution in some places and ``nn.Conv2d`` elsewhere.

    Args:
        layer: Takes ``nn.Conv2d``'s arguments.
        roles: The roles that it plays.
        input_strides: The strides at which it does; ``None`` for all.

    Raises:
        ValueError: A role or stride is unknown.
    """

    def __init__(
        self, layer: Callable[..., nn.Module], roles: Collection[str], input_strides: Collection[int] | None = None
    ) -> None:
        if isinstance(roles, str):
            raise ValueError(f"roles must be a list, got {roles!r}")
        for name, chosen, known in (("roles", roles, ROLES), ("input_strides", input_strides or (), STRIDES)):
            unknown = [item for item in chosen if item not in known]
            if unknown:
                raise ValueError(f"{name}: {unknown[0]!r} is unknown; known are {', '.join(map(str, known))}")
        self.layer = layer
        self.roles = frozenset(roles)
        self.input_strides = frozenset(STRIDES if input_strides is None else input_strides)
        self.static = StaticConvs()

    def __call__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        groups: int = 1,
        bias: bool = False,
        *,
        role: str,
        input_stride: int,
    ) -> nn.Module:
        if role not in self.roles or input_stride not in self.input_strides:
            return self.static(
                in_channels, out_channels, kernel_size, stride, groups, bias, role=role, input_stride=input_stride
            )
        return self.layer_for(role)(
            in_channels, out_channels, kernel_size, stride, kernel_size // 2, groups=groups, bias=bias
        )

    def layer_for(self, role: str) -> Callable[..., nn.Module]:
        """What makes the layer of a role."""
        return self.layer


class DynamicConvs(SelectedConvs):
    """Makes :class:`~pose.models.dynamic.dynamic_conv.DynamicConv2d` in some places (DY-CNN).

    Args:
        roles: The roles that are dynamic (Table 5; the default is the paper's).
        input_strides: The strides at which they are; ``None`` for all (Table 4).
        num_kernels, temperature, reduction, attention: As for ``DynamicConv2d``.

    Raises:
        ValueError: A role or stride is unknown.
    """

    def __init__(
        self,
        roles: Collection[str] = ("expand", "depthwise", "project", "3x3"),
        input_strides: Collection[int] | None = None,
        num_kernels: int = 4,
        temperature: float = TEMPERATURE,
        reduction: int = 4,
        attention: str = "softmax",
    ) -> None:
        layer = partial(
            DynamicConv2d,
            num_kernels=num_kernels,
            temperature=temperature,
            reduction=reduction,
            attention=attention,
        )
        super().__init__(layer, roles, input_strides)


class CondConvs(SelectedConvs):
    """Makes CondConv layers (arXiv 1904.04971): K = 8, sigmoid attention from a single FC.

    Args:
        roles: The roles that are dynamic; by default the blocks', the last 1 x 1 and the classifier.
        input_strides: The strides at which they are; ``None`` for all.
        num_kernels: K.

    Raises:
        ValueError: A role or stride is unknown.
    """

    def __init__(
        self,
        roles: Collection[str] = ("expand", "depthwise", "project", "3x3", "last", "classifier"),
        input_strides: Collection[int] | None = None,
        num_kernels: int = 8,
    ) -> None:
        super().__init__(partial(DynamicConv2d, num_kernels=num_kernels, attention="sigmoid"), roles, input_strides)


class DCDConvs(SelectedConvs):
    """Makes :class:`~pose.models.dynamic.dcd.DCDConv2d` in some places (DCD).

    Args:
        roles: The roles that are dynamic (Table 3b); the default is the paper's recommendation:
            pointwise convolutions, ResNet's 3 x 3, and the classifier.
        input_strides: The strides at which they are; ``None`` for all.
        use_lambda, use_phi: Whether the layers have Lambda and Phi (Table 1).
        latent_multiplier: A factor on L (Table 2).
        num_blocks: Blocks of Phi (Table 3a).
        reduction: r of the dynamic branch; the paper's is 16 for ResNet and MobileNetV2 x1.0, 8 for
            the smaller widths.
        depthwise_reduction: r of depthwise layers, where it differs.
        fusion: Fusion of k x k layers.
        pool_size: As for ``DCDConv2d``; 1 gives the released ResNet-50.

    Raises:
        ValueError: A role or stride is unknown.
    """

    CLASSIFIER_CHANNELS = 32
    """L and the hidden units of the branch in a classifier, in the released implementation."""

    def __init__(
        self,
        roles: Collection[str] = ("expand", "project", "reduce", "3x3", "restore", "classifier"),
        input_strides: Collection[int] | None = None,
        use_lambda: bool = True,
        use_phi: bool = True,
        latent_multiplier: float = 1.0,
        num_blocks: int = 1,
        reduction: int = 16,
        depthwise_reduction: int | None = None,
        fusion: str = "channel",
        pool_size: int | None = None,
    ) -> None:
        from pose.models.dynamic.dcd import DCDConv2d  # few networks are decomposed

        layer = partial(
            DCDConv2d,
            use_lambda=use_lambda,
            use_phi=use_phi,
            latent_multiplier=latent_multiplier,
            num_blocks=num_blocks,
            reduction=reduction,
            fusion=fusion,
            pool_size=pool_size,
        )
        super().__init__(layer, roles, input_strides)
        self.depthwise_reduction = depthwise_reduction or reduction

    def layer_for(self, role: str) -> Callable[..., nn.Module]:
        """The classifier, depthwise layers and ResNet-50's 1 x 1s have sizes of their own."""
        if role == "classifier":
            size = self.CLASSIFIER_CHANNELS
            return partial(self.layer, latent_channels=size, hidden_channels=size, pool_size=1)
        if role == "depthwise":
            return partial(self.layer, reduction=self.depthwise_reduction)
        return partial(self.layer, latent_rule="root") if role in ("reduce", "restore") else self.layer


CONVS = {"static": StaticConvs, "dynamic": DynamicConvs, "dcd": DCDConvs, "condconv": CondConvs}
"""The makers by the name that a configuration's ``conv`` has as ``type``."""
