"""Dynamic convolution decomposition: a static kernel scaled per channel plus a dynamic low-rank residual.

Li et al., 'Revisiting Dynamic Convolution via Matrix Decomposition', ICLR 2021, arXiv 2103.08756:

    pointwise:             W(x) = Lambda(x) W_0 + P Phi(x) Q^T                     (eq. 6)
    sparse:                W(x) = Lambda(x) W_0 + direct sum of P_b Phi_b(x) Q_b^T (eq. 7)
    depthwise:             D(x) = Lambda(x) D_0 + P Phi(x) R^T, R over k^2         (eq. 8)
    k x k, joint fusion:   W(x) = Lambda(x) W_0 + Phi(x) x_1 Q x_2 P x_3 R         (eq. 9)
    k x k, channel fusion: eq. 6's residual at the kernel's centre
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.base import DynamicCost, DynamicLayer
from pose.models.dynamic.dcd_branch import LATENT_RULES, LEAST_CHANNELS, DynamicBranch, default_latent_channels
from pose.models.dynamic.dcd_graph import ConstantKernels, JointFactors
from pose.models.dynamic.dcd_residual import ChannelResidual, DepthwiseResidual, JointResidual, latent_elements

if TYPE_CHECKING:
    from pose.models.dynamic.graph_forms import GraphForms
    from pose.models.native.training.dynamic_forms import NativeTrainedDCDConv2d
    from pose.models.native.training.operations import PoolCache

FUSIONS = ("channel", "joint")


class DCDConv2d(DynamicLayer):
    """``nn.Conv2d`` whose kernel is W_0, scaled per output channel and image, plus a dynamic residual.

    In training it is computed in factorized form, without a kernel per image; depthwise layers always
    assemble their kernel, and in evaluation a single image's is assembled where that is less work.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode,
            device, dtype: As for ``nn.Conv2d``; groups is 1 or, for depthwise layers, ``in_channels``.
        use_lambda: Scale W_0 by Lambda.
        use_phi: Add the residual.
        latent_channels: L of a block; None for :func:`default_latent_channels`.
        latent_rule: Which of :data:`LATENT_RULES` gives the default L; None for ``root`` in k x k layers
            and ``halved`` in 1 x 1.
        latent_multiplier: A factor on the default L (Table 2).
        num_blocks: B (Table 3a); depthwise layers have one block whatever it is.
        reduction: r, the branch's inputs over its hidden units.
        hidden_channels: The branch's hidden units; None for max(inputs, L^2) // r, with L as for one block.
        fusion: Fusion of k x k kernels: ``channel``, which the paper recommends, or ``joint``.
        pool_size: The branch sees ``pool_size`` x ``pool_size`` averages; None for 2 in layers that
            expand or are k x k, and 1 in others.
        normalize: Batch-normalise on both sides of Phi; depthwise layers never do.

    Attributes:
        weight: W_0, (C_out, C_in / groups, kh, kw).
        residual: One of :mod:`pose.models.dynamic.dcd_residual`, None without Phi.

    Raises:
        ValueError: A value is out of range; the message names it.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] | str = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        use_lambda: bool = True,
        use_phi: bool = True,
        latent_channels: int | None = None,
        latent_rule: str | None = None,
        latent_multiplier: float = 1.0,
        num_blocks: int = 1,
        reduction: int = 16,
        hidden_channels: int | None = None,
        fusion: str = "channel",
        pool_size: int | None = None,
        normalize: bool = True,
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, stride, padding, dilation, groups, padding_mode)
        if groups not in (1, in_channels):
            raise ValueError(f"groups must be 1 or in_channels ({in_channels}), got {groups}")
        if not latent_multiplier > 0:
            raise ValueError(f"latent_multiplier must be positive, got {latent_multiplier}")
        for name, value, known in (("fusion", fusion, FUSIONS), ("latent_rule", latent_rule, (None, *LATENT_RULES))):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(map(str, known))}, got {value!r}")
        sizes = {"latent_channels": latent_channels, "hidden_channels": hidden_channels, "pool_size": pool_size}
        for name, size in {**sizes, "num_blocks": num_blocks, "reduction": reduction}.items():
            if size is not None and size < 1:
                raise ValueError(f"{name} must be at least 1, got {size}")
        spatial = math.prod(self.kernel_size) > 1
        self.depthwise = groups > 1
        self.joint = fusion == "joint" and spatial and not self.depthwise
        if pool_size is None:
            pool_size = 2 if not self.depthwise and (spatial or in_channels < out_channels) else 1
        rule = latent_rule or ("root" if spatial else "halved")
        elements = latent_elements(self.kernel_size) if self.joint else 1

        def latent_of(blocks: int) -> int:
            default = default_latent_channels(in_channels // blocks, out_channels // blocks, pool_size, rule, elements)
            return latent_channels or max(int(default * latent_multiplier), LEAST_CHANNELS)

        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size, **place))
        self.bias = nn.Parameter(torch.empty(out_channels, **place)) if bias else None
        self.residual: ChannelResidual | DepthwiseResidual | None = None
        if use_phi:
            channels = (in_channels, out_channels, self.kernel_size)
            latent = latent_of(num_blocks)
            if self.depthwise:
                self.residual = DepthwiseResidual(out_channels, self.kernel_size, place)
            elif self.joint:
                self.residual = JointResidual(
                    *channels, self.stride, self.dilation, latent, num_blocks, normalize, place
                )
            else:
                self.residual = ChannelResidual(*channels, latent, num_blocks, normalize, place)
        self.branch = None
        if use_lambda or use_phi:
            phi_shape = None if self.residual is None else self.residual.phi_shape
            inputs = in_channels * pool_size**2
            latent = latent_elements(self.kernel_size) if self.depthwise else latent_of(1)
            hidden = hidden_channels or max(max(inputs, latent**2) // reduction, LEAST_CHANNELS)
            scale_channels = out_channels if use_lambda else None
            self.branch = DynamicBranch(in_channels, pool_size, hidden, scale_channels, phi_shape, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Kaiming fan-out for W_0, zero bias; the rest as its classes say."""
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        for module in (self.residual, self.branch):
            if module is not None:
                module.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        if self.depthwise or (not self.training and len(x) == 1 and self._assembling_is_less(x)):
            return self.convolve(x, *self.kernel(x))
        return self.factorized(x)

    def factorized(self, x: Tensor) -> Tensor:
        """Lambda times W_0 * x, plus P Phi (Q^T x): (N, C_in, H, W) to (N, C_out, H', W'); not for depthwise layers."""
        scale, phi = (None, None) if self.branch is None else self.branch(x)
        y = F.conv2d(self.pad(x), self.weight, None, self.stride, self.padding, self.dilation)
        if scale is not None:
            y = y * scale.to(y.dtype)[:, :, None, None]
        if phi is not None:
            assert isinstance(self.residual, ChannelResidual)
            y = y + self.residual(self.padded(x) if self.joint else self.centers(x), phi)
        return y if self.bias is None else y + self.bias.to(y.dtype)[:, None, None]

    def kernel(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """The kernel of each image, as evaluation mode has it: W(x) of the equations.

        Args:
            x: (N, C_in, H, W).

        Returns:
            weight (N, C_out, C_in / groups, kh, kw) and bias (N, C_out) or None.
        """
        scale, phi = (None, None) if self.branch is None else self.branch(x)
        weight = self.weight.expand(x.shape[0], *self.weight.shape)
        bias = None if self.bias is None else self.bias.expand(x.shape[0], -1)
        if scale is not None:
            weight = weight * scale[:, :, None, None, None]
        if phi is not None:
            assert self.residual is not None
            with torch.autocast(x.device.type, enabled=False):
                residual, shift = self.residual.kernel(phi)
            weight = weight + residual
            if shift is not None:
                bias = shift if bias is None else bias + shift
        return weight, bias

    def madds(self, height: int, width: int) -> tuple[int | None, int]:
        """Multiply-adds that Lambda and the residual add on one image: factorized and assembled.

        Args:
            height, width: Size of the input.

        Returns:
            The first is None for depthwise layers, which have one form.
        """
        left, right, top, bottom = self.outer_padding or (0, 0, 0, 0)
        rows, columns = height + top + bottom + 2 * self.padding[0], width + left + right + 2 * self.padding[1]
        output_pixels = math.prod(
            (size - step * (kernel - 1) - 1) // stride + 1
            for size, kernel, stride, step in zip(
                (rows, columns), self.kernel_size, self.stride, self.dilation, strict=True
            )
        )
        scales = self.branch is not None and self.branch.to_lambda is not None
        assembled = self.weight.numel() if scales else 0
        if self.residual is not None:
            assembled += self.residual.assembled_madds()
        if self.depthwise:
            return None, assembled
        factorized = self.out_channels * output_pixels if scales else 0
        if isinstance(self.residual, ChannelResidual):
            factorized += self.residual.factorized_madds(rows * columns, output_pixels)
        return factorized, assembled

    @torch.no_grad()
    def fold(self, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32) -> nn.Module:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`: float32, a native form has the branch in bank_dtype.

        Channel residuals become a :class:`~pose.models.dynamic.folded_dcd.FoldedDCDConv2d`. Layers with a depthwise or
        joint residual, or without one, stay what they are, W_0 and P scaled.
        """
        from pose.models.dynamic.folded_dcd import FoldedDCDConv2d, scaled

        if not self.depthwise and not self.joint and self.residual is not None:
            return FoldedDCDConv2d(self, norm)
        return scaled(self, norm)

    def graph_form(self, forms: GraphForms) -> nn.Module:
        """See :class:`~pose.models.dynamic.per_image_conv.PerImageConv2d`: a folded layer that is one of these."""
        from pose.models.dynamic.folded_dcd import AssembledForm

        if isinstance(self.residual, JointResidual) and forms.batch == "one":
            return JointFactors(self, forms)
        known = self.residual is None or (self.depthwise and forms.depthwise == "chain")
        if forms.decomposed == "constant" and known:
            return ConstantKernels(self)
        return AssembledForm(self, forms)

    def cost(self, height: int, width: int) -> DynamicCost:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`; the cheaper form of the residual is counted."""
        if self.branch is None:
            return DynamicCost(0, 0)
        forms = self.madds(height, width)
        return super().cost(height, width)._replace(aggregation=min(form for form in forms if form is not None))

    def kernel_bytes(self, batch_size: int) -> int:
        """None: in factorized form there is no kernel for each image, and depthwise ones are small."""
        return 0

    @torch.no_grad()
    def load_static(self, weight: Tensor, bias: Tensor | None, noise: float = 0.0) -> None:
        """See :class:`~pose.models.dynamic.base.DynamicLayer`: Lambda starts at one, and P = 0 leaves no residual.

        There are no copies of the kernel that noise could part.
        """
        super().load_static(weight, bias)
        if self.residual is not None:
            nn.init.zeros_(self.residual.p)
        if self.branch is not None and self.branch.to_lambda is not None:
            nn.init.zeros_(self.branch.to_lambda.weight)

    def native_training(self, pool_cache: PoolCache) -> NativeTrainedDCDConv2d:
        """Its form for native training."""
        from pose.models.native.training.dynamic_forms import NativeTrainedDCDConv2d

        return NativeTrainedDCDConv2d.of(self, pool_cache)

    def _assembling_is_less(self, x: Tensor) -> bool:
        factorized, assembled = self.madds(x.shape[2], x.shape[3])
        return factorized is not None and assembled < factorized
