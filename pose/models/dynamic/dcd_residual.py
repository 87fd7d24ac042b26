"""The dynamic residuals of DCD (arXiv 2103.08756): P Phi(x) Q^T in its three shapes.

Each takes Phi(x) - I, which the dynamic
branch gives for each image, and knows its equation in factorized form (``forward``) and as an assembled kernel
(``kernel``), and what either costs. The identity and the normalisation on both sides of Phi are the released
implementation's.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.per_image_conv import centers, convolve_per_image
from pose.models.norm import SafeBatchNorm2d, scale_and_shift


class ChannelResidual(nn.Module):
    """P Phi(x) Q^T at the kernel's centre (eq. 6; for k x k kernels: channel fusion alone).

    With B blocks it is the direct sum of P_b Phi_b(x) Q_b^T, each between C_in / B and C_out / B channels
    (eq. 7).

    Args:
        in_channels, out_channels: Channels, multiples of ``num_blocks``.
        kernel_size: Kernel size of the layer it adds to, odd.
        latent_channels: L of a block.
        num_blocks: B.
        normalize: Batch-normalise Q^T x and Phi Q^T x.
        place: ``device`` and ``dtype``.

    Attributes:
        phi_shape: (B, L, L, 1).
        p: All P_b, (C_out, L).
        q: All Q_b^T, (B L, C_in / B).

    Raises:
        ValueError: The kernel has no centre, or the blocks do not divide the channels.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        latent_channels: int,
        num_blocks: int,
        normalize: bool,
        place: Mapping[str, Any],
    ) -> None:
        super().__init__()
        if any(side % 2 == 0 for side in kernel_size):
            raise ValueError(f"kernel_size must be odd to have a centre, got {kernel_size}")
        if in_channels % num_blocks or out_channels % num_blocks:
            raise ValueError(
                f"num_blocks must divide in_channels and out_channels ({in_channels} and {out_channels}), "
                f"got {num_blocks}"
            )
        self.kernel_size = kernel_size
        self.phi_shape = (num_blocks, latent_channels, latent_channels, 1)
        self.p = nn.Parameter(torch.empty(out_channels, latent_channels, **place))
        self.q = nn.Parameter(torch.empty(num_blocks * latent_channels, in_channels // num_blocks, **place))
        self.norm_in = SafeBatchNorm2d(num_blocks * latent_channels, **place) if normalize else None
        self.norm_out = SafeBatchNorm2d(num_blocks * latent_channels, **place) if normalize else None

    def reset_parameters(self) -> None:
        """Kaiming fan-out for P, fan-in for Q; Phi is the identity at first.

        The released implementation starts ``norm_out`` with the scale 1. That makes Phi - I as large as the
        identity, whatever it is, and as its direction alone counts, Adam turns it by a large angle at every step:
        the network learns more slowly than the static one. Here the scale starts at 0 and grows as Phi is of use.
        """
        nn.init.kaiming_normal_(self.p, mode="fan_out", nonlinearity="relu")
        nn.init.kaiming_normal_(self.q, mode="fan_in", nonlinearity="relu")
        for norm in (self.norm_in, self.norm_out):
            if norm is not None:
                norm.reset_parameters()
        if self.norm_out is not None:
            nn.init.zeros_(self.norm_out.weight)

    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        """(N, C_in, H, W) at the kernel's centers and (N, B, L, L, 1) to (N, C_out, H, W)."""
        latent = self._enter(x)
        blocks = latent.flatten(2).unflatten(1, self.phi_shape[:2])
        mixed = (phi[..., 0].to(latent.dtype) @ blocks).view_as(latent)
        return self._leave(latent, mixed)

    def _enter(self, x: Tensor) -> Tensor:
        latent = F.conv2d(x, self.q[:, :, None, None], groups=self.phi_shape[0])
        return latent if self.norm_in is None else self.norm_in(latent)

    def _leave(self, latent: Tensor, mixed: Tensor) -> Tensor:
        latent = latent + (mixed if self.norm_out is None else self.norm_out(mixed))
        return F.conv2d(latent, self.p[:, :, None, None], groups=self.phi_shape[0])

    def kernel(self, phi: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, B, L, L, 1) to weight (N, C_out, C_in, kh, kw) and bias (N, C_out) or None."""
        pointwise, bias = self._assemble(phi[..., None])
        rows, columns = (side // 2 for side in self.kernel_size)
        return F.pad(pointwise, (columns, columns, rows, rows)), bias

    def _assemble(self, core: Tensor) -> tuple[Tensor, Tensor | None]:
        """Kernels between the latent channels, (N, B, L, L, h, w), to kernels between the channels."""
        blocks, latent = self.phi_shape[:2]
        p, q = self.p.unflatten(0, (blocks, -1)), self.q.unflatten(0, (blocks, latent))
        shifts = None
        if self.norm_in is not None:
            scale_in, shift_in = (v.view(blocks, latent) for v in scale_and_shift(self.norm_in, blocks * latent))
            scale_out, shift_out = (v.view(blocks, latent) for v in scale_and_shift(self.norm_out, blocks * latent))
            shifts = shift_in, shift_out
            q = scale_in[..., None] * q
            core = scale_out[..., None, None, None] * core
        center = core.new_zeros(core.shape[2:])
        center[:, :, core.shape[4] // 2, core.shape[5] // 2] = torch.eye(latent, dtype=core.dtype, device=core.device)
        core = core + center
        weight = torch.einsum("gnobhw,gbi->ngoihw", torch.einsum("goa,ngabhw->gnobhw", p, core), q)
        weight = _direct_sum(weight)
        if shifts is None:
            return weight, None
        inside = torch.einsum("ngab,gb->nga", core.sum((4, 5)), shifts[0]) + shifts[1]
        return weight, torch.einsum("goa,nga->ngo", p, inside).flatten(1)

    def factorized_madds(self, input_pixels: int, output_pixels: int) -> int:
        """Multiply-adds of ``forward`` on one image, whose input pixels include the padding."""
        return (self.q.numel() + math.prod(self.phi_shape) + self.p.numel()) * output_pixels

    def assembled_madds(self) -> int:
        """Multiply-adds of ``kernel`` for one image."""
        weight = self.p.numel() * (self.p.shape[1] + self.q.shape[1])
        bias = 0 if self.norm_in is None else math.prod(self.phi_shape[:3]) + self.p.numel()
        return weight + bias


class JointResidual(ChannelResidual):
    """Phi(x) x_1 Q x_2 P x_3 R (eq. 9): the residual covers the whole kernel.

    Args:
        stride, dilation: Stride and dilation of the layer it adds to.
        in_channels, out_channels, kernel_size, latent_channels, num_blocks, normalize, place: As for
            :class:`ChannelResidual`.

    Attributes:
        phi_shape: (B, L, L, L_k), L_k = kh kw // 2.
        r: R^T, (L_k, kh kw).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        stride: tuple[int, int],
        dilation: tuple[int, int],
        latent_channels: int,
        num_blocks: int,
        normalize: bool,
        place: Mapping[str, Any],
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, latent_channels, num_blocks, normalize, place)
        self.stride = stride
        self.dilation = dilation
        elements = latent_elements(kernel_size)
        self.phi_shape = (num_blocks, latent_channels, latent_channels, elements)
        self.r = nn.Parameter(torch.empty(elements, math.prod(kernel_size), **place))

    def reset_parameters(self) -> None:
        """Draws P and Q as :class:`ChannelResidual` does, and R with unit rows on average."""
        super().reset_parameters()
        nn.init.normal_(self.r, std=self.r.shape[1] ** -0.5)

    def forward(self, x: Tensor, phi: Tensor) -> Tensor:
        """(N, C_in, H, W), padded, and (N, B, L, L, L_k) to (N, C_out, H', W')."""
        latent = self._enter(x)
        kernel = self._spread(phi).flatten(1, 2).to(latent.dtype)
        blocks = self.phi_shape[0]
        mixed = convolve_per_image(latent, kernel, None, self.stride, (0, 0), self.dilation, blocks)
        return self._leave(centers(latent, self.kernel_size, self.stride, self.dilation), mixed)

    def kernel(self, phi: Tensor) -> tuple[Tensor, Tensor | None]:
        """(N, B, L, L, L_k) to weight (N, C_out, C_in, kh, kw) and bias (N, C_out) or None."""
        return self._assemble(self._spread(phi))

    def factorized_madds(self, input_pixels: int, output_pixels: int) -> int:
        """Multiply-adds of ``forward`` on one image, whose input pixels include the padding."""
        mixed = math.prod(self.phi_shape[:3]) * self.r.shape[1] * output_pixels
        outside = self.q.numel() * input_pixels + self.p.numel() * output_pixels
        return self._spread_madds() + mixed + outside

    def assembled_madds(self) -> int:
        """Multiply-adds of ``kernel`` for one image."""
        weight = self.p.numel() * (self.p.shape[1] + self.q.shape[1])
        return self._spread_madds() + super().assembled_madds() + weight * (self.r.shape[1] - 1)

    def _spread(self, phi: Tensor) -> Tensor:
        """(N, B, L, L, L_k) to (N, B, L, L, kh, kw)."""
        return (phi @ self.r).unflatten(4, self.kernel_size)

    def _spread_madds(self) -> int:
        return math.prod(self.phi_shape) * self.r.shape[1]


class DepthwiseResidual(nn.Module):
    """P Phi(x) R^T over the elements of a depthwise kernel (eq. 8); only as an assembled kernel.

    Args:
        out_channels: The number of channels.
        kernel_size: Kernel size of the layer it adds to.
        place: ``device`` and ``dtype``.

    Attributes:
        phi_shape: (1, L_k, L_k, 1), L_k = kh kw // 2.
        p: P, (C_out, L_k).
        r: R^T, (L_k, kh kw).
    """

    def __init__(self, out_channels: int, kernel_size: tuple[int, int], place: Mapping[str, Any]) -> None:
        super().__init__()
        elements = latent_elements(kernel_size)
        self.kernel_size = kernel_size
        self.phi_shape = (1, elements, elements, 1)
        self.p = nn.Parameter(torch.empty(out_channels, elements, **place))
        self.r = nn.Parameter(torch.empty(elements, math.prod(kernel_size), **place))

    def reset_parameters(self) -> None:
        """Kaiming fan-out for P, unit rows for R on average."""
        nn.init.kaiming_normal_(self.p, mode="fan_out", nonlinearity="relu")
        nn.init.normal_(self.r, std=self.r.shape[1] ** -0.5)

    def kernel(self, phi: Tensor) -> tuple[Tensor, None]:
        """(N, 1, L_k, L_k, 1) to weight (N, C_out, 1, kh, kw)."""
        mixed = self.r + phi[:, 0, :, :, 0] @ self.r
        return (self.p @ mixed).unflatten(2, (1, *self.kernel_size)), None

    def assembled_madds(self) -> int:
        """Multiply-adds of ``kernel`` for one image."""
        return (len(self.r) ** 2 + self.p.numel()) * self.r.shape[1]


def latent_elements(kernel_size: tuple[int, int]) -> int:
    """L_k, the latent kernel elements: half of them, rounded down."""
    return max(math.prod(kernel_size) // 2, 1)


def _direct_sum(weight: Tensor) -> Tensor:
    """(N, B, O, I, h, w) to (N, B O, B I, h, w), block-diagonal."""
    if weight.shape[1] == 1:
        return weight[:, 0]
    blocks = torch.eye(weight.shape[1], dtype=weight.dtype, device=weight.device)[:, None, :, None, None, None]
    return (weight[:, :, :, None] * blocks).flatten(3, 4).flatten(1, 2)
