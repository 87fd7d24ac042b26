"""The operations of a native training step, on tensors in channels_last float32, with their gradients.

They are functions of tensors and know no layer; the layers that use them are the native training forms of
:func:`pose.models.native.training.layers.use_native_training`. A step at these sizes waits for memory:
convolutions count and apply the normalizations behind and before them, see :mod:`.deferred`, and no operation changes
the memory format.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from pose.models.native.training.deferred import Deferred, Join

if TYPE_CHECKING:
    from pose.models.dynamic.per_image_conv import PerImageConv2d

_OPERATIONS = torch.ops.pose_training

ALONE = Join()
"""No normalization before or behind a convolution."""


class PoolCache:
    """The channel averages of the features that a normalisation made last, for the attention that reads them next.

    A network's native normalisations and attentions share one. The features are known by identity and version, so
    that nothing but them is ever taken for them, and are forgotten with their averages as soon as nobody holds them.
    A copy of a network gets an empty cache of its own.

    Attributes:
        wanted: Whether a layer of the network reads averages; normalisations compute none otherwise.
    """

    def __init__(self, wanted: bool = False) -> None:
        self.wanted = wanted
        self._features: weakref.ref[Tensor] | None = None
        self._version = 0
        self._averages: Tensor | None = None

    def put(self, features: Tensor, averages: Tensor) -> None:
        """Remembers the averages (N, C) of features (N, C, H, W)."""
        self._features = weakref.ref(features, self._forget)
        self._version, self._averages = features._version, averages

    def take(self, features: Tensor | Deferred) -> Tensor:
        """The averages (N, C) of features (N, C, H, W): the remembered ones, or computed where there are none."""
        if isinstance(features, Deferred):
            return features.averages()
        known = self._features is not None and self._features() is features and self._version == features._version
        return self._averages if known and self._averages is not None else Pool.apply(features)

    def _forget(self, features: weakref.ref[Tensor]) -> None:
        if features is self._features:
            self._features = self._averages = None

    def __reduce__(self) -> tuple[type[PoolCache], tuple[bool]]:
        return PoolCache, (self.wanted,)


class Pool(torch.autograd.Function):
    """Averages over pixels, (N, C, H, W) to (N, C); the gradient is not written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return torch.ops.pose_training.pool.default(x, None, 0)[0]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels)[:, :, None, None].expand(ctx.shape)


class Conv(torch.autograd.Function):
    """A depthwise or pointwise convolution: kernels (G, C_out, C_in / groups, kh, kw), G 1 or N.

    This and the other convolutions take at last :attr:`Join.affine` and the :class:`Join`, where there is one.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, stride: int, gamma: Tensor | None = None, beta: Tensor | None = None,
        join: Join = ALONE,
    ) -> Tensor:  # fmt: skip
        ctx.stride, ctx.join = stride, join
        y, moments = _convolve(x, weight, stride, join)
        ctx.save_for_backward(x, weight, keep_output(y, moments, join))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight, y = ctx.saved_tensors
        affine, above = ctx.join.back(grad, y)
        grads = _convolve_back(above, x, weight, ctx.stride, ctx.join, ctx.needs_input_grad[0])
        return *grads, None, *affine, None


def keep_output(y: Tensor, moments: Tensor, join: Join) -> Tensor | None:
    """Hands on what was counted of a convolution's output; the output if the backward pass wants it."""
    join.measure(moments, y)
    return None if join.after is None else y


class Attend(torch.autograd.Function):
    """The attention (N, K) from averages (N, C); the last arguments are the temperature and whether it is softmax."""

    @staticmethod
    def forward(ctx: Any, averages: Tensor, *arguments: Any) -> Tensor:
        w1, _, w2, _, *ctx.constants = arguments
        attention, hidden = torch.ops.pose_training.attend_forward.default(averages, *arguments)
        ctx.save_for_backward(attention, hidden, averages, w1, w2)
        return attention

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        call = torch.ops.pose_training.attend_backward.default
        return *call(grad, *ctx.saved_tensors, *ctx.constants), None, None


