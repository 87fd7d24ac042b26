"""The native layers of a deployed network; neighbours run in one call, see ``layers.cpp``.

The native layers of dynamic convolution stand beside the folded layers that they are forms of, in
:mod:`pose.models.dynamic`, and a block's sequence is made by the block, in its method ``native_form``.

A layer gives the averages of its output's channels to the next one, whose attention is made of them, and the last layer
of a block adds the block's shortcut, so that nothing passes over an image that need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.native import ACTIVATIONS, build

if TYPE_CHECKING:
    from pose.models.dynamic.per_image_conv import PerImageConv2d

PANEL = 16
"""Outputs of a panel, as in the source."""


def is_known(layer: nn.Conv2d | PerImageConv2d) -> bool:
    """Whether a native layer can have a convolution's geometry: zeros around it, groups 1 or depthwise."""
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)  # the attention sees no padding
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    return plain and getattr(layer, "outer_padding", None) is None and (layer.groups == 1 or depthwise)


def pack_panels(kernels: Tensor) -> Tensor:
    """(..., C_out, C_in, kh, kw) to (..., panels, kh kw C_in, 16): what sixteen outputs need lies together."""
    padded = F.pad(kernels, (0, 0) * 3 + (0, -kernels.shape[-4] % PANEL)).unflatten(-4, (-1, PANEL))
    return padded.movedim(-4, -1).movedim(-4, -2).flatten(-4, -2)


def pad_to_panel(values: Tensor) -> Tensor:
    """(..., C) to (..., panels x 16), with zeros."""
    return F.pad(values, (0, -values.shape[-1] % PANEL)).contiguous()


def interleave(matrix: Tensor) -> Tensor:
    """(..., C) as the source reads it: float32 as it is; bfloat16 padded to sixteens, whose values i and i + 8 lie side
    by side, so that the source widens them together, as int16, which no cast of a network's floats touches."""
    if matrix.dtype != torch.bfloat16:
        return matrix.contiguous()
    halves = pad_to_panel(matrix).unflatten(-1, (-1, 2, PANEL // 2))
    return halves.transpose(-1, -2).flatten(-3).contiguous().view(torch.int16)


class NativeModule(nn.Module):
    """What runs by a program of native layers, which is made once, at the first call.

    Its weights are constants: it computes no gradients, knows no hooks of the modules in it, and a weight that is put
    in another's place afterwards is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._program: Any = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NativeModule:
        self._program = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._program = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}

    def add_to(self, program: Any) -> None:
        """Adds its layers to a program (``torch.classes.pose.Program``)."""
        raise NotImplementedError

    def program(self) -> Any:
        """Makes a program of its own.

        Raises:
            NativeError: The source cannot be built.
        """
        build()  # where the module was loaded from a file, nobody has
        program = torch.classes.pose.Program()
        self.add_to(program)
        return program

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W') channels_last."""
        if self._program is None:
            self._program = self.program()
        return self._program.run(x)


class NativeLayer(NativeModule):
    """A convolution and the activation after it.

    Args:
        layer: The convolution that it stands for, :func:`is_known`.
        activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
    """

    def __init__(self, layer: nn.Conv2d | PerImageConv2d, activation: int) -> None:
        super().__init__()
        padding = layer.padding
        assert not isinstance(padding, str)
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.depthwise = layer.groups > 1
        self.geometry = (*layer.kernel_size, *layer.stride, *padding, *layer.dilation)
        self.activation = activation

    @property
    def shape(self) -> list[int]:
        """Its numbers, as the source reads them."""
        return [*self.geometry, self.in_channels, self.out_channels, int(self.depthwise), self.activation]

    def extra_repr(self) -> str:
        size, stride = self.geometry[:2], self.geometry[2:4]
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, {size}, {stride}, depthwise={self.depthwise}, activation={self.activation}"


class NativeConv2d(NativeLayer):
    """``nn.Conv2d`` and an activation."""

    def __init__(self, layer: nn.Conv2d, activation: int) -> None:
        super().__init__(layer, activation)
        weight = layer.weight.detach()
        bias = weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        kernel = weight.flatten(1).t() if self.depthwise else pack_panels(weight).flatten(1)
        self.register_buffer("weight", kernel.contiguous())
        self.register_buffer("bias", pad_to_panel(bias))

    def add_to(self, program: Any) -> None:
        """Adds the layer to a program."""
        program.add_static(self.shape, self.weight, self.bias)


class NativeSqueezeExcitation(NativeModule):
    """Squeeze-and-excitation behind a native layer, whose output it scales in place.

    Args:
        fc1, fc2: Its convolutions of single pixels.
    """

    fc1_weight: Tensor
    fc1_bias: Tensor
    fc2_weight: Tensor
    fc2_bias: Tensor

    def __init__(self, fc1: nn.Conv2d, fc2: nn.Conv2d) -> None:
        super().__init__()
        for name, conv in (("fc1", fc1), ("fc2", fc2)):
            assert conv.bias is not None
            self.register_buffer(f"{name}_weight", conv.weight.detach().flatten(1).t().contiguous())
            self.register_buffer(f"{name}_bias", conv.bias.detach())

    def add_to(self, program: Any) -> None:
        """Adds the layer to a program."""
        program.add_squeeze(self.fc1_weight, self.fc1_bias, self.fc2_weight, self.fc2_bias)


class NativeSequence(NativeModule):
    """Native modules in a row.

    Args:
        layers: Convolutions, sequences, and squeeze-and-excitation behind them.
        shortcut: Where it is a block: what of its input is added before the last activation, an ``nn.Identity`` or a
            native module. The last layer is a convolution then.
    """

    def __init__(self, layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def add_to(self, program: Any) -> None:
        """Adds the layer to a program."""
        if self.shortcut is not None:
            program.begin_block(self.shortcut.program() if isinstance(self.shortcut, NativeModule) else None)
        for layer in self.layers:
            assert isinstance(layer, NativeModule)
            layer.add_to(program)
        if self.shortcut is not None:
            program.end_block()


def fuse(layer: nn.Module, activation: nn.Module, bank_dtype: torch.dtype = torch.float32) -> nn.Module:
    """A folded layer and the activation after it as one native layer, as far as there is one.

    Args:
        layer: A static or folded layer.
        activation: The activation after it.
        bank_dtype: See :meth:`pose.models.dynamic.per_image_conv.PerImageConv2d.native_form`.
    """
    code = ACTIVATIONS.get(type(activation))
    make = getattr(layer, "native_form", None)
    native: nn.Module | None = None
    if make is not None:
        native = make(code or 0, bank_dtype)
    elif isinstance(layer, nn.Conv2d) and type(layer).forward is nn.Conv2d.forward:  # else it may compute anything
        native = NativeConv2d(layer, code or 0) if is_known(layer) else None
    if native is not None:
        layer, activation = native, activation if code is None else nn.Identity()
    return layer if isinstance(activation, nn.Identity) else nn.Sequential(layer, activation)


def chain(layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> NativeSequence | None:
    """Native layers, and squeeze-and-excitation between them, as one; None where there is none or another module.

    Args:
        layers: Identities among them are left out.
        shortcut: See :class:`NativeSequence`.
    """
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    natives = NativeLayer | NativeSequence
    if not layers or not isinstance(layers[0], natives) or not isinstance(shortcut, natives | nn.Identity | None):
        return None
    if not isinstance(layers[-1], natives if shortcut is None else NativeLayer):
        return None
    known = all(isinstance(layer, NativeModule) for layer in layers)
    return NativeSequence(layers, shortcut) if known else None
