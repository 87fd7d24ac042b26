"""Decomposed layers in a graph of one image: matrices of two dimensions, tensors of four, and nothing beyond those.

ncnn has no tensors of five dimensions, and runtimes with delegates compute those of more than four outside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.graph_forms import GraphForms

if TYPE_CHECKING:
    from pose.models.dynamic.folded_dcd import FoldedDCDConv2d


class OneImageDCD(nn.Module):
    """A :class:`~pose.models.dynamic.folded_dcd.FoldedDCDConv2d` of one image.

    Its kernel is assembled or its factors are applied, whichever are fewer multiply-adds.

    Args:
        layer: The layer, its branch in its form for graphs.
        forms: ``computed_bias`` is used.
    """

    def __init__(self, layer: FoldedDCDConv2d, forms: GraphForms) -> None:
        super().__init__()
        self.layer, self.forms = layer, forms

    def forward(self, x: Tensor) -> Tensor:
        """(1, C_in, H, W) to (1, C_out, H', W')."""
        layer = self.layer
        scale, phi = layer.branch.vectors(x)
        assert phi is not None
        blocks, latent, _ = layer.phi_shape
        parts = phi.split(latent * latent, 1) if blocks > 1 else [phi]  # LiteRT has no split into a single part
        matrices = [part.reshape(latent, latent) + layer.identity for part in parts]
        mixed = [torch.mm(p, matrix) for p, matrix in zip(layer.p, matrices, strict=True)]  # (C_out / B, L) each
        if layer.assembling_is_less(int(x.shape[2]), int(x.shape[3])):
            return self._assembled(x, scale, mixed)
        return self._factorized(x, scale, mixed)

    def _factorized(self, x: Tensor, scale: Tensor | None, mixed: list[Tensor]) -> Tensor:
        layer, blocks = self.layer, len(mixed)
        geometry = (layer.stride, layer.padding, layer.dilation)
        bias = layer.bias if scale is None else None
        y = F.conv2d(layer.pad(x), layer.weight, bias, *geometry)
        if scale is not None:
            y = y * scale.reshape(1, -1, 1, 1) + layer.bias[None, :, None, None]
        q = layer.q.flatten(0, 1)[:, :, None, None]
        margin = tuple(step * (size // 2) for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
        if layer.outer_padding is None and layer.padding == margin:
            inside = F.conv2d(x, q, layer.latent_bias.flatten(), layer.stride, groups=blocks)
        else:
            inside = F.conv2d(layer.centers(x), q, layer.latent_bias.flatten(), groups=blocks)
        parts = inside.split(layer.phi_shape[1], 1) if blocks > 1 else [inside]
        added = [F.conv2d(part, matrix[:, :, None, None]) for matrix, part in zip(mixed, parts, strict=True)]
        return y + (torch.cat(added, 1) if blocks > 1 else added[0])

    def _assembled(self, x: Tensor, scale: Tensor | None, mixed: list[Tensor]) -> Tensor:
        layer, blocks = self.layer, len(mixed)
        residual = [torch.mm(matrix, q) for matrix, q in zip(mixed, layer.q, strict=True)]  # (C_out / B, C_in / B)
        if blocks > 1:
            size = layer.q.shape[2]
            residual = [F.pad(part, (i * size, (blocks - 1 - i) * size)) for i, part in enumerate(residual)]
        whole = torch.cat(residual) if blocks > 1 else residual[0]
        rows, columns = (side // 2 for side in layer.kernel_size)
        center = whole.reshape(layer.out_channels, layer.in_channels, 1, 1)
        center = F.pad(center, (columns, columns, rows, rows)) if rows or columns else center
        weight = center + (layer.weight if scale is None else layer.weight * scale.reshape(-1, 1, 1, 1))
        bias = [torch.mm(matrix, own[:, None]) for matrix, own in zip(mixed, layer.latent_bias, strict=True)]
        shift = (torch.cat(bias) if blocks > 1 else bias[0]).reshape(-1)
        computed = self.forms.computed_bias
        geometry = (layer.stride, layer.padding, layer.dilation)
        y = F.conv2d(layer.pad(x), weight, shift + layer.bias if computed else layer.bias, *geometry)
        return y if computed else y + shift.reshape(1, -1, 1, 1)
