"""Native dynamic layers for CPUs: built by the C++ compiler at hand on first use, kept for later ones."""

from __future__ import annotations

import functools
import hashlib
import logging
import platform
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from pose.errors import PoseError
from pose.models.folded import FoldedDynamicConv2d, copy_geometry
from pose.models.folded_dcd import FoldedDCDConv2d
from pose.models.layers import InvertedResidual
from pose.models.per_image_conv import PerImageConv2d

SOURCE = Path(__file__).with_name("layers.cpp")
FLAGS = (
    *("-O3", "-march=native", "-fopenmp"),
    *("-fno-math-errno", "-fno-trapping-math", "-fno-signed-zeros", "-fassociative-math"),
)
ACTIVATIONS = {nn.Identity: 0, nn.ReLU: 1, nn.ReLU6: 2, nn.Hardswish: 3}
"""As in the source."""


class NativeError(PoseError, RuntimeError):
    """The native layers cannot be built."""


@functools.cache
def build() -> None:
    """Compiles and loads the layers; about 20 s the first time, nothing later.

    Raises:
        NativeError: There is no compiler, or it failed.
    """
    load(SOURCE)


def load(*sources: Path) -> None:
    """Compiles and loads sources of this folder as one library, named after the first.

    Raises:
        NativeError: As for :func:`build`.
    """
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # it tells of CUDA, which is not wanted
    from torch.utils import cpp_extension  # looks for compilers and CUDA when imported

    try:
        files = [str(source) for source in sources]
        cpp_extension.load(_name(sources), files, extra_cflags=list(FLAGS), is_python_module=False)
    except Exception as error:  # whatever a compiler, ninja or the linker can say
        reason = str(error).strip().partition("\n")[0]
        raise NativeError(f"native layers cannot be built ({reason}); a C++ compiler and ninja are needed") from error


def _name(sources: Sequence[Path]) -> str:
    """The library's name: another source, torch or processor needs another build, and home folders are shared.

    So does another copy of the project: one build folder for two would be built anew for each in turn.
    """
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.is_file() else platform.machine()
    processor = text.partition("flags")[2].partition("\n")[0] or platform.machine()
    parts = (*(f"{source.resolve()}\0{source.read_text()}" for source in sources), torch.__version__, processor)
    return f"pose_native_{sources[0].stem}_" + hashlib.sha256("\0".join(parts).encode()).hexdigest()[:16]


@functools.cache
def available() -> bool:
    """Whether the layers are built or can be; warns once where not."""
    try:
        build()
    except NativeError as error:
        warnings.warn(f"{error}; dynamic layers run as torch operations, more slowly", stacklevel=3)
        return False
    return True


def fuse(layer: FoldedDynamicConv2d | FoldedDCDConv2d, activation: nn.Module) -> nn.Module:
    """A folded layer and the activation after it as one native layer, as far as there is one."""
    code = ACTIVATIONS.get(type(activation))
    depthwise = layer.groups == layer.in_channels == layer.out_channels
    fits = layer.outer_padding is None and (layer.groups == 1 or depthwise)  # the attention sees no padding
    if isinstance(layer, FoldedDynamicConv2d) and fits:
        layer = NativeDynamicConv2d(layer, code or 0)
    elif isinstance(layer, FoldedDCDConv2d) and _is_plain_pointwise(layer):
        layer = NativeDCDConv2d(layer, code or 0)
    else:
        code = None
    activation = activation if code is None else nn.Identity()
    return layer if isinstance(activation, nn.Identity) else nn.Sequential(layer, activation)


def _is_plain_pointwise(layer: FoldedDCDConv2d) -> bool:
    return layer.kernel_size == (1, 1) and layer.phi_shape[0] == 1 and not any((*layer.padding, layer.outer_padding))


class NativeConv2d(PerImageConv2d):
    """What native layers share: their constants, gathered once, since looking them up takes as long as the call."""

    constants: tuple | None = None

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> NativeConv2d:
        self.constants = None
        return super()._apply(fn, recurse)


