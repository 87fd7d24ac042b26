"""A network's training step on a CPU by native operations, in channels_last float32: same weights, same gradients.

    use_native_training(model)                 # in place; parameters, buffers and their names stay

A step at these sizes waits for memory: here batch normalisation, activation, shortcut and the averages that the next
attention wants are one operation, which keeps nothing but its input, and no layer changes the memory format.

A dynamic layer's kernels of a batch are N x (parameters of one kernel) x 4 bytes (:func:`kernel_bytes`). Here 1 x 1
layers mix them for a few images at a time, in the forward and again in the backward pass, and keep none; depthwise
layers, whose kernels are small, keep theirs unless ``recompute_kernels`` is asked for.
"""

from __future__ import annotations

import functools
import warnings
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable

from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.dcd_residual import ChannelResidual
from pose.models.dynamic.dynamic_conv import DynamicConv2d, KernelAttention
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.layers import ConvNormAct, InvertedResidual
from pose.models.native import ACTIVATIONS, NativeError, load
from pose.models.norm import SafeBatchNorm2d

SOURCES = tuple(Path(__file__).with_name(name) for name in ("training.cpp", "depthwise.cpp"))


@functools.cache
def available() -> bool:
    """Whether the operations are built or can be; warns once where not."""
    try:
        load(*SOURCES)
    except NativeError as error:
        warnings.warn(f"{error}; training runs as torch operations, more slowly", stacklevel=3)
        return False
    return True


def use_native_training(model: nn.Module) -> nn.Module:
    """Lets a network train by native operations, where there is a compiler; one warning where there is none.

    Its layers get classes that differ in training mode on a CPU in float32 alone; everywhere else they are what they
    were.

    Args:
        model: Any network; layers of this project change in place, others stay.

    Returns:
        The network.
    """
    if not available():
        return model
    for module in model.modules():
        if isinstance(module, ConvNormAct) and type(module.conv) is nn.Conv2d and _is_known(module.conv):
            module.conv.__class__ = NativeTrainedConv2d
        native = NATIVE_TRAINED.get(type(module))
        if native is not None:
            module.__class__ = native
    wants = any(isinstance(module, KernelAttention | DynamicBranch) for module in model.modules())
    for module in model.modules():
        if isinstance(module, NativeTrainedBatchNorm2d):
            module.wants_averages = wants
    return model


def kernel_bytes(model: nn.Module, batch_size: int) -> int:
    """Bytes of the mixed kernels of a batch in all dynamic layers, which torch keeps from forward to backward pass.

    ``recompute_kernels`` saves them. Decomposed layers have no kernel per image and count nothing.
    """
    layers = [module for module in model.modules() if isinstance(module, DynamicConv2d)]
    return sum(batch_size * layer.weight[0].numel() * layer.weight.element_size() for layer in layers)


def _fits(module: nn.Module, x: Tensor) -> bool:
    """Whether a layer takes its native way."""
    plain = x.device.type == "cpu" and x.dtype == torch.float32 and x.dim() == 4 and x.numel() > 0
    return module.training and plain and not torch.is_autocast_enabled("cpu")


def _averages(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, C); taken from the operation that made x, if it gave them."""
    averages, version = getattr(x, "averages", (None, None))
    return Pool.apply(x) if averages is None or version != x._version else averages


class Norm(torch.autograd.Function):
    """Batch normalisation, activation and shortcut: y and its averages (N, C), which may be empty."""

    @staticmethod
    def forward(
        ctx: FunctionCtx,
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
    def backward(ctx: FunctionCtx, grad: Tensor | None, grad_averages: Tensor | None) -> tuple[Any, ...]:
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
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        ctx.shape = x.shape
        return torch.ops.pose_training.pool.default(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        pixels = ctx.shape[2] * ctx.shape[3]
        return (grad / pixels)[:, :, None, None].expand(ctx.shape)


class Conv(torch.autograd.Function):
    """A depthwise or pointwise convolution: kernels (G, C_out, C_in / groups, kh, kw), G 1 or N."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _convolve(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        return *_convolve_back(grad, *ctx.saved_tensors, ctx.stride, ctx.needs_input_grad[0]), None


