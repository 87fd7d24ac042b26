"""Decomposed convolution in a native training step: what :mod:`pose.models.dynamic.dcd` computes, a layer at once.

    pointwise:  y = Lambda(x) W_0 x + P m,  m = h + norm_out((Phi(x) - I) h),  h = norm_in(Q^T x)
    depthwise:  y = D(x) * x,               D(x) = Lambda(x) D_0 + P Phi(x) R^T

Both normalisations of the first are over the batch. Q^T x is L channels wide, and the statistics of all that follows
are functions of its sums and products over each image: m = M(x) Q^T x + d(x), one small matrix and shift an image, and
of what is L channels wide Q^T x alone is kept for the backward pass. Layers of the dynamic branch and the averages that
it reads are part of the operation.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from pose.models.native.training.operations import keep_output

_OPERATIONS = torch.ops.pose_training


class LatentNorms(NamedTuple):
    """The normalisations on both sides of Phi.

    Args:
        running: Means and variances of norm_in and of norm_out, (L,) each; moved in place.
        batches: What counts the batches of each; moved in place.
        momentum, eps: What both have.
    """

    running: tuple[Tensor, ...]
    batches: tuple[Tensor, ...]
    momentum: float
    eps: float

    def move(self, found: Tensor, count: int) -> None:
        """Moves the running values towards a batch's, (4, L), of so many pixels."""
        found[1::2] *= count / (count - 1)
        for running, value in zip(self.running, found, strict=True):
            running.lerp_(value, self.momentum)
        for batches in self.batches:
            batches.add_(1)


class DecomposedPointwise(torch.autograd.Function):
    """A pointwise layer with its branch: (N, C_in, H, W) to (N, C_out, H, W).

    The arguments: x; its averages (N, C_in), or None to have ``parts`` x ``parts`` of them made here; the branch's four
    matrices; W_0 (C_out, C_in), P (C_out, L), Q^T (L, C_in); weight and bias of norm_in and of norm_out, None without;
    ``parts``; the normalisations; :attr:`Join.affine` and the :class:`Join`, which has none before where ``averages``
    are made here.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, averages: Tensor | None, *arguments: Any) -> Tensor:
        *matrices, weight, p, q, w_in, b_in, w_out, b_out, parts, norms, _, _, ctx.join = arguments
        ctx.pooled = None
        if averages is None:
            ctx.pooled, averages = parts, _OPERATIONS.pool_parts.default(x, parts)
        scale, phi, *kept = _OPERATIONS.branch_forward.default(averages, *matrices)
        affine = None if norms is None else torch.stack((w_in, b_in, w_out, b_out))
        center = averages.view(len(x), x.shape[1], -1).mean((0, 2))
        ctx.eps = 0.0 if norms is None else norms.eps
        made = (weight, p, q, scale, phi, affine)
        call, join = _OPERATIONS.decomposed_forward.default, ctx.join
        y, latent, moments, found, counted = call(x, *join.reads, *made, center, ctx.eps, *join.ends)
        if norms is not None:
            norms.move(found, len(x) * x.shape[2] * x.shape[3])
        kept_output = keep_output(y, counted, join)
        ctx.save_for_backward(x, kept_output, *made, latent, moments, center, averages, *matrices, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, y, *rest = ctx.saved_tensors
        made, branch = rest[:9], rest[9:]
        behind, above = ctx.join.back(grad, y)
        grads = _OPERATIONS.decomposed_backward.default(*above, x, *ctx.join.reads, *made, ctx.eps, ctx.join.pairs)
        grad_x, grad_weight, grad_p, grad_q, grad_scale, grad_phi, grad_norms, sums = grads
        ctx.join.take(sums)
        grad_averages, *grad_matrices = _OPERATIONS.branch_backward.default(grad_scale, grad_phi, *branch)
        if ctx.pooled is not None:
            _OPERATIONS.pool_parts_backward.default(grad_x, grad_averages, ctx.pooled)
            grad_averages = None
        affine = 4 * [None] if made[5] is None else grad_norms.unbind()
        return grad_x, grad_averages, *grad_matrices, grad_weight, grad_p, grad_q, *affine, None, None, *behind, None


class DecomposedDepthwise(torch.autograd.Function):
    """A depthwise layer with its branch: (N, C, H, W) to (N, C, H', W').

    The arguments: x; its averages (N, C); the branch's four matrices; D_0 (C, 1, K, K), P (C, L), R^T (L, K K); the
    stride; :attr:`Join.affine` and the :class:`Join`.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, averages: Tensor, *arguments: Any) -> Tensor:
        *matrices, weight, p, r, ctx.stride, _, _, ctx.join = arguments
        scale, phi, *kept = _OPERATIONS.branch_forward.default(averages, *matrices)
        phi = phi.view(-1, len(r), len(r))
        kernels, mixed = _OPERATIONS.depthwise_kernels.default(weight, p, r, scale, phi)
        call = _OPERATIONS.depthwise_forward.default
        y, moments = call(x, *ctx.join.reads, kernels, ctx.stride, *ctx.join.writes)
        kept_output = keep_output(y, moments, ctx.join)
        ctx.save_for_backward(x, kept_output, kernels, weight, p, r, scale, phi, mixed, averages, *matrices, *kept)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        x, y, kernels, *rest = ctx.saved_tensors
        behind, above = ctx.join.back(grad, y)
        call = _OPERATIONS.depthwise_backward.default
        grad_x, grad_kernels, sums = call(*above, x, *ctx.join.reads, kernels, ctx.stride)
        ctx.join.take(sums)
        grads = _OPERATIONS.depthwise_kernels_backward.default(grad_kernels, *rest[:6])
        grad_weight, grad_p, grad_r, grad_scale, grad_phi = grads
        grad_averages, *grad_matrices = _OPERATIONS.branch_backward.default(grad_scale, grad_phi.flatten(1), *rest[6:])
        return grad_x, grad_averages, *grad_matrices, grad_weight, grad_p, grad_r, None, *behind, None
