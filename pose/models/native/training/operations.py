"""The operations of a native training step, on tensors in channels_last float32, with their gradients.

They are functions of tensors and know no layer; the layers that use them are the native training forms of
:func:`pose.models.native.training.layers.use_native_training`. A step at these sizes waits for memory: batch
normalisation, activation, shortcut and the averages that the next attention wants are one operation, which keeps
nothing but its input, and no operation changes the memory format.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

if TYPE_CHECKING:
    from pose.models.dynamic.per_image_conv import PerImageConv2d


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

    def take(self, features: Tensor) -> Tensor:
        """The averages (N, C) of features (N, C, H, W): the remembered ones, or computed where there are none."""
        known = self._features is not None and self._features() is features and self._version == features._version
        return self._averages if known and self._averages is not None else Pool.apply(features)

    def _forget(self, features: weakref.ref[Tensor]) -> None:
        if features is self._features:
            self._features = self._averages = None

    def __reduce__(self) -> tuple[type[PoolCache], tuple[bool]]:
        return PoolCache, (self.wanted,)


class Norm(torch.autograd.Function):
    """Batch normalisation, activation and shortcut: y and its averages (N, C), which may be empty."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor,
        bias: Tensor,
        shortcut: Tensor | None,
        running: tuple[Tensor, Tensor],
        constants: tuple[float, float, int, bool],
    ) -> tuple[Tensor, Tensor]:
        """``running`` are mean and variance; ``constants`` momentum, eps, activation and whether to give averages."""
        momentum, eps, ctx.activation, wants = constants
        call = torch.ops.pose_training.norm_forward.default
        y, averages, mean, invstd = call(x, weight, bias, *running, shortcut, momentum, eps, ctx.activation, wants)
        ctx.save_for_backward(x, weight, bias, mean, invstd)
        ctx.set_materialize_grads(False)
        if not wants:
            ctx.mark_non_differentiable(averages)
        return y, averages

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_averages: Tensor | None) -> tuple[Any, ...]:
        x = ctx.saved_tensors[0]
        if grad is None:
            grad = torch.zeros_like(x)
        if ctx.needs_input_grad[3] and grad_averages is not None:
            grad = grad + (grad_averages / (x.shape[2] * x.shape[3]))[:, :, None, None]
            grad_averages = None
        call = torch.ops.pose_training.norm_backward.default
        grads = call(grad, grad_averages, *ctx.saved_tensors, ctx.activation)
        return *grads, grad if ctx.needs_input_grad[3] else None, None, None


class Pool(torch.autograd.Function):
    """Averages over pixels, (N, C, H, W) to (N, C); the gradient is not written out."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return torch.ops.pose_training.pool.default(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels)[:, :, None, None].expand(ctx.shape)


class Conv(torch.autograd.Function):
    """A depthwise or pointwise convolution: kernels (G, C_out, C_in / groups, kh, kw), G 1 or N."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, weight = ctx.saved_tensors
        return *_convolve_back(grad, x, weight, ctx.stride, ctx.needs_input_grad[0]), None


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
    def forward(ctx: Any, x: Tensor, attention: Tensor, bank: Tensor) -> Tensor:
        ctx.save_for_backward(x, attention, bank)
        return torch.ops.pose_training.mixed_forward.default(x, attention, bank)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        return torch.ops.pose_training.mixed_backward.default(grad, *ctx.saved_tensors)


class MixedConv(torch.autograd.Function):
    """:class:`Conv` with kernels mixed from a bank (K, C_out, C_in / groups, kh, kw) by an attention (N, K)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, attention: Tensor, bank: Tensor, stride: int, recompute: bool) -> Tensor:
        weight = _mix(attention, bank)
        ctx.save_for_backward(x, attention, bank, None if recompute else weight)
        ctx.stride = stride
        return _convolve(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, attention, bank, weight = ctx.saved_tensors
        weight = _mix(attention, bank) if weight is None else weight
        grad_x, grad_weight = _convolve_back(grad, x, weight, ctx.stride, ctx.needs_input_grad[0])
        grad_weight = grad_weight.flatten(1)
        grad_bank = (attention.t() @ grad_weight).view(bank.shape)
        return grad_x, grad_weight @ bank.flatten(1).t(), grad_bank, None, None


def _mix(attention: Tensor, bank: Tensor) -> Tensor:
    """Attention (N, K) and bank (K, ...) to mixed kernels (N, ...)."""
    return (attention @ bank.flatten(1)).view(-1, *bank.shape[1:])


def _convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """The output of :class:`Conv`, channels_last."""
    if weight.shape[3:] != (1, 1):
        return torch.ops.pose_training.depthwise_forward.default(x, weight, stride)
    return torch.ops.pose_training.pointwise_forward.default(x, weight)


def _convolve_back(grad: Tensor, x: Tensor, weight: Tensor, stride: int, wants_x: bool) -> tuple[Tensor | None, Tensor]:
    """The gradients of images and kernels."""
    if weight.shape[3:] != (1, 1):
        return torch.ops.pose_training.depthwise_backward.default(grad, x, weight, stride)
    return torch.ops.pose_training.pointwise_backward.default(grad, x, weight, wants_x)


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
