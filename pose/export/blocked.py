"""Dynamic layers in the layout that ONNX Runtime packs constant kernels into on this processor.

ONNX Runtime computes constant convolutions in blocks of 8 or 16 channels and rearranges their kernels for that when
it loads a file; a kernel made at run time comes too late and costs 2 to 8 times as much in depthwise layers. But a
mixture of rearranged kernels is the rearranged mixture. So the network is given numbers for kernels, ONNX Runtime
rearranges those and writes down what it made of them, and the bank is put into the order that the numbers are found in.

The file is for processors with blocks of the same size: others would compute wrong outputs without a word, which is
why it carries a probe that is compared when it is opened.
"""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from pose.export.batch_scan import trace
from pose.models.dynamic.folded import FoldedDynamicConv2d

EXACT = 1 << 24
"""Whole numbers up to here are exact in float32."""


class NumberedForm(nn.Module):
    """A dynamic layer with a kernel of numbers 1, 2, ... whose bias says which layer it is.

    Args:
        layer: The layer.
        number: The layer's number.
        shares: Where its forward pass puts its shares, by number.
    """

    numbers: Tensor
    name: Tensor

    def __init__(self, layer: FoldedDynamicConv2d, number: int, shares: dict[int, Tensor]) -> None:
        super().__init__()
        self.layer, self.number, self.shares = layer, number, shares
        shape = (layer.out_channels, layer.in_channels // layer.groups, *layer.kernel_size)
        self.register_buffer("numbers", torch.arange(1.0, 1 + layer.bank.shape[1]).view(shape))
        self.register_buffer("name", torch.full((layer.out_channels,), -1.0 - number))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C_in, H, W) to (N, C_out, H', W')."""
        layer = self.layer
        self.shares[self.number] = layer.shares(F.adaptive_avg_pool2d(x, 1).flatten(1))  # needs no rearranging
        x = layer.pad(x)
        return F.conv2d(x, self.numbers, self.name, layer.stride, layer.padding, layer.dilation, layer.groups)


def _has_small_bank(layer: FoldedDynamicConv2d) -> bool:
    """Whether the shares mix a bank alone, whose values float32 can number."""
    bank = layer.shared_bank()
    return bank is not None and bank.shape[1] < EXACT


class _Numbered(nn.Module):
    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network)
        self.shares: dict[int, Tensor] = {}
        self.layers: list[FoldedDynamicConv2d] = []
        self._number(self.network)

    def _number(self, module: nn.Module) -> None:
        for name, child in module.named_children():
            if isinstance(child, FoldedDynamicConv2d) and _has_small_bank(child):
                setattr(module, name, NumberedForm(child, len(self.layers), self.shares))
                self.layers.append(child)
            else:
                self._number(child)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        return (self.network(x), *(self.shares[number] for number in range(len(self.layers))))


def blocked(network: nn.Module, x: Tensor) -> onnx.ModelProto | None:
    """A network of one image as ONNX Runtime would run it on this processor, its kernels mixed in that layout.

    Args:
        network: A network that was deployed with ``fused=False``.
        x: (1, 3, H, W).

    Returns:
        None where it has no layer for this.
    """
    import onnxruntime

    numbered = _Numbered(network).eval()
    if not numbered.layers:
        return None
    shares = [f"shares{number}" for number in range(len(numbered.layers))]
    traced = trace(numbered, x, ["crop"], ["heatmaps", *shares], free=False)
    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(Path(folder, "optimised.onnx"))
        options.log_severity_level = 3  # it warns that the file is for this processor, as is meant
        onnxruntime.InferenceSession(traced.SerializeToString(), options, providers=["CPUExecutionProvider"])
        file = onnx.load(options.optimized_model_filepath)
    graph = file.graph
    constants = {entry.name: onnx.numpy_helper.to_array(entry) for entry in graph.initializer}
    made: list[onnx.NodeProto] = []
    for node in graph.node:
        kernel, name = (constants.get(entry) for entry in (*node.input[1:3], "", "")[:2])
        number = -1 if name is None or name.ndim != 1 else -1 - int(name[0])
        if name is None or kernel is None or not 0 <= number < len(shares):
            continue
        if kernel.max() != numbered.layers[number].bank.shape[1]:
            continue
        layer = numbered.layers[number]
        bank = F.pad(layer.bank, (1, 0)).numpy()[:, kernel.astype(np.int64).ravel()]  # number 0 fills blocks up
        bias = np.zeros(len(name), np.float32)
        bias[: layer.out_channels] = layer.bias.numpy()
        own = {"bank": bank, "bias": bias, "shape": np.array(kernel.shape)}
        names = {key: f"{shares[number]}/{key}" for key in (*own, "mixed", "kernel")}
        graph.initializer.extend(onnx.numpy_helper.from_array(value, names[key]) for key, value in own.items())
        made += [
            onnx.helper.make_node("MatMul", [shares[number], names["bank"]], [names["mixed"]]),
            onnx.helper.make_node("Reshape", [names["mixed"], names["shape"]], [names["kernel"]]),
        ]
        node.input[1], node.input[2] = names["kernel"], names["bias"]
    if len(made) != 2 * len(shares):
        raise RuntimeError(f"{len(made) // 2} of {len(shares)} layers found in ONNX Runtime's graph")
    graph.node.extend(made)
    del graph.output[1:], graph.value_info[:]
    _sort(graph)
    used = {entry for node in graph.node for entry in node.input}
    kept = [entry for entry in graph.initializer if entry.name in used]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return file


def _sort(graph: onnx.GraphProto) -> None:
    """Every node behind those that it needs."""
    known = {"", *(entry.name for entry in (*graph.initializer, *graph.input))}
    left, ordered = list(graph.node), []
    while left:
        waiting = []
        for node in left:
            if known.issuperset(node.input):
                ordered.append(node)
                known.update(node.output)
            else:
                waiting.append(node)
        left = waiting
    del graph.node[:]
    graph.node.extend(ordered)
