"""Dynamic layers, their attention and branch in their native training forms, see :mod:`.forms`."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pose.models.dynamic.attention import KernelAttention
from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.dcd_residual import ChannelResidual, DepthwiseResidual
from pose.models.dynamic.dynamic_conv import DynamicConv2d
from pose.models.native.training.decomposed import DecomposedDepthwise, DecomposedPointwise, LatentNorms
from pose.models.native.training.deferred import Batch, Deferred, Join, finished
from pose.models.native.training.forms import NativeTrained, NativeTrainedConv, fits
from pose.models.native.training.operations import Attend, Conv, MixedConv, MixedPointwise, add_bias, is_known


class NativeTrainedAttention(NativeTrained, KernelAttention):
    """:class:`KernelAttention` whose averages are those of the normalisation before it."""

    reads_averages = True

    def forward(self, x: Tensor | Deferred) -> Tensor:
        """(N, C, H, W) to (N, K)."""
        if not fits(self, x):
            return super().forward(finished(x))
        hidden = (None, None) if self.fc1 is None else (self.fc1.weight, self.fc1.bias)
        constants = (self.temperature.item(), self.activation == "softmax")
        return Attend.apply(self.pool_cache.take(x), *hidden, self.fc2.weight, self.fc2.bias, *constants)


class NativeTrainedDynamicConv2d(NativeTrainedConv, DynamicConv2d):
    """:class:`DynamicConv2d`, native where it is depthwise or pointwise; others mix and convolve by torch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (fits(self, x) and is_known(self)):
            return super().forward(x)
        attention = self.attention(x)
        return add_bias(
            self._convolve(x, attention, None, None, Join(pairs=self.pairs)),
            None if self.bias is None else attention @ self.bias,
        )

    def deferred(self, x: Tensor | Deferred, batch: Batch) -> Deferred | None:
        """See :class:`NativeTrainedConv`."""
        if self.bias is not None or not (fits(self, x) and is_known(self)):
            return None
        attention = self.attention(x)
        features, join = self.joined(x, batch)
        return join.deferred(self._convolve(features, attention, *join.affine, join))

    def _convolve(self, x: Tensor, attention: Tensor, *joined: Any) -> Tensor:
        if self.kernel_size == (1, 1):
            return MixedPointwise.apply(x, attention, self.weight, *joined)
        return MixedConv.apply(x, attention, self.weight, self.stride[0], self.recompute, *joined)


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


class NativeTrainedDCDConv2d(NativeTrainedConv, DCDConv2d):
    """:class:`DCDConv2d`, native where it is pointwise with one block or depthwise; others compute by torch."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if not (fits(self, x) and is_known(self)):
            return super().forward(x)
        bias = None if self.bias is None else self.bias[None]
        y = self._convolve(x, None)
        if y is not None:
            return add_bias(y[0], bias)
        if self.depthwise:
            weight, bias = self.kernel(x)
            return add_bias(Conv.apply(x, weight, self.stride[0]), bias)
        return super().forward(x)

    def deferred(self, x: Tensor | Deferred, batch: Batch) -> Deferred | None:
        """See :class:`NativeTrainedConv`."""
        if self.bias is not None or not (fits(self, x) and is_known(self)):
            return None
        made = self._convolve(x, batch)
        return None if made is None else made[1].deferred(made[0])

    def _convolve(self, x: Tensor | Deferred, batch: Batch | None) -> tuple[Tensor, Join] | None:
        """The layer without its bias, and what is before and behind it; None where it is not native."""
        branch, residual = self.branch, self.residual
        matrices = branch.matrices if isinstance(branch, NativeTrainedBranch) else None
        if branch is None or matrices is None:
            return None
        whole = branch.pool_size == 1
        if isinstance(x, Deferred) and not whole:
            x = finished(x)  # averages of parts are read from it
        features, join = self.joined(x, batch)
        after = (*join.affine, join)
        if isinstance(residual, DepthwiseResidual) and whole:
            factors = (self.weight, residual.p, residual.r)
            read = (features, self.pool_cache.take(x))
            return DecomposedDepthwise.apply(*read, *matrices, *factors, self.stride[0], *after), join
        # one pixel a channel has no statistics, and blocks are products of their own
        if type(residual) is not ChannelResidual or residual.phi_shape[0] != 1 or features.numel() <= features.shape[1]:
            return None
        if (norms := latent_norms(residual)) is None:
            return None
        affine, kept = norms
        parameters = (self.weight.flatten(1), residual.p, residual.q, *affine)
        averages = self.pool_cache.take(x) if whole else None
        apply = DecomposedPointwise.apply
        return apply(features, averages, *matrices, *parameters, branch.pool_size, kept, *after), join


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
