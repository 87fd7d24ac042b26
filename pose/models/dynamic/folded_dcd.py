"""Decomposed dynamic layers for inference: every normalisation folded in.

With s, t of the normalisation after the layer and s_i, t_i, s_o, t_o of those around Phi, the layer is

    W(x) = Lambda(x) (s W_0) + (s P) Phi' (s_i Q^T),        Phi' = I + s_o Phi(x),
    b(x) = s b + t + (s P) t_o + (s P) Phi' t_i.
"""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.dcd_branch import DynamicBranch
from pose.models.dynamic.dcd_graph import ConstantFactors, OneImageDCD
from pose.models.dynamic.dcd_residual import ChannelResidual, DepthwiseResidual
from pose.models.dynamic.graph_forms import GraphForms
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.native.inference.layers import NativeLayer, arrays, interleave, is_known, pack_panels, pad_to_panel
from pose.models.norm import scale_and_shift
from pose.native.program import Step

if TYPE_CHECKING:
    from pose.models.dynamic.dcd import DCDConv2d


def scaled(layer: DCDConv2d, norm: nn.BatchNorm2d | None = None) -> DCDConv2d:
    """A copy of a layer with a depthwise or joint residual, or without one: a normalisation goes into W_0, P and bias.

    Args:
        layer: The layer.
        norm: The normalisation, in evaluation mode; None for none.
    """
    layer = copy.deepcopy(layer)
    scale, shift = scale_and_shift(norm, layer.out_channels, torch.float64, layer.weight.device)
    bias = shift if layer.bias is None else shift + layer.bias * scale
    with torch.no_grad():
        layer.weight.mul_(scale[:, None, None, None])
        if layer.residual is not None:
            layer.residual.p.mul_(scale[:, None])
        layer.bias = nn.Parameter(bias.to(layer.weight.dtype))
    return layer


