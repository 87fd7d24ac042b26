"""What each layer of a deployed network takes on this machine, beside what the processor could do at most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from pose.models.native import build
from pose.models.native.inference.layers import NativeLayer, NativeModule, NativeSequence, NativeSqueezeExcitation


@dataclass(frozen=True)
class LayerTime:
    """One native layer and one image.

    Args:
        name: Where it is in the network.
        what: Kind, channels, kernel and stride.
        size: (rows, columns) of its answer.
        seconds: Median of its runs, processor time of the one thread.
        multiply_adds: The multiply-adds of the convolution with one kernel; what makes a dynamic kernel is not counted.
        weight_bytes: The size of all its constants, a bank counting as whole.
        image_bytes: The size of its input and its output.
    """

    name: str
    what: str
    size: tuple[int, int]
    seconds: float
    multiply_adds: int
    weight_bytes: int
    image_bytes: int


def peak(seconds: float = 0.2) -> float:
    """Multiply-adds a second of one thread whose sums never leave the registers: float32's most on this processor.

    Raises:
        NativeError: The layers cannot be built.
    """
    build()
    return torch.ops.pose.native_peak(seconds)


@torch.inference_mode()
def layer_times(network: nn.Module, x: Tensor, runs: int = 20) -> list[LayerTime]:
    """Runs a deployed network and times every native layer within it, in the order in which they run.

    Args:
        network: What :func:`pose.models.deploy.folding.deploy` makes; native modules in it are timed, all else runs
            as ever and is left out.
        x: (1, 3, H, W).
        runs: Passes that are counted, after one that is not.

    Raises:
        ValueError: Torch has more than one thread: a layer's processor time would miss the others'.
    """
    if torch.get_num_threads() > 1:
        raise ValueError("layers are timed with one thread: torch.set_num_threads(1)")
    passes: list[list[tuple[NativeModule, Tensor]]] = []
    with _recorded(network, passes):
        for _ in range(1 + runs):
            passes.append([])
            network(x)
    names = {module: name for name, module in network.named_modules()}
    found = []
    for index, (module, _) in enumerate(passes[0]):
        tables = torch.stack([one[index][1] for one in passes[1:]])
        for layer, row in zip(_in_order(module), tables.median(0).values.tolist(), strict=True):
            found.append(_layer_time(names[layer], layer, row))
    return found


@contextmanager
def _recorded(network: nn.Module, passes: list[list[tuple[NativeModule, Tensor]]]) -> Iterator[None]:
    """Lets programs leave their modules and tables in the last list of ``passes`` within the block."""
    modules = [module for module in network.modules() if isinstance(module, NativeModule)]
    before = [module._program for module in modules]
    for module in modules:
        module._program = _Recorder(module, passes)
    try:
        yield
    finally:
        for module, program in zip(modules, before, strict=True):
            module._program = program


class _Recorder:
    """A module's program that times its layers; made at the first call, as programs are."""

    def __init__(self, module: NativeModule, passes: list[list[tuple[NativeModule, Tensor]]]) -> None:
        self.module = module
        self.passes = passes
        self.program: Any = None

    def run(self, x: Tensor) -> Tensor:
        if self.program is None:
            self.program = self.module.program()
        y, table = self.program.timed(x)
        self.passes[-1].append((self.module, table))
        return y


def _in_order(module: NativeModule) -> Iterator[NativeModule]:
    """The layers of a program in the order in which they run."""
    if isinstance(module, NativeSequence):
        if isinstance(module.shortcut, NativeModule):
            yield from _in_order(module.shortcut)
        for layer in module.layers:
            assert isinstance(layer, NativeModule)
            yield from _in_order(layer)
    else:
        yield module


def _layer_time(name: str, layer: NativeModule, row: list[float]) -> LayerTime:
    seconds, (in_rows, in_columns, rows, columns) = row[0], map(int, row[1:])
    weights = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
    found = LayerTime(name, type(layer).__name__.removeprefix("Native"), (rows, columns), seconds, 0, weights, 0)
    if isinstance(layer, NativeSqueezeExcitation):
        channels = layer.fc1_weight.shape[0]
        return replace(found, what=f"{found.what} {channels}", image_bytes=8 * rows * columns * channels)
    assert isinstance(layer, NativeLayer)
    height, width, stride = layer.geometry[0], layer.geometry[1], layer.geometry[2]
    inputs = 1 if layer.depthwise else layer.in_channels
    kind = "depthwise" if layer.depthwise else f"{layer.in_channels} to"
    return replace(
        found,
        what=f"{found.what} {kind} {layer.out_channels}, {height} x {width}{f' / {stride}' if stride > 1 else ''}",
        multiply_adds=rows * columns * height * width * inputs * layer.out_channels,
        image_bytes=4 * (in_rows * in_columns * layer.in_channels + rows * columns * layer.out_channels),
    )