class Attend(torch.autograd.Function):
    """The attention (N, K) from averages (N, C); the last arguments are the temperature and whether it is softmax."""

    @staticmethod
    def forward(ctx: FunctionCtx, averages: Tensor, *arguments: Any) -> Tensor:
        w1, _, w2, _, *ctx.constants = arguments
        attention, hidden = torch.ops.pose_training.attend_forward.default(averages, *arguments)
        ctx.save_for_backward(attention, hidden, averages, w1, w2)
        return attention

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        call = torch.ops.pose_training.attend_backward.default
        return *call(grad, *ctx.saved_tensors, *ctx.constants), None, None


class MixedPointwise(torch.autograd.Function):
    """A pointwise :class:`Conv` with kernels mixed from a bank, a few images at a time: no batch of them is kept."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, attention: Tensor, bank: Tensor) -> Tensor:
        ctx.save_for_backward(x, attention, bank)
        return torch.ops.pose_training.mixed_forward.default(x, attention, bank)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        return torch.ops.pose_training.mixed_backward.default(grad, *ctx.saved_tensors)


class MixedConv(torch.autograd.Function):
    """:class:`Conv` with kernels mixed from a bank (K, C_out, C_in / groups, kh, kw) by an attention (N, K)."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, attention: Tensor, bank: Tensor, stride: int, recompute: bool) -> Tensor:
        weight = _mix(attention, bank)
        ctx.save_for_backward(x, attention, bank, None if recompute else weight)
        ctx.stride = stride
        return _convolve(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        x, attention, bank, weight = ctx.saved_tensors
        weight = _mix(attention, bank) if weight is None else weight
        grad_x, grad_weight = _convolve_back(grad, x, weight, ctx.stride, ctx.needs_input_grad[0])
        grad_weight = grad_weight.flatten(1)
        grad_bank = (attention.t() @ grad_weight).view(bank.shape)
        return grad_x, grad_weight @ bank.flatten(1).t(), grad_bank, None, None


def _mix(attention: Tensor, bank: Tensor) -> Tensor:
    """(N, K) and (K, ...) to (N, ...)."""
    return (attention @ bank.flatten(1)).view(-1, *bank.shape[1:])


def _pixels(x: Tensor) -> Tensor:
    """(N, C, H, W) to (N, H W, C), which copies nothing in channels_last."""
    return x.permute(0, 2, 3, 1).reshape(len(x), -1, x.shape[1])


def _picture(pixels: Tensor, height: int, width: int) -> Tensor:
    """:func:`_pixels` backwards."""
    return pixels.view(len(pixels), height, width, -1).permute(0, 3, 1, 2)


def _convolve(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """What :class:`Conv` answers, channels_last."""
    if weight.shape[3:] != (1, 1):
        return torch.ops.pose_training.depthwise_forward.default(x, weight, stride)
    pixels, kernel = _pixels(x), weight.flatten(2).transpose(1, 2)
    if len(kernel) == 1:
        y = (pixels.flatten(0, 1) @ kernel[0]).view(len(x), -1, kernel.shape[2])
    else:
        y = torch.bmm(pixels, kernel)
    return _picture(y, *x.shape[2:])


def _convolve_back(grad: Tensor, x: Tensor, weight: Tensor, stride: int, wants_x: bool) -> tuple[Tensor | None, Tensor]:
    """The gradients of images and kernels."""
    if weight.shape[3:] != (1, 1):
        return torch.ops.pose_training.depthwise_backward.default(grad, x, weight, stride)
    above, pixels, kernel = _pixels(grad), _pixels(x), weight.flatten(2)
    if len(kernel) == 1:
        above, pixels = above.flatten(0, 1), pixels.flatten(0, 1)
        grad_x = (above @ kernel[0]).view(len(x), -1, kernel.shape[2]) if wants_x else None
        grad_kernel = above.t() @ pixels
    else:
        grad_x = torch.bmm(above, kernel) if wants_x else None
        grad_kernel = torch.bmm(above.transpose(1, 2), pixels)
    return None if grad_x is None else _picture(grad_x, *x.shape[2:]), grad_kernel.view(weight.shape)


def _is_known(conv: nn.Conv2d | PerImageConv2d) -> bool:
    """Whether :class:`Conv` can stand for a layer."""
    size, stride = conv.kernel_size, conv.stride
    if conv.padding_mode != "zeros" or getattr(conv, "outer_padding", None) is not None or conv.dilation != (1, 1):
        return False
    if size == (1, 1):
        return conv.groups == 1 and stride == (1, 1) and conv.padding == (0, 0)
    depthwise = conv.groups == conv.in_channels == conv.out_channels
    same = size in ((3, 3), (5, 5)) and conv.padding == (size[0] // 2, size[1] // 2)
    return depthwise and same and stride in ((1, 1), (2, 2))


def _add_bias(y: Tensor, bias: Tensor | None) -> Tensor:
    """(N, C, H, W) and (G, C), G 1 or N, or None."""
    return y if bias is None else y + bias[:, :, None, None]


class NativeTrainedBatchNorm2d(SafeBatchNorm2d):
    """Normalises, activates and adds a shortcut at once; :attr:`wants_averages` hangs averages on the answer."""

    wants_averages = False

    def forward(self, x: Tensor, activation: nn.Module | None = None, shortcut: Tensor | None = None) -> Tensor:
        """(N, C, H, W) to the same shape."""
        code = ACTIVATIONS.get(type(activation), 0)
        known = self.affine and self.track_running_stats and self.momentum is not None
        if not (_fits(self, x) and known and x.numel() > x.shape[1]):
            y = super().forward(x)
            y = y if activation is None else activation(y)
            return y if shortcut is None else shortcut + y
        self.num_batches_tracked.add_(1)
        running = (self.running_mean, self.running_var)
        constants = (self.momentum, self.eps, code, self.wants_averages)
        fused = code or activation is None or isinstance(activation, nn.Identity)
        y, averages = Norm.apply(x, self.weight, self.bias, shortcut if fused else None, running, constants)
        if not fused:
            y = activation(y)
            return y if shortcut is None else shortcut + y
        if self.wants_averages:
            y.averages = (averages, y._version)
        return y


class NativeTrainedConvNormAct(ConvNormAct):
    """:class:`ConvNormAct` whose normalisation activates."""

    def forward(self, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W'); the shortcut is added."""
        return self.norm(self.conv(x), self.activation, shortcut)


class NativeTrainedInvertedResidual(InvertedResidual):
    """:class:`InvertedResidual` whose last normalisation adds the shortcut."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C_out, H / stride, W / stride)."""
        return self.project(self.squeeze(self.depthwise(self.expand(x))), x if self.has_shortcut else None)


class NativeTrainedConv2d(nn.Conv2d):
    """A depthwise or pointwise ``nn.Conv2d``."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not _fits(self, x):
            return super().forward(x)
        y = Conv.apply(x, self.weight[None], self.stride[0])
        return _add_bias(y, None if self.bias is None else self.bias[None])


class NativeTrainedAttention(KernelAttention):
    """:class:`KernelAttention` that takes averages from where they are."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, K)."""
        if not _fits(self, x):
            return super().forward(x)
        hidden = (None, None) if self.fc1 is None else (self.fc1.weight, self.fc1.bias)
        constants = (self.temperature.item(), self.activation == "softmax")
        return Attend.apply(_averages(x), *hidden, self.fc2.weight, self.fc2.bias, *constants)


class NativeTrainedDynamicConv2d(DynamicConv2d):
    """:class:`DynamicConv2d`, depthwise or pointwise; others mix and convolve as before."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (_fits(self, x) and _is_known(self)):
            return super().forward(x)
        attention = self.attention(x)
        if self.kernel_size == (1, 1):
            y = MixedPointwise.apply(x, attention, self.weight)
        else:
            y = MixedConv.apply(x, attention, self.weight, self.stride[0], self.recompute)
        return _add_bias(y, None if self.bias is None else attention @ self.bias)


class NativeTrainedBranch(DynamicBranch):
    """:class:`DynamicBranch` that takes averages from where they are."""

    def forward(self, x: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """As of :class:`DynamicBranch`."""
        return self.values(_averages(x)) if self.pool_size == 1 and _fits(self, x) else super().forward(x)


class ScaledConv(torch.autograd.Function):
    """A pointwise convolution whose kernel (C_out, C_in) is scaled by image, (N, C_out), plus P (C_out, L) latent."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, weight: Tensor, scale: Tensor, latent: Tensor, p: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight, scale, latent, p)
        y = torch.bmm(_pixels(x), (scale[:, :, None] * weight).transpose(1, 2))
        y.flatten(0, 1).addmm_(_pixels(latent).flatten(0, 1), p.t())
        return _picture(y, *x.shape[2:])

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, grad: Tensor) -> tuple[Any, ...]:
        x, weight, scale, latent, p = ctx.saved_tensors
        above, size = _pixels(grad), x.shape[2:]
        flat = above.flatten(0, 1)
        grad_x = _picture(torch.bmm(above, scale[:, :, None] * weight), *size)
        grad_kernel = torch.bmm(above.transpose(1, 2), _pixels(x))
        grad_latent = _picture((flat @ p).view(len(x), -1, p.shape[1]), *size)
        grad_p = flat.t() @ _pixels(latent).flatten(0, 1)
        return (
            grad_x,
            torch.einsum("noi,no->oi", grad_kernel, scale),
            (grad_kernel * weight).sum(2),
            grad_latent,
            grad_p,
        )


class NativeTrainedDCDConv2d(DCDConv2d):
    """:class:`DCDConv2d`, pointwise with one block or depthwise; others as before."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (_fits(self, x) and _is_known(self)):
            return super().forward(x)
        if self.depthwise:
            weight, bias = self.kernel(x)
            return _add_bias(Conv.apply(x, weight, self.stride[0]), bias)
        scales = self.branch is not None and self.branch.to_lambda is not None
        if not scales or self.residual is None or self.residual.phi_shape[0] > 1:
            return super().forward(x)
        scale, phi = self.branch(x)
        latent = self.residual.latent(x, phi)
        y = ScaledConv.apply(x, self.weight.flatten(1), scale, latent, self.residual.p)
        return _add_bias(y, None if self.bias is None else self.bias[None])


class NativeTrainedResidual(ChannelResidual):
    """:class:`ChannelResidual` of a :class:`NativeTrainedDCDConv2d`."""

    def latent(self, x: Tensor, phi: Tensor) -> Tensor:
        """(N, C_in, H, W) and (N, 1, L, L, 1) to (N, L, H, W): what P is applied to."""
        latent = Conv.apply(x, self.q[None, :, :, None, None], 1)
        latent = latent if self.norm_in is None else self.norm_in(latent)
        mixed = Conv.apply(latent, phi[:, 0, :, :, :, None], 1)
        return latent + mixed if self.norm_out is None else self.norm_out(mixed, None, latent)


NATIVE_TRAINED: dict[type[nn.Module], type[nn.Module]] = {
    SafeBatchNorm2d: NativeTrainedBatchNorm2d,
    ConvNormAct: NativeTrainedConvNormAct,
    InvertedResidual: NativeTrainedInvertedResidual,
    KernelAttention: NativeTrainedAttention,
    DynamicConv2d: NativeTrainedDynamicConv2d,
    DynamicBranch: NativeTrainedBranch,
    DCDConv2d: NativeTrainedDCDConv2d,
    ChannelResidual: NativeTrainedResidual,
}
"""What :func:`use_native_training` makes of each layer."""
