"""The native layers of a deployed network; neighbours run in one call, see ``pose/native/layers.cpp``.

The native layers of dynamic convolution stand beside the folded layers that they are forms of, in
:mod:`pose.models.dynamic`, and a block's sequence is made by the block, in its method ``native_form``.

A layer gives the averages of its output's channels to the next one, whose attention is made of them, and the last layer
of a block adds the block's shortcut, so that nothing passes over an image that need not.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from pose.models.native import ACTIVATIONS
from pose.native.program import Program, Step
from pose.native.rounding import PANEL

if TYPE_CHECKING:
    from pose.models.dynamic.per_image_conv import PerImageConv2d


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


def arrays(*tensors: Tensor | None) -> tuple[NDArray[Any] | None, ...]:
    """The memory of contiguous tensors on the CPU."""
    return tuple(None if tensor is None else tensor.numpy() for tensor in tensors)


class NativeModule(nn.Module):
    """What runs by a program of native layers, which is made once, at the first call.

    Its weights are constants: it computes no gradients, knows no hooks of the modules in it, and a weight that is put
    in another's place afterwards is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self._program: Program | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NativeModule:
        self._program = None
        return super()._apply(fn, recurse)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._program = None
        super()._load_from_state_dict(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_program": None}

    def steps(self) -> list[Step]:
        """What it adds to a program; its weights are used where they lie."""
        raise NotImplementedError

    def run(self, program: Program, images: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, H, W, C) to (N, H', W', C')."""
        return program.run(images, torch.get_num_threads())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H', W') channels_last.

        Raises:
            NativeError: The library cannot be built.
            RuntimeError: The images are not float32 on a CPU, or have another shape than the layers take.
        """
        if x.dim() != 4 or x.dtype != torch.float32 or x.device.type != "cpu":
            got = f"{x.dtype} {tuple(x.shape)} on {x.device}"
            raise RuntimeError(f"needs images (N, C, H, W) in float32 on a CPU, got {got}")
        if self._program is None:
            self._program = Program(self.steps())
        images = x.detach().permute(0, 2, 3, 1).contiguous().numpy()
        return torch.from_numpy(self.run(self._program, images)).permute(0, 3, 1, 2)


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
    def shape(self) -> tuple[int, ...]:
        """Its numbers, as the source reads them."""
        return (*self.geometry, self.in_channels, self.out_channels, int(self.depthwise), self.activation)

    def extra_repr(self) -> str:
        size, stride = self.geometry[:2], self.geometry[2:4]
        channels = f"{self.in_channels}, {self.out_channels}"
        return f"{channels}, {size}, {stride}, depthwise={self.depthwise}, activation={self.activation}"


class NativeConv2d(NativeLayer):
    """``nn.Conv2d`` and an activation."""

    weight: Tensor
    bias: Tensor

    def __init__(self, layer: nn.Conv2d, activation: int) -> None:
        super().__init__(layer, activation)
        weight = layer.weight.detach()
        bias = weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        kernel = weight.flatten(1).t() if self.depthwise else pack_panels(weight).flatten(1)
        self.register_buffer("weight", kernel.contiguous())
        self.register_buffer("bias", pad_to_panel(bias))

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        return [Step("static", self.shape, arrays(self.weight, self.bias))]


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

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        return [Step("squeeze", (), arrays(self.fc1_weight, self.fc1_bias, self.fc2_weight, self.fc2_bias))]


class NativeUpsample(NativeModule):
    """Twice as many rows and columns, as ``F.interpolate`` has them with ``scale_factor=2``.

    Args:
        mode: ``bilinear``, without aligned corners, or ``nearest``.
    """

    def __init__(self, mode: str) -> None:
        super().__init__()
        self.mode = mode

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        return [Step(self.mode)]

    def extra_repr(self) -> str:
        return self.mode


class NativeMaxPool(NativeModule):
    """``nn.MaxPool2d``."""

    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.geometry = (*pair(pool.kernel_size), *pair(pool.stride), *pair(pool.padding), *pair(pool.dilation))

    @staticmethod
    def is_known(pool: nn.MaxPool2d) -> bool:
        """Whether there is a native layer of its kind."""
        return not pool.ceil_mode and not pool.return_indices

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        return [Step("max_pool", self.geometry)]


class NativeDeconvolution(NativeModule):
    """``nn.ConvTranspose2d`` 4 x 4 with stride 2 and padding 1, and an activation.

    Each of the four kinds of pixels of its answer sees a quarter of the kernel: together they are a convolution 2 x 2
    with four times the channels, whose pixels are put beside each other.

    Args:
        layer: The deconvolution, see :meth:`is_known`.
        activation: One of the values of :data:`~pose.models.native.ACTIVATIONS`.
    """

    def __init__(self, layer: nn.ConvTranspose2d, activation: int) -> None:
        super().__init__()
        conv = nn.Conv2d(layer.in_channels, 4 * layer.out_channels, 2, padding=1)
        weight = layer.weight.detach()  # (C_in, C_out, 4, 4)
        # Row 2 i + a of the answer is made of the image's rows i + a - 1 and i + a by the kernel's 3 - a and 1 - a.
        parts = [weight[:, :, (3 - a, 1 - a)][..., (3 - b, 1 - b)] for a in range(2) for b in range(2)]
        bias = weight.new_zeros(layer.out_channels) if layer.bias is None else layer.bias.detach()
        with torch.no_grad():
            conv.weight.copy_(torch.cat(parts, 1).transpose(0, 1))
            assert conv.bias is not None
            conv.bias.copy_(bias.repeat(4))
        self.conv = NativeConv2d(conv, activation)

    @staticmethod
    def is_known(layer: nn.ConvTranspose2d) -> bool:
        """Whether a deconvolution can be one of this kind."""
        plain = layer.groups == 1 and layer.dilation == (1, 1) and layer.output_padding == (0, 0)
        return plain and layer.kernel_size == (4, 4) and layer.stride == (2, 2) and layer.padding == (1, 1)

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        return [*self.conv.steps(), Step("interleave")]


def pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    """A number for both axes as two."""
    return (value, value) if isinstance(value, int) else tuple(value)


class NativeSequence(NativeModule):
    """Native modules in a row.

    Args:
        layers: Native modules; squeeze-and-excitation only behind others.
        shortcut: Where it is a block: what of its input is added before the last activation, an ``nn.Identity`` or a
            native module. The last layer is a convolution then, or takes the nearest pixels.
    """

    def __init__(self, layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.shortcut = shortcut

    def steps(self) -> list[Step]:
        """See :class:`NativeModule`."""
        found: list[Step] = []
        for layer in self.layers:
            assert isinstance(layer, NativeModule)
            found += layer.steps()
        if self.shortcut is None:
            return found
        around = self.shortcut.steps() if isinstance(self.shortcut, NativeModule) else []
        return [Step("begin", shortcut=tuple(around)), *found, Step("end")]


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
    elif isinstance(layer, nn.ConvTranspose2d) and type(layer).forward is nn.ConvTranspose2d.forward:
        native = NativeDeconvolution(layer, code or 0) if NativeDeconvolution.is_known(layer) else None
    if native is not None:
        layer, activation = native, activation if code is None else nn.Identity()
    return layer if isinstance(activation, nn.Identity) else nn.Sequential(layer, activation)


def chain(layers: Sequence[nn.Module], shortcut: nn.Module | None = None) -> NativeSequence | None:
    """Native modules as one; None where there is none or another module.

    Args:
        layers: Identities among them are left out.
        shortcut: See :class:`NativeSequence`.
    """
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    known = all(isinstance(layer, NativeModule) for layer in layers)
    if not layers or not known or isinstance(layers[0], NativeSqueezeExcitation):
        return None
    if shortcut is not None:
        last = layers[-1]
        adds = isinstance(last, NativeLayer) or (isinstance(last, NativeUpsample) and last.mode == "nearest")
        if not adds or not isinstance(shortcut, NativeModule | nn.Identity):
            return None
    return NativeSequence(layers, shortcut)
