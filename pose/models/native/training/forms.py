"""Layers in their native training forms: subclasses with the same parameters, buffers and names.

They differ from the layers that they are forms of in training mode on a CPU in float32 alone; everywhere else they are
what those are. :func:`pose.models.native.training.layers.use_native_training` puts them into a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models.dynamic.attention import KernelAttention
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.dcd_residual import ChannelResidual, DepthwiseResidual
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.layers import ConvNormAct, InvertedResidual
from pose.models.native import ACTIVATIONS
from pose.models.native.training.decomposed import DecomposedDepthwise, DecomposedPointwise, LatentNorms
from pose.models.native.training.operations import (
    Attend,
    Conv,
    MixedConv,
    MixedPointwise,
    Norm,
    PoolCache,
    add_bias,
    is_known,
)
from pose.models.norm import SafeBatchNorm2d

if TYPE_CHECKING:
    from typing_extensions import Self

Form = TypeVar("Form")


class NativeTrained:
    """What the native training forms share; named before the layer's class.

    Attributes:
        reads_averages: Whether the form takes the averages of its input from ``pool_cache``.
        pool_cache: The network's; normalisations put averages into it.
    """

    reads_averages = False
    pool_cache: PoolCache

    @classmethod
    def of(cls, module: nn.Module, pool_cache: PoolCache) -> Self:
        """The form of a module, which is not to be used any more."""
        form = _adopt(cls, module)
        form.pool_cache = pool_cache
        pool_cache.wanted = pool_cache.wanted or cls.reads_averages
        return form


def _adopt(form: type[Form], module: nn.Module) -> Form:
    """A module of another class with a module's parameters, buffers, children, hooks and attributes.

    Args:
        form: Related to the module's class, and in need of no other attributes.
        module: Not to be used any more.
    """
    made = form.__new__(form)
    for name, value in vars(module).items():
        made.__dict__[name] = value.copy() if isinstance(value, dict) else value
    return made


def fits(module: nn.Module, x: Tensor) -> bool:
    """Whether a layer computes natively: in training mode, on a CPU, for float32 images, without autocast."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4 and x.numel() > 0
    return module.training and plain and not torch.is_autocast_enabled("cpu")


class NativeTrainedConv2d(NativeTrained, nn.Conv2d):
    """The native training form of a depthwise or pointwise ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not fits(self, x):
            return super().forward(x)
        y = Conv.apply(x, self.weight[None], self.stride[0])
        return add_bias(y, None if self.bias is None else self.bias[None])

    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> nn.Conv2d:
        """See :meth:`pose.models.dynamic.base.DynamicLayer.fold`: an ``nn.Conv2d``."""
        conv = _adopt(nn.Conv2d, self)
        return conv if norm is None else fuse_conv_bn_eval(conv, norm)


class NativeTrainedBatchNorm2d(NativeTrained, SafeBatchNorm2d):
    """:class:`SafeBatchNorm2d` that normalises, activates and adds a shortcut at once."""

    def forward(self, x: Tensor, activation: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape."""
        code = ACTIVATIONS.get(type(activation), 0)
        known = self.affine and self.track_running_stats and self.momentum is not None
        if not (fits(self, x) and known and x.numel() > x.shape[1]):
            y = super().forward(x)
            y = y if activation is None else activation(y)
            return y if shortcut is None else shortcut + y
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        running = (self.running_mean, self.running_var)
        constants = (self.momentum, self.eps, code, self.pool_cache.wanted)
        fused = code or activation is None or isinstance(activation, nn.Identity)
        y, averages = Norm.apply(x, self.weight, self.bias, shortcut if fused else None, running, constants)
        if not fused and activation is not None:
            y = activation(y)
            return y if shortcut is None else shortcut + y
        if self.pool_cache.wanted:
            self.pool_cache.put(y, averages)
        return y


class NativeTrainedConvNormAct(NativeTrained, ConvNormAct):
    """:class:`ConvNormAct` whose normalisation activates and adds a shortcut."""

    @classmethod
    def of(cls, module: nn.Module, pool_cache: PoolCache) -> Self:
        """The form of a module, its convolution in its native form where it is static and has one."""
        form = super().of(module, pool_cache)
        if type(form.conv) is nn.Conv2d and is_known(form.conv):
            form.conv = NativeTrainedConv2d.of(form.conv, pool_cache)
        return form

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W'), plus the shortcut."""
        return self.norm(self.conv(x), self.activation, shortcut)


