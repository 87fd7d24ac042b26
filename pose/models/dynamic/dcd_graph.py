"""Decomposed layers in a graph of one image: matrices of two dimensions, tensors of four, and nothing beyond those.

ncnn has no tensors of five dimensions, and runtimes with delegates compute those of more than four outside them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.dcd_residual import DepthwiseResidual, JointResidual
from pose.models.dynamic.graph_forms import GraphForms
from pose.models.norm import scale_and_shift

if TYPE_CHECKING:
    from pose.models.dynamic.dcd import DCDConv2d
    from pose.models.dynamic.folded_dcd import FoldedDCDConv2d


class OneImageDCD(nn.Module):
    """A :class:`~pose.models.dynamic.folded_dcd.FoldedDCDConv2d` of one image.

    Its kernel is assembled or its factors are applied, whichever are fewer multiply-adds.

    Args:
        layer: The layer, its branch in its form for graphs.
        forms: ``computed_bias`` and ``parts`` are used.
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
        matrices = [part.reshape(latent, latent) + layer.identity for part in _parts(phi, blocks, self.forms)]
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
        inside = _enter(x, layer, layer.q.flatten(0, 1)[:, :, None, None], layer.latent_bias.flatten())
        parts = _parts(inside, blocks, self.forms)
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


class ConstantFactors(nn.Module):
    """A :class:`~pose.models.dynamic.folded_dcd.FoldedDCDConv2d` of one image without a computed kernel.

    W_0, P and Q are kernels of convolutions, each a constant of four dimensions, and Phi alone is computed, a matrix
    that multiplies the pixels of the latent space.

    Args:
        layer: The layer, its branch in its form for graphs.
    """

    enter: Tensor
    enter_bias: Tensor
    leave: Tensor

    def __init__(self, layer: FoldedDCDConv2d) -> None:
        super().__init__()
        self.layer = layer
        for name, kernels in (("enter", layer.q), ("leave", layer.p)):
            self.register_buffer(name, kernels.flatten(0, 1)[:, :, None, None].contiguous())
        self.register_buffer("enter_bias", layer.latent_bias.flatten())

    def forward(self, x: Tensor) -> Tensor:
        """(1, C_in, H, W) to (1, C_out, H', W')."""
        layer = self.layer
        scale, phi = layer.branch.vectors(x)
        assert phi is not None
        blocks = layer.phi_shape[0]
        y = F.conv2d(layer.pad(x), layer.weight, None, layer.stride, layer.padding, layer.dilation)
        if scale is not None:
            y = y * scale.reshape(1, -1, 1, 1)
        latent = _enter(x, layer, self.enter, self.enter_bias)
        pixels = latent.reshape(blocks, layer.phi_shape[1], -1)
        mixed = torch.bmm(phi.reshape(layer.phi_shape) + layer.identity, pixels).reshape(latent.shape)
        return y + F.conv2d(mixed, self.leave, layer.bias, groups=blocks)


