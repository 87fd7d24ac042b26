"""Features whose batch normalization and activation their readers apply, so that these cost no pass over memory.

A convolution counts the sums of its output while it lies in the cache, and gives the output as it is. Who reads it
normalizes a few pixels at a time; on the way back that reader gives the gradient of what it read, and sums that the
gradients of weight and bias are made of, and the convolution makes its own output's gradient of these, again a few
pixels at a time. Neither the normalized features nor that gradient are ever whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

_OPERATIONS = torch.ops.pose_training


class Batch(NamedTuple):
    """How the features of a batch are normalized.

    Args:
        weight, bias: (C,).
        running: Mean and variance, (C,) each; moved in place.
        momentum, eps: As for ``nn.BatchNorm2d``.
        activation: A number of :data:`pose.models.native.ACTIVATIONS`.
        half: Whether they are bfloat16 until they are normalized, and so are their gradients.
    """

    weight: Tensor
    bias: Tensor
    running: tuple[Tensor, Tensor]
    momentum: float
    eps: float
    activation: int
    half: bool = False


class Normalization:
    """A batch's normalization, between the convolution before it and the readers behind it.

    Attributes:
        values: Factor, term, mean and 1 / deviation: (4, C), as soon as the convolution has run.
        activation: A number of :data:`pose.models.native.ACTIVATIONS`.
        derivatives: What an attention's share of the gradient is multiplied by, (N, 2, C); None without an attention.
    """

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.activation = batch.activation
        self.values: Tensor | None = None
        self.derivatives: Tensor | None = None
        self._pixels = 0
        self._sums: Tensor | None = None
        self._shares: Tensor | None = None

    def measure(self, moments: Tensor, y: Tensor) -> None:
        """Takes what was counted of an image each, (N, 2, C), and moves the running statistics."""
        batch = self.batch
        self._pixels = y.shape[2] * y.shape[3]
        affine = (batch.weight.detach(), batch.bias.detach())
        constants = (*affine, *batch.running, batch.momentum, batch.eps)
        self.values = _OPERATIONS.norm_of.default(moments, self._pixels, *constants)

    def take(self, sums: Tensor) -> None:
        """Takes the sums of the gradient of its one reader, (N, 2, C)."""
        self._sums = sums

    def share(self, shares: Tensor, counted: bool) -> None:
        """Takes gradients (N, C) of all pixels of an image alike.

        Args:
            shares: Are added to what the reader gives.
            counted: Whether the sums have them already; then ``derivatives`` are not wanted.
        """
        self._shares = shares
        self.derivatives = None if counted else self.derivatives

    def back(self, grad: Tensor, y: Tensor) -> tuple[tuple[Tensor, Tensor], tuple[Any, ...]]:
        """The gradients of weight and bias, and what an operation wants to make the gradient of y."""
        assert self.values is not None
        sums, self._sums = self._sums, None
        shares, self._shares = self._shares, None
        if sums is None:
            sums = torch.zeros(len(y), 2, y.shape[1], dtype=torch.float64)
        *grads, slopes = _OPERATIONS.norm_slopes.default(sums, self.values, self._pixels, shares, self.derivatives)
        return (grads[0], grads[1]), (grad, shares, y, self.values, slopes, self.activation)


class Deferred(NamedTuple):
    """What a convolution wrote, and how it is to be read.

    Args:
        raw: (N, C, H, W).
        norm: Its normalization.
    """

    raw: Tensor
    norm: Normalization

    def averages(self) -> Tensor:
        """The averages of the normalized and activated features: (N, C)."""
        return DeferredPool.apply(self.raw, self.norm)

    def finish(self, shortcut: Tensor | None = None, wants_averages: bool = False) -> tuple[Tensor, Tensor]:
        """The normalized and activated features plus a shortcut, and their averages (N, C), empty if not wanted."""
        return Finish.apply(self.raw, shortcut, self.norm, wants_averages)


def finished(x: Tensor | Deferred) -> Tensor:
    """Features as all that know nothing of deferred ones want them."""
    return x.finish()[0] if isinstance(x, Deferred) else x


class DeferredPool(torch.autograd.Function):
    """Averages over pixels of features that are normalized and activated as they are read: (N, C)."""

    @staticmethod
    def forward(ctx: Any, raw: Tensor, norm: Normalization) -> Tensor:
        ctx.norm, ctx.pixels = norm, raw.shape[2] * raw.shape[3]
        averages, norm.derivatives = _OPERATIONS.pool.default(raw, norm.values, norm.activation)
        return averages

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[None, None]:
        ctx.norm.share(grad / ctx.pixels, counted=False)
        return None, None


class Finish(torch.autograd.Function):
    """What all readers but convolutions want: y = g(norm(raw)) + shortcut, and its averages, which may be empty."""

    @staticmethod
    def forward(
        ctx: Any, raw: Tensor, shortcut: Tensor | None, norm: Normalization, wants_averages: bool
    ) -> tuple[Tensor, Tensor]:
        call = _OPERATIONS.normalize.default
        y, averages = call(raw, norm.values, norm.activation, shortcut, wants_averages)
        ctx.norm = norm
        ctx.save_for_backward(raw)
        ctx.set_materialize_grads(False)
        if not wants_averages:
            ctx.mark_non_differentiable(averages)
        return y, averages

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor | None, grad_averages: Tensor | None) -> tuple[Any, ...]:
        (raw,) = ctx.saved_tensors
        norm, has_shortcut = ctx.norm, ctx.needs_input_grad[1]
        grad = torch.zeros_like(raw) if grad is None else grad
        shares = None if grad_averages is None else grad_averages / (raw.shape[2] * raw.shape[3])
        if shares is not None and has_shortcut:
            grad, shares = grad + shares[:, :, None, None], None
        norm.take(_OPERATIONS.norm_sums.default(grad, shares, raw, norm.values, norm.activation))
        if shares is not None:
            norm.share(shares, counted=True)
        return grad, grad if has_shortcut else None, None, None


class Measure(torch.autograd.Function):
    """The output of a convolution that does not count it, to be read as :class:`Deferred`."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, norm: Normalization) -> Tensor:
        norm.measure(_OPERATIONS.moments.default(x), x)
        ctx.norm = norm
        ctx.save_for_backward(x)
        return x.view_as(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
        (x,) = ctx.saved_tensors
        grads, above = ctx.norm.back(grad, x)
        return _OPERATIONS.norm_backward.default(*above), *grads, None


class Join(NamedTuple):
    """What is before and behind a convolution: the normalization that it applies, and the one that it counts for.

    Args:
        before, after: None for none.
        pairs: Whether products are of values rounded to bfloat16; their sums are float32.
    """

    before: Normalization | None = None
    after: Normalization | None = None
    pairs: bool = False

    @property
    def reads(self) -> tuple[Tensor | None, int]:
        """How an operation reads its images."""
        return (None, 0) if self.before is None else (self.before.values, self.before.activation)

    @property
    def writes(self) -> tuple[bool, bool]:
        """Whether an operation counts what it writes, and writes bfloat16."""
        return self.after is not None, self.after is not None and self.after.batch.half

    @property
    def ends(self) -> tuple[bool, bool, bool]:
        """Whether an operation counts what it writes, multiplies in pairs, and writes bfloat16."""
        counts, half = self.writes
        return counts, self.pairs, half

    @property
    def affine(self) -> tuple[Tensor | None, Tensor | None]:
        """Weight and bias of the normalization behind, which are arguments of the function as well."""
        return (None, None) if self.after is None else (self.after.batch.weight, self.after.batch.bias)

    def measure(self, moments: Tensor, y: Tensor) -> None:
        """Takes what was counted of y, if there is a normalization behind."""
        if self.after is not None:
            self.after.measure(moments, y)

    def back(self, grad: Tensor, y: Tensor | None) -> tuple[tuple[Tensor | None, ...], tuple[Any, ...]]:
        """The gradients of :attr:`affine`, and what an operation wants to make the gradient of y."""
        if self.after is None or y is None:
            return (None, None), (grad, None, grad, None, None, 0)
        return self.after.back(grad, y)

    def take(self, sums: Tensor) -> None:
        """Takes the sums of the gradient of what was read, if there is a normalization before."""
        if self.before is not None:
            self.before.take(sums)

    def deferred(self, y: Tensor) -> Deferred:
        """The output of the convolution, with the normalization behind it."""
        assert self.after is not None
        return Deferred(y, self.after)
