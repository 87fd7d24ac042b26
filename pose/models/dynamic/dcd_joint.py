"""The dynamic residual of DCD (arXiv 2103.08756) that covers a whole k x k kernel: joint fusion."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from pose.models.dynamic.dcd_residual import ChannelResidual, latent_elements
from pose.models.dynamic.per_image_conv import centers, convolve_per_image


class JointResidual(ChannelResidual):
    """Phi(x) x_1 Q x_2 P x_3 R (eq. 9): the residual covers the whole kernel.

    Args:
        stride, dilation: Stride and dilation of the layer it adds to.
        in_channels, out_channels, kernel_size, latent_channels, num_blocks, normalize, place: As for
            :class:`~pose.models.dynamic.dcd_residual.ChannelResidual`.

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
        """As in :class:`~pose.models.dynamic.dcd_residual.ChannelResidual`, and unit rows for R on average."""
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
        """Multiply-adds of ``forward`` on one image of so many pixels, padding included."""
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
