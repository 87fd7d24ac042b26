"""What each layer of a deployed network takes on this machine, beside what the processor could do at most."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from pose.models.native.inference.layers import NativeDeconvolution, NativeLayer, NativeModule, NativeSequence
from pose.native.program import Program


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
    passes: list[list[tuple[NativeModule, NDArray[np.float64]]]] = []
    with _recorded(network, passes):
        for _ in range(1 + runs):
            passes.append([])
            network(x)
    names = {module: name for name, module in network.named_modules()}
    found = []
    for index, (module, _) in enumerate(passes[0]):
        tables = np.stack([one[index][1] for one in passes[1:]])
        for layer, row in zip(_in_order(module), np.median(tables, 0).tolist(), strict=True):
            found.append(_layer_time(names[layer], layer, row))
    return found


@contextmanager
def _recorded(network: nn.Module, passes: list[list[tuple[NativeModule, NDArray[np.float64]]]]) -> Iterator[None]:
    """Lets modules leave themselves and their tables in the last list of ``passes`` within the block."""
    modules = [module for module in network.modules() if isinstance(module, NativeModule)]

    def timed(module: NativeModule, program: Program, images: NDArray[np.float32]) -> NDArray[np.float32]:
        y, table = program.timed(images)
        passes[-1].append((module, table))
        return y

    for module in modules:
        module.__dict__["run"] = partial(timed, module)
    try:
        yield
    finally:
        for module in modules:
            del module.__dict__["run"]


def _in_order(module: NativeModule) -> Iterator[NativeModule]:
    """The layers of a program in the order in which they run."""
    if isinstance(module, NativeSequence):
        if isinstance(module.shortcut, NativeModule):
            yield from _in_order(module.shortcut)
        for layer in module.layers:
            assert isinstance(layer, NativeModule)
            yield from _in_order(layer)
        return
    if isinstance(module, NativeDeconvolution):
        yield module.conv
    yield module


def _layer_time(name: str, layer: NativeModule, row: list[float]) -> LayerTime:
    seconds, (in_rows, in_columns, inputs, rows, columns, outputs) = row[0], map(int, row[1:])
    weights = sum(buffer.numel() * buffer.element_size() for buffer in layer.buffers())
    if isinstance(layer, NativeDeconvolution):  # its convolution is a layer of its own
        weights = 0
    bytes_ = 4 * (in_rows * in_columns * inputs + rows * columns * outputs)
    kind = type(layer).__name__.removeprefix("Native")
    found = LayerTime(name, f"{kind} {inputs}", (rows, columns), seconds, 0, weights, bytes_)
    if not isinstance(layer, NativeLayer):
        return found
    height, width, stride = layer.geometry[0], layer.geometry[1], layer.geometry[2]
    channels = f"depthwise {outputs}" if layer.depthwise else f"{inputs} to {outputs}"
    return replace(
        found,
        what=f"{kind} {channels}, {height} x {width}{f' / {stride}' if stride > 1 else ''}",
        multiply_adds=rows * columns * height * width * (1 if layer.depthwise else inputs) * outputs,
    )
