"""Banks and matrices of bytes in a graph of one image, in operations that runtimes have for language models.

Mixing kernels is a fully connected layer of shares with a constant matrix, and such layers with weights in 8 bits are
what every runtime has learned to compute from memory. But they are made for many inputs and few outputs, and a bank has
four inputs and 100,000 outputs, each with a scale, a sum and a bias of its own. So a kernel is taken as :data:`ROWS`
rows, and the bank of each row stands below the last: four times the inputs, a quarter of the outputs, and a row of
shares for each, with zeros where another row's bank is.
"""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.native.inference.integers import LARGEST, to_bytes

if TYPE_CHECKING:
    from pose.models.dynamic.folded import FoldedDynamicConv2d

ROWS = 4
"""Parts of a kernel that are mixed side by side: by measurement, see docs/benchmarks/runtimes.md."""
BLOCK = 32
"""Neighboring weights of a matrix that share a scale in ONNX Runtime."""
LEVELS = 255
"""The steps of a share in ONNX Runtime: two neighbors of one softmax times 127 are exact in 16 bits then."""


def stacked(bank: Tensor) -> Tensor:
    """A bank (K, P) as (R K, P / R), where R, the rows, is :data:`ROWS` or what of it divides P."""
    count, size = bank.shape
    rows = math.gcd(size, ROWS)
    return bank.reshape(count, rows, size // rows).transpose(0, 1).reshape(rows * count, size // rows).contiguous()


class Spread(nn.Module):
    """Shares (1, K) as (R, R K): row r has them where the bank of row r is, and zeros elsewhere.

    Args:
        rows, count: R and K.
    """

    mask: Tensor

    def __init__(self, rows: int, count: int) -> None:
        super().__init__()
        self.rows = rows
        self.register_buffer("mask", torch.eye(rows).repeat_interleave(count, 1))

    def forward(self, shares: Tensor) -> Tensor:
        return torch.cat([shares] * self.rows, 1) * self.mask if self.rows > 1 else shares


class LinearBank(nn.Module):
    """A bank as a fully connected layer, which the runtime's own quantizer makes bytes of.

    Args:
        layer: The dynamic layer.
    """

    weight: Tensor

    def __init__(self, layer: FoldedDynamicConv2d) -> None:
        super().__init__()
        self.shape = layer.kernel_shape()
        matrix = stacked(layer.bank)
        self.spread = Spread(len(matrix) // len(layer.bank), len(layer.bank))
        self.register_buffer("weight", matrix.t().contiguous())

    def forward(self, shares: Tensor) -> Tensor:
        """(1, K) to the kernel (C_out, C_in / groups, kh, kw)."""
        return F.linear(self.spread(shares), self.weight).reshape(self.shape)


class GatheredBank(nn.Module):
    """A bank of bytes that are widened where they are summed, by OpenVINO in one pass.

    The bytes are gathered by an index that is the same for every image and that no compiler knows: else OpenVINO makes
    them float32 when it loads the file.

    Args:
        layer: The dynamic layer.
    """

    bank: Tensor
    scales: Tensor
    numbers: Tensor

    def __init__(self, layer: FoldedDynamicConv2d) -> None:
        super().__init__()
        self.shape = layer.kernel_shape()
        whole, scales = to_bytes(layer.bank.unflatten(1, self.shape))
        self.register_buffer("bank", whole.flatten(2))
        self.register_buffer("scales", scales[:, None])
        self.register_buffer("numbers", torch.arange(len(whole)))

    def forward(self, shares: Tensor) -> Tensor:
        """See :meth:`LinearBank.forward`."""
        count, channels, _ = self.bank.shape
        each = shares.split(1, 1) if count > 1 else [shares]
        zero = (each[0] * 0.5).floor().reshape(1).long()
        kernels = self.bank.index_select(0, self.numbers + zero)
        parts = kernels.split(1, 0) if count > 1 else [kernels]
        first, *others = (
            part.reshape(channels, -1).float() * share.reshape(1, 1) for part, share in zip(parts, each, strict=True)
        )
        for other in others:
            first = first + other
        return (first * self.scales).reshape(self.shape)


class IntegerBank(nn.Module):
    """A bank as ONNX Runtime's product of integers (``com.microsoft.MatMulIntegerToFloat``).

    Args:
        layer: The dynamic layer.
    """

    bank: Tensor
    scales: Tensor

    def __init__(self, layer: FoldedDynamicConv2d) -> None:
        super().__init__()
        self.shape = layer.kernel_shape()
        # sums of two products are 16 bits wide on some processors: shares of a sigmoid may both be 1
        whole, scales = to_bytes(layer.bank.unflatten(1, self.shape), LARGEST if layer.w1 is not None else LARGEST // 2)
        matrix = stacked(whole.flatten(1))
        self.spread = Spread(len(matrix) // len(whole), len(whole))
        self.register_buffer("bank", matrix)
        self.register_buffer("scales", scales[:, None, None, None])

    def forward(self, shares: Tensor) -> Tensor:
        """See :meth:`LinearBank.forward`."""
        return IntegerProduct.apply(self.spread(shares), self.bank).reshape(self.shape) * self.scales


class IntegerProduct(torch.autograd.Function):
    """Shares (R, R K) in steps of 1 / :data:`LEVELS`, times whole numbers (R K, P / R)."""

    @staticmethod
    def forward(ctx: Any, shares: Tensor, bank: Tensor) -> Tensor:
        return (shares * LEVELS).round().clamp(0, LEVELS) @ bank.float() / LEVELS

    @staticmethod
    def symbolic(g: Any, shares: Any, bank: Any) -> Any:
        def constant(value: float, dtype: torch.dtype) -> Any:
            return g.op("Constant", value_t=torch.tensor(value, dtype=dtype))

        step, none = constant(1 / LEVELS, torch.float32), constant(0, torch.uint8)
        whole = g.op("QuantizeLinear", shares, step, none)
        one, zero = constant(1, torch.float32), constant(0, torch.int8)
        output = g.op("com.microsoft::MatMulIntegerToFloat", whole, bank, step, one, none, zero)
        rows, columns = (entry.type().sizes() for entry in (shares, bank))
        return output.setType(shares.type().with_sizes([rows[0], columns[1]]))


class IntegerLinear(nn.Module):
    """A fully connected layer of bytes in ONNX Runtime (``com.microsoft.MatMulNBits``), a scale for each 32 weights.

    Args:
        weight: (C', C).
        bias: (C',) or None.
    """

    whole: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.inputs = weight.shape[1]
        blocks = F.pad(weight, (0, -self.inputs % BLOCK)).unflatten(1, (-1, BLOCK))
        scales = blocks.abs().amax(2) / LARGEST
        scales = torch.where(scales > 0, scales, 1.0)
        self.register_buffer("whole", ((blocks / scales[..., None]).round() + LARGEST + 1).to(torch.uint8))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C) to (1, C')."""
        y = BlockProduct.apply(x, self.whole, self.scales, self.inputs)
        return y if self.bias is None else y + self.bias


class BlockProduct(torch.autograd.Function):
    """(1, C) times bytes (C', C / 32, 32) whose zero is 128, each 32 with a scale."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, whole: Tensor, scales: Tensor, inputs: int) -> Tensor:
        matrix = (whole.float() - (LARGEST + 1)) * scales[..., None]
        return x @ matrix.flatten(1)[:, :inputs].t()

    @staticmethod
    def symbolic(g: Any, x: Any, whole: Any, scales: Any, inputs: int) -> Any:
        outputs = whole.type().sizes()[0]
        # level 4 lets it round x to bytes too, in blocks; the others make float32 of the whole matrix, each time
        sizes = dict(K_i=inputs, N_i=outputs, bits_i=8, block_size_i=BLOCK, accuracy_level_i=4)
        output = g.op("com.microsoft::MatMulNBits", x, whole, scales, **sizes)
        return output.setType(x.type().with_sizes([1, outputs]))


class WidenedLinear(nn.Module):
    """A fully connected layer of bytes that are widened to float32, which OpenVINO does in the product.

    Args:
        weight: (C', C).
        bias: (C',) or None.
    """

    whole: Tensor
    scales: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        whole, scales = to_bytes(weight[:, :, None, None])
        self.register_buffer("whole", whole.flatten(1))
        self.register_buffer("scales", scales)
        self.register_buffer("bias", bias)

    def forward(self, x: Tensor) -> Tensor:
        """(1, C) to (1, C')."""
        return F.linear(x, Widened.apply(self.whole, self.scales), self.bias)


class Widened(torch.autograd.Function):
    """Bytes (C', C) and scales (C',) to float32."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, scales: Tensor) -> Tensor:
        return whole.float() * scales[:, None]

    @staticmethod
    def symbolic(g: Any, whole: Any, scales: Any) -> Any:
        output = g.op("DequantizeLinear", whole, scales, axis_i=0)
        return output.setType(scales.type().with_sizes(whole.type().sizes()))


def quantized_matrices(network: nn.Module) -> list[dict[str, Tensor]]:
    """The matrices of a network in its forms for graphs that the runtime's own quantizer is to make bytes of.

    They are what its modules name in ``quantized``: banks of dynamic layers and what their attention begins with, and
    the matrices of decomposed layers' branches.

    Args:
        network: What :func:`pose.export.forms.in_forms` returns.

    Returns:
        For each product the float32 matrices that it can be written with, by their names in the network; the graph of
            an input has one of them.
    """
    return [
        {f"{prefix}.{name}".lstrip("."): operator.attrgetter(name)(module) for name in names}
        for prefix, module in network.named_modules()
        for names in getattr(module, "quantized", ())
    ]


BANKS = {"linear": LinearBank, "gathered": GatheredBank, "integers": IntegerBank}
"""Ways to write a bank of bytes, by the ``bank`` of :class:`~pose.models.dynamic.graph_forms.GraphForms`."""
LINEARS = {"gathered": WidenedLinear, "integers": IntegerLinear}
"""The same of the fully connected layers that the shares come from; the others' quantizers take these by themselves."""