class AssembledForm(nn.Module):
    """A decomposed layer that has stayed what it is, in a graph: always the assembled kernel.

    With one image a depthwise one's is made of tensors of at most four dimensions, and with I + Phi in place of R added
    to Phi R: ExecuTorch does not take a constant that is the matrix of a product and added as well.

    Args:
        layer: The layer.
        forms: ``batch`` is used.
    """

    identity: Tensor

    def __init__(self, layer: DCDConv2d, forms: GraphForms) -> None:
        super().__init__()
        self.layer, self.forms = layer, forms
        residual = layer.residual
        elements = len(residual.r) if isinstance(residual, DepthwiseResidual) else 0
        self.register_buffer("identity", torch.eye(elements, device=layer.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        layer = self.layer
        residual = layer.residual
        if not isinstance(residual, DepthwiseResidual) or self.forms.batch == "any":
            return layer.convolve(x, *layer.kernel(x))
        assert layer.branch is not None
        scale, phi = layer.branch.vectors(x)
        assert phi is not None
        mixed = torch.mm(phi.reshape(self.identity.shape) + self.identity, residual.r)
        static = layer.weight.flatten(1) if scale is None else layer.weight.flatten(1) * scale.reshape(-1, 1)
        # a matrix until it is a kernel: LiteRT's converter turns the dimensions of what it adds to constants of four
        kernel = (static + torch.mm(residual.p, mixed)).reshape(layer.weight.shape)
        return F.conv2d(layer.pad(x), kernel, layer.bias, layer.stride, layer.padding, layer.dilation, layer.groups)


class FoldedDCDConv2d(PerImageConv2d):
    """A layer with a channel residual and the normalisation after it.

    Args:
        layer: The layer.
        norm: The normalisation, in evaluation mode; None for none.

    Attributes:
        branch: Gives Lambda and s_o Phi.
        phi_shape: (B, L, L).
        weight: s W_0.
        p: s P, (B, C_out / B, L).
        q: s_i Q^T, (B, L, C_in / B).
        latent_bias: t_i, (B, L).
        bias: The part of b(x) that is the same for every image, (C_out,).
        identity: I, (L, L).
    """

    weight: Tensor
    p: Tensor
    q: Tensor
    latent_bias: Tensor
    bias: Tensor
    identity: Tensor

    def __init__(self, layer: DCDConv2d, norm: nn.BatchNorm2d | None = None) -> None:
        nn.Module.__init__(self)
        self.copy_geometry(layer)
        branch, residual = copy.deepcopy(layer.branch), layer.residual
        assert branch is not None and branch.to_phi is not None and isinstance(residual, ChannelResidual)
        self.branch: DynamicBranch = branch
        blocks, latent = residual.phi_shape[:2]
        self.phi_shape = (blocks, latent, latent)
        place: dict[str, Any] = {"dtype": torch.float64, "device": layer.weight.device}
        scale, shift = scale_and_shift(norm, layer.out_channels, **place)
        scale_in, shift_in = scale_and_shift(residual.norm_in, blocks * latent, **place)
        scale_out, shift_out = scale_and_shift(residual.norm_out, blocks * latent, **place)
        p = (residual.p * scale[:, None]).view(blocks, -1, latent)
        bias = shift if layer.bias is None else shift + layer.bias * scale
        bias = bias + (p @ shift_out.view(blocks, latent, 1)).flatten()
        branch.to_phi.weight.mul_(scale_out.repeat_interleave(latent)[:, None])
        self.register_buffer("weight", (layer.weight * scale[:, None, None, None]).float())
        self.register_buffer("p", p.float())
        self.register_buffer("q", (residual.q * scale_in[:, None]).view(blocks, latent, -1).float())
        self.register_buffer("latent_bias", shift_in.view(blocks, latent).float())
        self.register_buffer("bias", bias.float())
        self.register_buffer("identity", torch.eye(latent, device=layer.weight.device), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        scale, phi = self.branch(x)
        mixed = self.mix(phi)
        if len(x) == 1 and self.assembling_is_less(*x.shape[2:]):
            return self.convolve(x, *self.assembled(scale, mixed))
        return self.factorized(x, scale, mixed)

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
            blocks = torch.eye(self.phi_shape[0], dtype=residual.dtype, device=residual.device)[:, None, :, None]
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

    def factorized(self, x: Tensor, scale: Tensor | None, mixed: Tensor) -> Tensor:
        """Computes the layer without a kernel per image: (N, C_in, H, W) to (N, C_out, H', W')."""
        y = F.conv2d(self.pad(x), self.weight, None, self.stride, self.padding, self.dilation)
        if scale is not None:
            y = y * scale[:, :, None, None]
        blocks, latent, _ = self.phi_shape
        q = self.q.flatten(0, 1)[:, :, None, None]
        inside = F.conv2d(self.centers(x), q, self.latent_bias.flatten(), groups=blocks)
        inside = inside.flatten(2).unflatten(1, (blocks, latent))
        return y + (mixed @ inside).view_as(y) + self.bias[:, None, None]

    def graph_form(self, forms: GraphForms) -> nn.Module:
        """See :class:`~pose.models.dynamic.per_image_conv.PerImageConv2d`: factors, or an assembled kernel."""
        if forms.batch == "any":
            return FactorsForm(self)
        return ConstantFactors(self) if forms.decomposed == "constant" else OneImageDCD(self, forms)

    def native_form(self, activation: int, bank_dtype: torch.dtype = torch.float32) -> NativeDCDConv2d | None:
        """See :class:`~pose.models.dynamic.per_image_conv.PerImageConv2d`, for one block and 'same' padding."""
        margin = tuple(step * (size // 2) for size, step in zip(self.kernel_size, self.dilation, strict=True))
        known = is_known(self) and self.phi_shape[0] == 1 and self.padding == margin
        return NativeDCDConv2d(self, activation, bank_dtype) if known else None


class FactorsForm(nn.Module):
    """A :class:`FoldedDCDConv2d` in a graph of any number of images, always by its factors.

    Args:
        layer: The layer.
    """

    def __init__(self, layer: FoldedDCDConv2d) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        scale, phi = self.layer.branch(x)
        return self.layer.factorized(x, scale, self.layer.mix(phi))


class NativeDCDConv2d(NativeLayer):
    """:class:`FoldedDCDConv2d` with one block and 'same' padding, and an activation.

    Args:
        layer: The layer.
        activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
        bank_dtype: Precision of the branch's matrices, which are most of what it reads; int8 is bfloat16 here.
    """

    def __init__(self, layer: FoldedDCDConv2d, activation: int, bank_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(layer, activation)
        branch, latent = layer.branch, layer.phi_shape[1]
        self.pool_size = branch.pool_size
        dtype = torch.bfloat16 if bank_dtype == torch.int8 else bank_dtype
        assert branch.to_phi is not None
        q, phi = layer.q[0], branch.to_phi.weight.detach().t().unflatten(1, (latent, latent))
        matrices = {
            "reduce": branch.reduce.weight.detach().t(),
            "gate": branch.gate.weight.detach().t(),
            "to_phi": pad_to_panel(phi.transpose(1, 2)).flatten(1),
        }
        constants = {
            "identity": pad_to_panel(torch.eye(latent)),
            "weight": pack_panels(layer.weight).flatten(1),
            "p": pack_panels(layer.p[0][:, :, None, None]).flatten(1),
            "q_panels": pack_panels(q[:, :, None, None]).flatten(1),
            "q": q.t().contiguous(),
            "latent_bias": pad_to_panel(layer.latent_bias[0]),
            "bias": pad_to_panel(layer.bias),
        }
        self.names = (*matrices, *constants)
        if branch.to_lambda is not None:
            matrices["to_lambda"] = pad_to_panel(branch.to_lambda.weight.detach().t())
        for name, value in {**constants, **{key: interleave(m.to(dtype)) for key, m in matrices.items()}}.items():
            self.register_buffer(name, value)

    def steps(self) -> list[Step]:
        """See :class:`~pose.models.native.inference.layers.NativeModule`."""
        tensors = [*(getattr(self, name) for name in self.names), getattr(self, "to_lambda", None)]
        return [Step("decomposed", (*self.shape, self.pool_size), arrays(*tensors))]