class NativeTrainedInvertedResidual(NativeTrained, InvertedResidual):
    """:class:`InvertedResidual` whose last normalisation adds the shortcut."""

    native_form = InvertedResidual.native_form

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        return self.project(self.squeeze(self.depthwise(self.expand(x))), x if self.has_shortcut else None)


class NativeTrainedAttention(NativeTrained, KernelAttention):
    """:class:`KernelAttention` whose averages are those of the normalisation before it."""

    reads_averages = True

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K)."""
        if not fits(self, x):
            return super().forward(x)
        hidden = (None, None) if self.fc1 is None else (self.fc1.weight, self.fc1.bias)
        constants = (self.temperature.item(), self.activation == "softmax")
        return Attend.apply(self.pool_cache.take(x), *hidden, self.fc2.weight, self.fc2.bias, *constants)


class NativeTrainedDynamicConv2d(NativeTrained, DynamicConv2d):
    """:class:`DynamicConv2d`, native where it is depthwise or pointwise; others mix and convolve by torch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (fits(self, x) and is_known(self)):
            return super().forward(x)
        attention = self.attention(x)
        if self.kernel_size == (1, 1):
            y = MixedPointwise.apply(x, attention, self.weight)
        else:
            y = MixedConv.apply(x, attention, self.weight, self.stride[0], self.recompute)
        return add_bias(y, None if self.bias is None else attention @ self.bias)


class NativeTrainedBranch(NativeTrained, DynamicBranch):
    """:class:`DynamicBranch` whose averages are those of the normalisation before it."""

    reads_averages = True

    @property
    def matrices(self) -> tuple[Tensor, ...] | None:
        """The weights of its four fully connected layers; None where it gives not both Lambda and Phi."""
        if self.to_lambda is None or self.to_phi is None:
            return None
        return self.reduce.weight, self.gate.weight, self.to_lambda.weight, self.to_phi.weight

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """See :meth:`DynamicBranch.forward`."""
        native = self.pool_size == 1 and fits(self, x)
        return self.values(self.pool_cache.take(x)) if native else super().forward(x)


class NativeTrainedDCDConv2d(NativeTrained, DCDConv2d):
    """:class:`DCDConv2d`, native where it is pointwise with one block or depthwise; others compute by torch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (fits(self, x) and is_known(self)):
            return super().forward(x)
        branch, residual = self.branch, self.residual
        matrices = branch.matrices if isinstance(branch, NativeTrainedBranch) else None
        pool_size = 0 if branch is None else branch.pool_size
        bias = None if self.bias is None else self.bias[None]
        if matrices is not None and isinstance(residual, DepthwiseResidual) and pool_size == 1:
            factors = (self.weight, residual.p, residual.r)
            y = DecomposedDepthwise.apply(x, self.pool_cache.take(x), *matrices, *factors, self.stride[0])
            return add_bias(y, bias)
        if self.depthwise:
            weight, bias = self.kernel(x)
            return add_bias(Conv.apply(x, weight, self.stride[0]), bias)
        # one pixel a channel has no statistics, and blocks are products of their own
        one = type(residual) is ChannelResidual and residual.phi_shape[0] == 1 and x.numel() > x.shape[1]
        norms = latent_norms(residual) if isinstance(residual, ChannelResidual) and one else None
        if matrices is None or norms is None or not isinstance(residual, ChannelResidual):
            return super().forward(x)
        affine, kept = norms
        averages = self.pool_cache.take(x) if pool_size == 1 else None
        parameters = (self.weight.flatten(1), residual.p, residual.q, *affine)
        return add_bias(DecomposedPointwise.apply(x, averages, *matrices, *parameters, pool_size, kept), bias)


def latent_norms(residual: ChannelResidual) -> tuple[tuple[Tensor | None, ...], LatentNorms | None] | None:
    """What :class:`DecomposedPointwise` wants of a residual's normalisations; None where it cannot compute them."""
    first, second = residual.norm_in, residual.norm_out
    if first is None or second is None:
        return 4 * (None,), None
    alike = (first.momentum, first.eps) == (second.momentum, second.eps)
    plain = all(norm.affine and norm.track_running_stats and norm.training for norm in (first, second))
    if not alike or not plain or first.momentum is None:
        return None
    running = (first.running_mean, first.running_var, second.running_mean, second.running_var)
    batches = (first.num_batches_tracked, second.num_batches_tracked)
    kept = LatentNorms(
        tuple(value for value in running if value is not None),
        tuple(value for value in batches if value is not None),
        first.momentum,
        first.eps,
    )
    return (first.weight, first.bias, second.weight, second.bias), kept
