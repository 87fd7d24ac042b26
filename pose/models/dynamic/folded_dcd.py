"""Decomposed dynamic layers as inference wants them: every normalisation folded in.

With s, t of the normalisation after the layer and s_i, t_i, s_o, t_o of those around Phi, the layer is

    W(x) = Lambda(x) (s W_0) + (s P) Phi' (s_i Q^T),        Phi' = I + s_o Phi(x),
    b(x) = s b + t + (s P) t_o + (s P) Phi' t_i.
"""

from __future__ import annotations

import copy
import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.dcd import DCDConv2d
from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.dcd_residual import ChannelResidual, JointResidual, centres
from pose.models.dynamic.folded import copy_geometry, scale_and_shift
from pose.models.dynamic.per_image_conv import PerImageConv2d


def fold_dcd(layer: DCDConv2d, norm: nn.BatchNorm2d | None = None) -> nn.Module:
    """The layer and the normalisation after it, in evaluation mode, as one.

    Channel residuals become a :class:`FoldedDCDConv2d`. Depthwise and joint ones stay as they are, P scaled.
    """
    residual = layer.residual
    if isinstance(residual, ChannelResidual) and not isinstance(residual, JointResidual):
        return FoldedDCDConv2d(layer, norm)
    layer = copy.deepcopy(layer)
    scale, shift = scale_and_shift(norm, layer.out_channels)
    bias = shift if layer.bias is None else shift + layer.bias * scale
    layer.weight.mul_(scale[:, None, None, None])
    if layer.residual is not None:
        layer.residual.p.mul_(scale[:, None])
    layer.bias = nn.Parameter(bias.to(layer.weight.dtype))
    return layer


class FoldedDCDConv2d(PerImageConv2d):
    """A layer with a channel residual and the normalisation after it.

    Args:
        layer: The layer.
        norm: In evaluation mode; None for none.

    Attributes:
        branch: Gives Lambda and s_o Phi.
        phi_shape: (B, L, L).
        weight: s W_0.
        p: s P, (B, C_out / B, L).
        q: s_i Q^T, (B, L, C_in / B).
        latent_bias: t_i, (B, L).
        bias: What of b(x) is the same for every image, (C_out,).
    """

    def __init__(self, layer: DCDConv2d, norm: nn.BatchNorm2d | None = None) -> None:
        nn.Module.__init__(self)
        copy_geometry(self, layer)
        self.branch: DynamicBranch = copy.deepcopy(layer.branch)
        residual = layer.residual
        blocks, latent = residual.phi_shape[:2]
        self.phi_shape = (blocks, latent, latent)
        scale, shift = scale_and_shift(norm, layer.out_channels)
        scale_in, shift_in = scale_and_shift(residual.norm_in, blocks * latent)
        scale_out, shift_out = scale_and_shift(residual.norm_out, blocks * latent)
        p = (residual.p * scale[:, None]).view(blocks, -1, latent)
        bias = shift if layer.bias is None else shift + layer.bias * scale
        bias = bias + (p @ shift_out.view(blocks, latent, 1)).flatten()
        self.branch.to_phi.weight.mul_(scale_out.repeat_interleave(latent)[:, None])
        self.register_buffer("weight", (layer.weight * scale[:, None, None, None]).float())
        self.register_buffer("p", p.float())
        self.register_buffer("q", (residual.q * scale_in[:, None]).view(blocks, latent, -1).float())
        self.register_buffer("latent_bias", shift_in.view(blocks, latent).float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("identity", torch.eye(latent), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        scale, phi = self.branch(x)
        mixed = self.mix(phi)
        if len(x) == 1 and self.assembling_is_less(*x.shape[2:]):
            return self.convolve(x, *self.assembled(scale, mixed))
        return self.factorised(x, scale, mixed)

    def mix(self, phi: Tensor) -> Tensor:
        """Phi - I of the branch, (N, B, L, L, 1), to P Phi', (N, B, C_out / B, L)."""
        return self.p @ (phi.flatten(3) + self.identity)

    def assembling_is_less(self, height: int, width: int) -> bool:
        """Whether one image's kernel costs fewer multiply-adds than the factors applied to its pixels."""
        blocks, latent, _ = self.phi_shape
        pixels = math.ceil(height / self.stride[0]) * math.ceil(width / self.stride[1])
        outside = self.out_channels * self.in_channels // blocks
        return outside * latent < (self.p.numel() + self.q.numel()) * pixels

    def assembled(self, scale: Tensor | None, mixed: Tensor) -> tuple[Tensor, Tensor]:
        """Lambda (N, C_out) and P Phi' (N, B, C_out / B, L) to weight (N, C_out, C_in, kh, kw) and bias (N, C_out)."""
        residual = mixed @ self.q
        if self.phi_shape[0] > 1:
            blocks = torch.eye(self.phi_shape[0])[:, None, :, None]
            residual = residual[:, :, :, None] * blocks
        residual = residual.reshape(-1, self.out_channels, self.in_channels)
        weight = self.weight[None] if scale is None else scale[:, :, None, None, None] * self.weight
        if self.kernel_size == (1, 1):
            weight = weight + residual[..., None, None]
        else:
            rows, columns = (side // 2 for side in self.kernel_size)
            weight = weight + F.pad(residual[..., None, None], (columns, columns, rows, rows))
        bias = (mixed @ self.latent_bias[..., None]).flatten(1) + self.bias
        return weight, bias

    def factorised(self, x: Tensor, scale: Tensor | None, mixed: Tensor) -> Tensor:
        """The same without a kernel per image: (N, C_in, H, W) to (N, C_out, H', W')."""
        y = F.conv2d(self.pad(x), self.weight, None, self.stride, self.padding, self.dilation)
        if scale is not None:
            y = y * scale[:, :, None, None]
        blocks, latent, _ = self.phi_shape
        q = self.q.flatten(0, 1)[:, :, None, None]
        inside = F.conv2d(self._centres(x), q, self.latent_bias.flatten(), groups=blocks)
        inside = inside.flatten(2).unflatten(1, (blocks, latent))
        return y + (mixed @ inside).view_as(y) + self.bias[:, None, None]

    def _centres(self, x: Tensor) -> Tensor:
        """What lies under the kernel's centre at each of its places."""
        margin = tuple(step * (size // 2) for size, step in zip(self.kernel_size, self.dilation, strict=True))
        if self.outer_padding is None and self.padding == margin:  # 'same': no need to pad only to crop
            return x[:, :, :: self.stride[0], :: self.stride[1]]
        rows, columns = self.padding
        return centres(F.pad(self.pad(x), (columns, columns, rows, rows)), self.kernel_size, self.stride, self.dilation)
