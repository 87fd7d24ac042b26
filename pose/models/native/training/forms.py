"""Layers in their native training forms: subclasses with the same parameters, buffers and names.

They differ from the layers that they are forms of in training mode on a CPU in float32 alone; everywhere else they are
what those are. :func:`pose.models.native.training.layers.use_native_training` puts them into a network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from pose.models.layers import ConvNormAct, InvertedResidual
from pose.models.native import ACTIVATIONS
from pose.models.native.training.deferred import Batch, Deferred, Join, Measure, Normalization, finished
from pose.models.native.training.operations import Conv, PoolCache, add_bias, is_known
from pose.models.norm import SafeBatchNorm2d

if TYPE_CHECKING:
    from typing_extensions import Self

Form = TypeVar("Form")


class NativeTrained:
    """What the native training forms share; named before the layer's class.

    Attributes:
        reads_averages: Whether the form takes the averages of its input from ``pool_cache``.
        pool_cache: The network's; normalisations put averages into it.
        pairs: Whether 1 x 1 convolutions multiply in bfloat16, and what they write for others of their kind is so.
    """

    reads_averages = False
    pairs = False
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


def fits(module: nn.Module, x: Tensor | Deferred) -> bool:
    """Whether a layer computes natively: in training mode, on a CPU, for float32 images, without autocast.

    Not for images of another number of channels than its own, which its torch form refuses in words. Deferred features
    may be bfloat16.
    """
    half = isinstance(x, Deferred) and x.norm.batch.half
    x = x.raw if isinstance(x, Deferred) else x
    plain = (
        x.device.type == "cpu"
        and x.dtype == (torch.bfloat16 if half else torch.float32)
        and x.dim() == 4
        and x.numel() > 0
    )
    own = getattr(module, "in_channels", getattr(module, "num_features", None))
    return module.training and plain and own in (None, x.shape[1]) and not torch.is_autocast_enabled("cpu")


class NativeTrainedConv(NativeTrained):
    """What the native convolutions share: they may read what is not normalized yet, and count what they write."""

    stride: Any  # as its layer has it

    def deferred(self, x: Tensor | Deferred, batch: Batch) -> Deferred | None:
        """Its output, to be normalized by who reads it, of features that may be so themselves; None where it cannot.

        Args:
            x: (N, C_in, H, W).
            batch: How the output, (N, C_out, H', W'), is to be normalized.
        """
        raise NotImplementedError

    def joined(self, x: Tensor | Deferred, batch: Batch | None) -> tuple[Tensor, Join]:
        """The features themselves, and what is before and behind the convolution of them."""
        after = None if batch is None else Normalization(batch)
        raw, before = x if isinstance(x, Deferred) else (x, None)
        return raw, Join(before, after, self.pairs)


class NativeTrainedConv2d(NativeTrainedConv, nn.Conv2d):
    """The native training form of a depthwise or pointwise ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not fits(self, x):
            return super().forward(x)
        y = Conv.apply(x, self.weight[None], self.stride[0], None, None, Join(pairs=self.pairs))
        return add_bias(y, None if self.bias is None else self.bias[None])

    def deferred(self, x: Tensor | Deferred, batch: Batch) -> Deferred | None:
        """See :class:`NativeTrainedConv`."""
        if self.bias is not None or not fits(self, x):
            return None
        features, join = self.joined(x, batch)
        return join.deferred(Conv.apply(features, self.weight[None], self.stride[0], *join.affine, join))

    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> nn.Conv2d:
        """See :meth:`pose.models.dynamic.base.DynamicLayer.fold`: an ``nn.Conv2d``."""
        conv = _adopt(nn.Conv2d, self)
        return conv if norm is None else fuse_conv_bn_eval(conv, norm)


def finish(deferred: Deferred, shortcut: Tensor | None, pool_cache: PoolCache) -> Tensor:
    """Normalized features plus a shortcut, their averages left in the network's cache."""
    if shortcut is not None and shortcut.shape != deferred.raw.shape:
        return shortcut + deferred.finish()[0]  # as torch adds them, or refuses to
    y, averages = deferred.finish(shortcut, pool_cache.wanted)
    if pool_cache.wanted:
        pool_cache.put(y, averages)
    return y