class ConstantKernels(nn.Module):
    """A decomposed layer with a depthwise residual, or without one, of one image and without a computed kernel.

    Convolutions by W_0 and by each row of R^T, whose outputs are scaled: by Lambda, and by what P Phi' has for the row.

    Args:
        layer: The layer, its branch in its form for graphs.
    """

    identity: Tensor
    shift: Tensor | None

    def __init__(self, layer: DCDConv2d) -> None:
        super().__init__()
        self.layer = layer
        rows = layer.residual.r.detach() if isinstance(layer.residual, DepthwiseResidual) else ()
        self.register_buffer("identity", torch.eye(len(rows), device=layer.weight.device))
        for index, row in enumerate(rows):
            kernels = row.reshape(1, 1, *layer.kernel_size).repeat(layer.out_channels, 1, 1, 1)
            self.register_buffer(f"kernels{index}", kernels)
        shift = None if layer.bias is None else layer.bias.detach().reshape(1, -1, 1, 1).clone()
        self.register_buffer("shift", shift)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C_in, H, W) to (1, C_out, H', W')."""
        layer, count = self.layer, len(self.identity)
        scale, phi = (None, None) if layer.branch is None else layer.branch.vectors(x)
        x = layer.pad(x)
        y = self._convolve(x, layer.weight, layer.bias if scale is None else None)
        if scale is not None:
            y = y * scale.reshape(1, -1, 1, 1)
            y = y if self.shift is None else y + self.shift
        if phi is not None:
            assert isinstance(layer.residual, DepthwiseResidual)
            mixed = F.linear((phi.reshape(count, count) + self.identity).t(), layer.residual.p)  # (L_k, C_out)
            mixed = mixed.reshape(-1, layer.out_channels, 1, 1)
            for index in range(count):
                y = y + self._convolve(x, self.get_buffer(f"kernels{index}"), None) * mixed[index : index + 1]
        return y

    def _convolve(self, x: Tensor, kernels: Tensor, bias: Tensor | None) -> Tensor:
        layer = self.layer
        return F.conv2d(x, kernels, bias, layer.stride, layer.padding, layer.dilation, layer.groups)


class JointFactors(nn.Module):
    """A decomposed layer with a joint residual, of one image, by its factors: Phi R^T alone is a computed kernel.

    It lies between the latent channels, so its blocks are convolutions of their own, of few channels, and no tensor has
    more than four dimensions. It is a matrix until it is a kernel: LiteRT's converter turns the dimensions of what it
    adds to constants of four. The padding is latent, too, since the normalization after Q^T shifts it.

    Args:
        layer: The layer, its branch in its form for graphs.
        forms: ``parts`` is used.
    """

    enter: Tensor
    enter_bias: Tensor
    leave: Tensor
    center: Tensor
    shift: Tensor | None

    def __init__(self, layer: DCDConv2d, forms: GraphForms) -> None:
        super().__init__()
        residual = layer.residual
        assert isinstance(residual, JointResidual)
        self.layer, self.forms = layer, forms
        blocks, latent = residual.phi_shape[:2]
        place: dict[str, Any] = {"dtype": residual.p.dtype, "device": residual.p.device}
        scale_in, shift_in = scale_and_shift(residual.norm_in, blocks * latent, **place)
        scale_out, shift_out = scale_and_shift(residual.norm_out, blocks * latent, **place)
        center = torch.zeros(latent, latent, *layer.kernel_size, **place)
        center[:, :, layer.kernel_size[0] // 2, layer.kernel_size[1] // 2] = torch.eye(latent, **place)
        shift = None if layer.bias is None else layer.bias.detach().reshape(1, -1, 1, 1).clone()
        constants: dict[str, Tensor | None] = {
            "enter": (residual.q * scale_in[:, None])[:, :, None, None].detach(),
            "enter_bias": shift_in.detach().clone(),
            "leave": residual.p[:, :, None, None].detach().clone(),
            "center": center.reshape(latent * latent, -1),
            "shift": shift,
        }
        for block in range(blocks):  # a part of them is no constant to exporters
            rows = slice(block * latent, (block + 1) * latent)
            constants[f"scale{block}"] = scale_out[rows].detach().repeat_interleave(latent)[:, None]
            constants[f"shift{block}"] = shift_out[rows].detach().clone()
        for name, values in constants.items():
            self.register_buffer(name, values)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C_in, H, W) to (1, C_out, H', W')."""
        layer = self.layer
        residual = layer.residual
        assert layer.branch is not None and isinstance(residual, JointResidual)
        blocks, latent, _, elements = residual.phi_shape
        scale, phi = layer.branch.vectors(x)
        assert phi is not None
        x = layer.pad(x)
        y = F.conv2d(x, layer.weight, None, layer.stride, layer.padding, layer.dilation)
        y = y if scale is None else y * scale.reshape(1, -1, 1, 1)
        inside = F.conv2d(x, self.enter, self.enter_bias, padding=layer.padding, groups=blocks)
        mixed = []
        parts = (_parts(values, blocks, self.forms) for values in (inside, phi))
        for block, (pixels, values) in enumerate(zip(*parts, strict=True)):
            spread = torch.mm(values.reshape(-1, elements), residual.r)
            matrix = spread * self.get_buffer(f"scale{block}") + self.center
            kernel = matrix.reshape(latent, latent, *layer.kernel_size)
            shift = self.get_buffer(f"shift{block}")
            mixed.append(F.conv2d(pixels, kernel, shift, layer.stride, (0, 0), layer.dilation))
        y = y + F.conv2d(torch.cat(mixed, 1) if blocks > 1 else mixed[0], self.leave, groups=blocks)
        return y if self.shift is None else y + self.shift


def _parts(values: Tensor, blocks: int, forms: GraphForms) -> list[Tensor]:
    """The parts of (1, B ...) that the B blocks have."""
    size = int(values.shape[1]) // blocks
    if blocks == 1:
        return [values]  # LiteRT has no split into a single part
    if forms.parts == "slices":
        return [values[:, block * size : (block + 1) * size] for block in range(blocks)]
    return list(values.split(size, 1))


def _enter(x: Tensor, layer: FoldedDCDConv2d, q: Tensor, bias: Tensor) -> Tensor:
    """Q^T x + t_i at the centers of a layer's windows, (1, B L, H', W'); q is (B L, C_in / B, 1, 1)."""
    margin = tuple(step * (size // 2) for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    if layer.outer_padding is None and layer.padding == margin:
        return F.conv2d(x, q, bias, layer.stride, groups=layer.phi_shape[0])
    return F.conv2d(layer.centers(x), q, bias, groups=layer.phi_shape[0])