class NativeDynamicConv2d(NativeConv2d):
    """:class:`~pose.models.folded.FoldedDynamicConv2d` and an activation in one native call.

    Args:
        layer: With groups 1, or depthwise with as many outputs as inputs; padded by zeros alone.
        activation: One of the values of :data:`ACTIVATIONS`.
    """

    def __init__(self, layer: FoldedDynamicConv2d, activation: int) -> None:
        nn.Module.__init__(self)
        copy_geometry(self, layer)
        self.activation = activation
        for name in ("w1", "b1", "w2", "b2", "bias", "biases"):
            self.register_buffer(name, getattr(layer, name))
        kernels = layer.bank.unflatten(1, (layer.out_channels, layer.in_channels // layer.groups, -1))
        order = (0, 3, 2, 1) if layer.groups > 1 else (0, 1, 3, 2)  # (K, kh kw, 1, C) or (K, C_out, kh kw, C_in)
        self.register_buffer("bank", kernels.permute(order).flatten(1).contiguous())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W') channels_last, activated."""
        return self.call(x, None, False)[0]

    def call(self, x: Tensor, averages: Tensor | None, wants_averages: bool) -> tuple[Tensor, Tensor]:
        """:meth:`forward` for a caller that knows the averages (N, C_in) of x's channels, or wants the answer's.

        Returns:
            The answer, and the averages (N, C_out) of its channels where wanted.
        """
        if self.constants is None:
            tensors = (self.w1, self.b1, self.w2, self.b2, self.bank, self.bias, self.biases)
            geometry = (self.kernel_size, self.stride, self.padding, self.dilation, self.groups)
            self.constants = (*tensors, *geometry, self.activation)
        return torch.ops.pose.dynamic_conv2d.default(x, averages, *self.constants, wants_averages)


class NativeBottleneck(nn.Module):
    """Expand, depthwise and project in a row: each layer's attention takes its averages from the layer before.

    Args:
        layers: Two or three native layers.
        has_shortcut: Add the input to the answer.
    """

    def __init__(self, layers: Sequence[NativeDynamicConv2d], has_shortcut: bool) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C_out, H / stride, W / stride)."""
        y, averages = x, None
        *first, last = self.layers
        for layer in first:
            y, averages = layer.call(y, averages, True)
        y, _ = last.call(y, averages, False)
        return y.add_(x) if self.has_shortcut else y


def chain(block: InvertedResidual) -> nn.Module:
    """A folded bottleneck as a :class:`NativeBottleneck`, if nothing but native layers is in it; else as it is."""
    layers = (block.expand, block.depthwise, block.squeeze, block.project)
    layers = [layer for layer in layers if not isinstance(layer, nn.Identity)]
    if all(isinstance(layer, NativeDynamicConv2d) for layer in layers):
        return NativeBottleneck(layers, block.has_shortcut)
    return block


class NativeDCDConv2d(NativeConv2d):
    """A pointwise :class:`~pose.models.folded_dcd.FoldedDCDConv2d` and an activation in one native call an image.

    Args:
        layer: With one block and no padding.
        activation: One of the values of :data:`ACTIVATIONS`.
    """

    def __init__(self, layer: FoldedDCDConv2d, activation: int) -> None:
        nn.Module.__init__(self)
        copy_geometry(self, layer)
        self.activation = activation
        self.phi_shape = layer.phi_shape
        self.pool_size = layer.branch.pool_size
        branch = layer.branch
        linears = {"reduce": branch.reduce, "gate": branch.gate, "to_lambda": branch.to_lambda, "to_phi": branch.to_phi}
        for name, linear in linears.items():
            self.register_buffer(name, None if linear is None else linear.weight.detach())
        self.register_buffer("kernel", layer.weight.flatten(1))
        self.register_buffer("bias", layer.bias)
        for name in ("p", "q", "latent_bias"):
            self.register_buffer(name, getattr(layer, name)[0])

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W') channels_last, activated."""
        assemble = self.assembling_is_less(*x.shape[2:])
        if len(x) == 1:
            return self._one(x, assemble)
        return torch.cat([self._one(image, assemble) for image in x.split(1)])

    assembling_is_less = FoldedDCDConv2d.assembling_is_less

    def _one(self, x: Tensor, assemble: bool) -> Tensor:
        if self.constants is None:
            branch = (self.reduce, self.gate, self.to_lambda, self.to_phi)
            factors = (self.kernel, self.p, self.q, self.latent_bias, self.bias)
            self.constants = (*branch, *factors, self.pool_size, self.stride)
        return torch.ops.pose.dcd_conv2d.default(x, *self.constants, assemble, self.activation)