class NativeTrainedBatchNorm2d(NativeTrained, SafeBatchNorm2d):
    """:class:`SafeBatchNorm2d` that normalises, activates and adds a shortcut at once, or leaves it to who reads."""

    def batch(self, activation: nn.Module | None, half: bool = False) -> Batch | None:
        """How it normalizes a batch, with an activation; None where that is no native operation's.

        Args:
            activation: What follows.
            half: See :class:`Batch`.
        """
        code = 0 if activation is None or isinstance(activation, nn.Identity) else ACTIVATIONS.get(type(activation))
        if code is None or not self.affine or self.momentum is None or not self.training:
            return None
        if self.running_mean is None or self.running_var is None:
            return None
        running = (self.running_mean, self.running_var)
        return Batch(self.weight, self.bias, running, self.momentum, self.eps, code, half)

    def forward(self, x: Tensor, activation: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape."""
        batch = self.batch(activation)
        if not fits(self, x) or batch is None or x.numel() <= x.shape[1]:
            y = super().forward(x)
            y = y if activation is None else activation(y)
            return y if shortcut is None else shortcut + y
        norm = Normalization(batch)
        self.count()
        deferred = Deferred(Measure.apply(x, batch.weight, batch.bias, norm), norm)
        return finish(deferred, shortcut, self.pool_cache)

    def count(self) -> None:
        """Counts a batch."""
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)


class NativeTrainedConvNormAct(NativeTrained, ConvNormAct):
    """:class:`ConvNormAct` whose convolution counts for its normalisation, which activates and adds a shortcut."""

    @classmethod
    def of(cls, module: nn.Module, pool_cache: PoolCache) -> Self:
        """The form of a module, its convolution in its native form where it is static and has one."""
        form = super().of(module, pool_cache)
        if type(form.conv) is nn.Conv2d and is_known(form.conv):
            form.conv = NativeTrainedConv2d.of(form.conv, pool_cache)
        return form

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W'), plus the shortcut."""
        deferred = self._convolve(x)
        if deferred is None:
            return self.norm(self.conv(x), self.activation, shortcut)
        return finish(deferred, shortcut, self.pool_cache)

    def deferred(self, x: Tensor | Deferred, shortcut: Tensor | None = None, half: bool = False) -> Tensor | Deferred:
        """What :meth:`forward` gives or, where it can be, what is to be normalized and activated by who reads it.

        Args:
            x: (N, C_in, H, W).
            shortcut: Is added where this is not deferred.
            half: Whether it may be bfloat16, if products are: what convolutions alone read.
        """
        deferred = None if _is_watched(self) else self._convolve(x, half)
        if deferred is not None:
            return deferred
        return self(finished(x), shortcut)

    def _convolve(self, x: Tensor | Deferred, half: bool = False) -> Deferred | None:
        """The convolution, its normalization still to be applied; None where it does not count for that."""
        conv, norm = self.conv, self.norm
        if not isinstance(conv, NativeTrainedConv) or not isinstance(norm, NativeTrainedBatchNorm2d):
            return None
        features = x.raw if isinstance(x, Deferred) else x
        sizes = zip(features.shape[2:], conv.stride, strict=True)
        one_value = len(features) == 1 and all(size <= stride for size, stride in sizes)
        if one_value or any(_is_watched(module) for module in (conv, norm)):
            return None
        batch = norm.batch(self.activation, half and conv.pairs)
        deferred = None if batch is None else conv.deferred(x, batch)
        if deferred is not None:
            norm.count()
        return deferred


def _reads_deferred(layer: nn.Module) -> bool:
    """Whether a layer takes features that are not normalized yet, so that nobody else sees them."""
    if not isinstance(layer, NativeTrainedConvNormAct) or not isinstance(layer.conv, NativeTrainedConv):
        return False
    return not any(_is_watched(part) for part in (layer, layer.conv, layer.norm))


def _is_watched(module: nn.Module) -> bool:
    """Whether somebody waits for what a module takes or gives."""
    return bool(module._forward_hooks or module._forward_pre_hooks or module._backward_hooks)


class NativeTrainedInvertedResidual(NativeTrained, InvertedResidual):
    """:class:`InvertedResidual` whose last normalisation adds the shortcut."""

    native_form = InvertedResidual.native_form

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H / stride, W / stride)."""
        shortcut = x if self.has_shortcut else None
        y: Tensor | Deferred = x
        layers = [self.expand, self.depthwise, self.squeeze, self.project]
        layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
        for layer, reader in zip(layers[:-1], layers[1:], strict=True):
            if isinstance(layer, NativeTrainedConvNormAct):
                y = layer.deferred(y, half=_reads_deferred(reader))
            else:
                y = layer(finished(y))
        if not isinstance(self.project, NativeTrainedConvNormAct):
            projected = self.project(finished(y))
            return projected if shortcut is None else shortcut + projected
        y = self.project.deferred(y, shortcut)
        return finish(y, shortcut, self.pool_cache) if isinstance(y, Deferred) else y
