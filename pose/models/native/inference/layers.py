"""The native layers of a deployed network; neighbours run in one call, see ``layers.cpp``.

A layer gives the averages of its answer's channels to the next one, whose attention is made of them, and the last layer
of a block adds the block's shortcut, so that nothing passes over an image that need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.dynamic.folded import FoldedDynamicConv2d
from pose.models.dynamic.folded_dcd import FoldedDCDConv2d
from pose.models.dynamic.per_image_conv import PerImageConv2d
from pose.models.layers import SqueezeExcitation
from pose.models.native import ACTIVATIONS, build
from pose.models.native.training.layers import NativeTrainedConv2d

PANEL = 16
"""Outputs of a panel, as in the source."""


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
        """A program of its own.

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
        layer: The convolution that it stands for: groups 1, or depthwise with as many outputs as inputs.
        activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
    """

    def __init__(self, layer: nn.Conv2d | PerImageConv2d, activation: int) -> None:
        super().__init__()
        self.in_channels, self.out_channels = layer.in_channels, layer.out_channels
        self.depthwise = layer.groups > 1
        self.geometry = (*layer.kernel_size, *layer.stride, *layer.padding, *layer.dilation)
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
        """As of :class:`NativeModule`."""
        program.add_static(self.shape, self.weight, self.bias)


class NativeDynamicConv2d(NativeLayer):
    """:class:`~pose.models.dynamic.folded.FoldedDynamicConv2d` and an activation."""

    def __init__(self, layer: FoldedDynamicConv2d, activation: int) -> None:
        super().__init__(layer, activation)
        self.register_buffer("w1", None if layer.w1 is None else interleave(layer.w1.t()))
        self.register_buffer("b1", None if layer.b1 is None else pad_to_panel(layer.b1))
        self.register_buffer("w2", layer.w2.t().contiguous())
        self.register_buffer("b2", layer.b2)
        kernels = layer.bank.unflatten(1, (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size))
        # (K, kh kw C) or (panels, K, kh kw C_in, 16)
        by_channel = kernels.flatten(2).transpose(1, 2).flatten(1)
        bank = by_channel if self.depthwise else pack_panels(kernels).transpose(0, 1)
        self.register_buffer("bank", interleave(bank).flatten(1))
        self.register_buffer("bias", pad_to_panel(layer.bias))
        self.register_buffer("biases", None if layer.biases is None else pad_to_panel(layer.biases))

    def add_to(self, program: Any) -> None:
        """As of :class:`NativeModule`."""
        attention = (self.w1, self.b1, self.w2, self.b2)
        program.add_dynamic(self.shape, *attention, self.bank, self.bias, self.biases)


class NativeDCDConv2d(NativeLayer):
    """:class:`~pose.models.dynamic.folded_dcd.FoldedDCDConv2d` with one block and 'same' padding, and an activation.

    Args:
        layer, activation: As of :class:`NativeLayer`.
        bank_dtype: Of the branch's matrices, which are most of what it reads.
    """

    def __init__(self, layer: FoldedDCDConv2d, activation: int, bank_dtype: torch.dtype = torch.float32) -> None:
        super().__init__(layer, activation)
        branch, latent = layer.branch, layer.phi_shape[1]
        self.pool_size = branch.pool_size
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
        for name, value in {**constants, **{key: interleave(m.to(bank_dtype)) for key, m in matrices.items()}}.items():
            self.register_buffer(name, value)

    def add_to(self, program: Any) -> None:
        """As of :class:`NativeModule`."""
        tensors = [getattr(self, name) for name in self.names]
        program.add_dcd(self.shape, self.pool_size, tensors, getattr(self, "to_lambda", None))


class NativeSqueezeExcitation(NativeModule):
    """:class:`~pose.models.layers.SqueezeExcitation` behind a native layer, whose answer it scales in place."""

    def __init__(self, layer: SqueezeExcitation) -> None:
        super().__init__()
        for name in ("fc1", "fc2"):
            conv = getattr(layer, name)
            self.register_buffer(f"{name}_weight", conv.weight.detach().flatten(1).t().contiguous())
            self.register_buffer(f"{name}_bias", conv.bias.detach())

    def add_to(self, program: Any) -> None:
        """As of :class:`NativeModule`."""
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
        """As of :class:`NativeModule`."""
        if self.shortcut is not None:
            program.begin_block(None if isinstance(self.shortcut, nn.Identity) else self.shortcut.program())
        for layer in self.layers:
            layer.add_to(program)
        if self.shortcut is not None:
            program.end_block()


def fuse(layer: nn.Module, activation: nn.Module, bank_dtype: torch.dtype = torch.float32) -> nn.Module:
    """A folded layer and the activation after it as one native layer, as far as there is one.

    Args:
        layer: Static or folded.
        activation: After it.
        bank_dtype: Of a decomposed layer's branch; other layers bring theirs.
    """
    code = ACTIVATIONS.get(type(activation))
    kind = _native_class(layer)
    if kind is not None:
        options = {"bank_dtype": bank_dtype} if kind is NativeDCDConv2d else {}
        layer = kind(layer, code or 0, **options)
        activation = activation if code is None else nn.Identity()
    return layer if isinstance(activation, nn.Identity) else nn.Sequential(layer, activation)


def _native_class(layer: nn.Module) -> type[NativeLayer] | None:
    """What stands for a layer; None where nothing does."""
    if isinstance(layer, nn.Conv2d) and not isinstance(layer, NativeTrainedConv2d):
        if type(layer).forward is not nn.Conv2d.forward:  # somebody's own convolution
            return None
    elif not isinstance(layer, NativeTrainedConv2d | FoldedDynamicConv2d | FoldedDCDConv2d):
        return None
    plain = layer.padding_mode == "zeros" and not isinstance(layer.padding, str)  # the attention sees no padding
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    if not plain or getattr(layer, "outer_padding", None) is not None or not (layer.groups == 1 or depthwise):
        return None
    if isinstance(layer, nn.Conv2d):
        return NativeConv2d
    if isinstance(layer, FoldedDynamicConv2d):
        return NativeDynamicConv2d
    margin = tuple(step * (size // 2) for size, step in zip(layer.kernel_size, layer.dilation, strict=True))
    return NativeDCDConv2d if layer.phi_shape[0] == 1 and layer.padding == margin else None


def chain(layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> NativeSequence | None:
    """Native layers, and squeeze-and-excitation between them, as one; None where there is none or another module.

    Args:
        layers: Identities among them are left out.
        shortcut: As of :class:`NativeSequence`.
    """
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    natives = NativeLayer | NativeSequence
    if not layers or not isinstance(layers[0], natives) or not isinstance(shortcut, natives | nn.Identity | None):
        return None
    if not isinstance(layers[-1], natives if shortcut is None else NativeLayer):
        return None
    made = [NativeSqueezeExcitation(layer) if isinstance(layer, SqueezeExcitation) else layer for layer in layers]
    return NativeSequence(made, shortcut) if all(isinstance(layer, NativeModule) for layer in made) else None
