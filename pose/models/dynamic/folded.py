"""Dynamic convolution for inference: normalisation and constants folded in, nothing left to work out twice.

A normalisation after the layer scales and shifts its channels: y = s (W * x + b) + t. The scale goes into
every kernel. The shift is one for all kernels: with softmax attention the shares sum to one, and with
sigmoid attention (CondConv), whose shares do not, it must not be multiplied by them either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from pose.models.dynamic.dynamic_graph import OneImageDynamic
from pose.models.dynamic.graph_forms import COMPUTED, GraphForms, linear
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.native.inference.integers import side_by_side, to_bytes
from pose.models.native.inference.layers import NativeLayer, arrays, interleave, is_known, pack_panels, pad_to_panel
from pose.models.norm import scale_and_shift
from pose.native.program import Step

if TYPE_CHECKING:
    from pose.models.dynamic.dynamic_conv import DynamicConv2d


class FoldedDynamicConv2d(PerImageConv2d):
    """:class:`~pose.models.dynamic.dynamic_conv.DynamicConv2d` and the normalisation after it.

    Args:
        layer: The layer.
        norm: The normalisation, in evaluation mode; None for none.
        bank_dtype: Precision of the kernels and of the attention's first matrix, which are large; all else is
            float32.

    Attributes:
        w1, b1: (hidden, C_in) and (hidden,) of the attention; None with sigmoid attention.
        w2, b2: (K, hidden) and (K,), divided by the temperature.
        bank: (K, C_out x C_in / groups x kh x kw), scaled.
        bias: (C_out,) shared by all kernels.
        biases: (K, C_out) mixed like the kernels; None where the layer has none.
    """

    w1: Tensor | None
    b1: Tensor | None
    w2: Tensor
    b2: Tensor
    bank: Tensor
    bias: Tensor
    biases: Tensor | None

    def __init__(
        self, layer: DynamicConv2d, norm: nn.BatchNorm2d | None = None, bank_dtype: torch.dtype = torch.float32
    ) -> None:
        nn.Module.__init__(self)
        self.copy_geometry(layer)
        attention = layer.attention
        scale, shift = scale_and_shift(norm, layer.out_channels, torch.float64, layer.weight.device)
        fc1 = attention.fc1
        tau = 1.0 if fc1 is None else attention.temperature.double()
        bank = layer.weight.double() * scale[:, None, None, None]
        self.register_buffer("w1", None if fc1 is None else fc1.weight.detach().to(bank_dtype).contiguous())
        self.register_buffer("b1", None if fc1 is None else fc1.bias.detach().float())
        self.register_buffer("w2", (attention.fc2.weight / tau).float().contiguous())
        self.register_buffer("b2", (attention.fc2.bias / tau).float())
        self.register_buffer("bank", bank.flatten(1).to(bank_dtype))
        self.register_buffer("bias", shift.float())
        self.register_buffer("biases", None if layer.bias is None else (layer.bias * scale).float())

    def attend(self, x: Tensor, forms: GraphForms = COMPUTED) -> Tensor:
        """(N, C_in, H, W) to the kernels' shares (N, K), of ``forms`` with ``linear``."""
        return self.shares(x.mean((2, 3)), forms)

    def shares(self, pooled: Tensor, forms: GraphForms = COMPUTED, first: nn.Module | None = None) -> Tensor:
        """Averages (N, C_in) to what :meth:`attend` returns; ``first`` stands in for the first of the attention."""
        if self.w1 is None:
            return linear(pooled, self.w2, self.b2, forms).sigmoid()
        # without a conversion to the same type, which would stay in exported graphs
        w1 = self.w1 if self.w1.dtype == pooled.dtype else self.w1.to(pooled.dtype)
        hidden = first(pooled) if first else linear(pooled, w1, self.b1, forms)
        return linear(hidden.relu_(), self.w2, self.b2, forms).softmax(1)

    def kernel_shape(self) -> tuple[int, ...]:
        """(C_out, C_in / groups, kh, kw)."""
        return (self.out_channels, self.in_channels // self.groups, *self.kernel_size)

    def kernels(self, shares: Tensor) -> tuple[Tensor, Tensor]:
        """(N, K) to weight (N, C_out, C_in / groups, kh, kw) and bias (N, C_out), or (1, C_out) for all images."""
        weight = (shares.to(self.bank.dtype) @ self.bank).to(shares.dtype)
        weight = weight.view(-1, self.out_channels, self.in_channels // self.groups, *self.kernel_size)
        return weight, self.bias[None] if self.biases is None else torch.addmm(self.bias, shares, self.biases)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        weight, bias = self.kernels(self.attend(x))
        return self.convolve(x, weight, bias.expand(x.shape[0], -1))

    def native_form(self, activation: int, bank_dtype: torch.dtype = torch.float32) -> NativeDynamicConv2d | None:
        """See :class:`~pose.models.dynamic.per_image_conv.PerImageConv2d`; the bank has its own precision, or bytes."""
        return NativeDynamicConv2d(self, activation, bank_dtype) if is_known(self) else None

    def graph_form(self, forms: GraphForms) -> nn.Module:
        """See :class:`~pose.models.dynamic.per_image_conv.PerImageConv2d`."""
        return self if forms.batch == "any" else OneImageDynamic(self, forms)

    def shared_bank(self) -> Tensor | None:
        """The kernels (K, values) that the shares mix, where nothing else of the layer depends on the image."""
        return self.bank if self.biases is None else None


class NativeDynamicConv2d(NativeLayer):
    """:class:`FoldedDynamicConv2d` and an activation.

    Args:
        layer: The layer.
        activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
        bank_dtype: ``torch.int8`` for a bank of bytes, or of bfloat16 if depthwise, and an attention of bytes; with any
            other they have the layer's precision.
    """

    w1: Tensor | None
    b1: Tensor | None
    w2: Tensor
    b2: Tensor
    bank: Tensor
    bias: Tensor
    biases: Tensor | None
    scales: Tensor | None
    w1_scales: Tensor | None

    def __init__(self, layer: FoldedDynamicConv2d, activation: int, bank_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(layer, activation)
        in_bytes = bank_dtype == torch.int8
        w1 = None if layer.w1 is None else interleave(layer.w1.t())
        scales = w1_scales = None
        if in_bytes and layer.w1 is not None:  # (panels, C / 4, 16, 4)
            whole, w1_scales = to_bytes(layer.w1[:, :, None, None])
            w1 = side_by_side(pack_panels(whole).transpose(0, 1), 4).transpose(0, 1).flatten(1).contiguous()
        self.register_buffer("w1", w1)
        self.register_buffer("b1", None if layer.b1 is None else pad_to_panel(layer.b1))
        self.register_buffer("w2", layer.w2.t().contiguous())
        self.register_buffer("b2", layer.b2)
        kernels = layer.bank.unflatten(1, (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size))
        if self.depthwise:  # (K, kh kw C)
            bank = kernels.flatten(2).transpose(1, 2).flatten(1)
            bank = interleave(bank.bfloat16() if in_bytes else bank)
        elif in_bytes:  # (panels, K / 4, kh kw C_in, 16, 4)
            whole, scales = to_bytes(kernels)
            bank = side_by_side(pack_panels(whole), 4).transpose(0, 1)
        else:  # (panels, K, kh kw C_in, 16)
            bank = interleave(pack_panels(kernels).transpose(0, 1))
        self.register_buffer("bank", bank.flatten(1).contiguous())
        for name, values in (("scales", scales), ("w1_scales", w1_scales)):
            self.register_buffer(name, None if values is None else pad_to_panel(values))
        self.register_buffer("bias", pad_to_panel(layer.bias))
        self.register_buffer("biases", None if layer.biases is None else pad_to_panel(layer.biases))

    def steps(self) -> list[Step]:
        """See :class:`~pose.models.native.inference.layers.NativeModule`."""
        attention = (self.w1, self.b1, self.w2, self.b2)
        none = self.scales is None and self.w1_scales is None
        scales = () if none else (self.scales, self.w1_scales)
        return [Step("dynamic", self.shape, arrays(*attention, self.bank, self.bias, self.biases, *scales))]