class MixedPointwise(torch.autograd.Function):
    """A pointwise :class:`Conv` with kernels mixed from a bank, a few images at a time: no batch of them is kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, attention: Tensor, bank: Tensor, gamma: Tensor | None = None, beta: Tensor | None = None,
        join: Join = ALONE,
    ) -> Tensor:  # fmt: skip
        ctx.join = join
        y, moments = _OPERATIONS.mixed_forward.default(x, *join.reads, attention, bank, *join.ends)
        ctx.save_for_backward(x, attention, bank, keep_output(y, moments, join))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, attention, bank, y = ctx.saved_tensors
        affine, above = ctx.join.back(grad, y)
        *grads, sums = _OPERATIONS.mixed_backward.default(*above, x, *ctx.join.reads, attention, bank, ctx.join.pairs)
        ctx.join.take(sums)
        return *grads, *affine, None


class MixedConv(torch.autograd.Function):
    """:class:`Conv` with kernels mixed from a bank (K, C_out, C_in / groups, kh, kw) by an attention (N, K)."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, attention: Tensor, bank: Tensor, stride: int, recompute: bool, gamma: Tensor | None = None,
        beta: Tensor | None = None, join: Join = ALONE,
    ) -> Tensor:  # fmt: skip
        weight = _mix(attention, bank)
        ctx.stride, ctx.join = stride, join
        y, moments = _convolve(x, weight, stride, join)
        ctx.save_for_backward(x, attention, bank, None if recompute else weight, keep_output(y, moments, join))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, attention, bank, weight, y = ctx.saved_tensors
        weight = _mix(attention, bank) if weight is None else weight
        affine, above = ctx.join.back(grad, y)
        grad_x, grad_weight = _convolve_back(above, x, weight, ctx.stride, ctx.join, ctx.needs_input_grad[0])
        grad_weight = grad_weight.flatten(1)
        grad_bank = (attention.t() @ grad_weight).view(bank.shape)
        return grad_x, grad_weight @ bank.flatten(1).t(), grad_bank, None, None, *affine, None


def _mix(attention: Tensor, bank: Tensor) -> Tensor:
    """Attention (N, K) and bank (K, ...) to mixed kernels (N, ...)."""
    return (attention @ bank.flatten(1)).view(-1, *bank.shape[1:])


def _convolve(x: Tensor, weight: Tensor, stride: int, join: Join) -> tuple[Tensor, Tensor]:
    """The output of :class:`Conv`, channels_last, and its moments."""
    if weight.shape[3:] != (1, 1):
        return _OPERATIONS.depthwise_forward.default(x, *join.reads, weight, stride, *join.writes)
    return _OPERATIONS.pointwise_forward.default(x, *join.reads, weight, *join.ends)


def _convolve_back(
    above: tuple[Any, ...], x: Tensor, weight: Tensor, stride: int, join: Join, wants_x: bool
) -> tuple[Tensor | None, Tensor]:
    """The gradients of images and kernels."""
    if weight.shape[3:] != (1, 1):
        grads = _OPERATIONS.depthwise_backward.default(*above, x, *join.reads, weight, stride)
    else:
        grads = _OPERATIONS.pointwise_backward.default(*above, x, *join.reads, weight, wants_x, join.pairs)
    join.take(grads[2])
    return grads[0], grads[1]


def is_known(conv: nn.Conv2d | PerImageConv2d) -> bool:
    """Whether :class:`Conv` can stand for a convolution: pointwise, or depthwise with 3 x 3 or 5 x 5."""
    size, stride = conv.kernel_size, conv.stride
    if conv.padding_mode != "zeros" or getattr(conv, "outer_padding", None) is not None or conv.dilation != (1, 1):
        return False
    if size == (1, 1):
        return conv.groups == 1 and stride == (1, 1) and conv.padding == (0, 0)
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    same = size in ((3, 3), (5, 5)) and conv.padding == (size[0] // 2, size[1] // 2)
    return depthwise and same and stride in ((1, 1), (2, 2))


def add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """Features (N, C, H, W) plus a bias (G, C), G 1 or N; as they are where the bias is None."""
    return y if bias is None else y + bias[:, :, None, None]
