"""LiteRT's file, made by litert-torch of the module; 8 bits, of all or of banks, by the quantizer with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pose.errors import require
from pose.export.errors import ExportError
from pose.models.dynamic.dynamic_graph import most_kernels

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
"""LiteRT's operations that have weights."""

QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""What the quantizer calls an operation otherwise than LiteRT does."""


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    require("litert_torch").convert(network, (x,)).export(str(path))


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with banks and the attention's first matrices in 8 bits; all else is float32.

    What is as narrow as the shares stays float32, too, for it costs AP and no time: depthwise kernels, and what gives
    the shares (docs/benchmarks/runtimes.md).
    """
    write(network, x, path)
    quantizer, types = (require(f"ai_edge_quantizer.{name}") for name in ("quantizer", "qtyping"))
    made, kind = quantizer.Quantizer(str(path)), types.TFLOperationName.FULLY_CONNECTED
    few = most_kernels(network)
    for name, shape in fully_connected(path):
        if min(shape) > few:
            made.add_dynamic_config(regex=re.escape(name), operation_name=kind, num_bits=8)
    made.quantize().export_model(str(path), overwrite=True)


def write_int8(network: nn.Module, x: Tensor, crops: Tensor, path: Path) -> None:
    """Writes ``path`` in 8 bits, whose input, output and last convolution stay float32.

    Heatmaps of 256 levels have equal neighbors where decoding asks which is higher: AP was .4 lower with them.

    Args:
        network: The network.
        x: An input.
        crops: (N, 3, H, W) to find the activations' ranges with.
        path: The file.
    """
    package = "ai_edge_quantizer"
    quantizer, recipe, types = (require(f"{package}.{name}") for name in ("quantizer", "recipe", "qtyping"))
    write(network, x, path)
    interpreter = require("ai_edge_litert.interpreter").Interpreter(str(path))
    kinds, (last, scope) = types.TFLOperationName, last_layer(path)
    made = quantizer.Quantizer(str(path))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    exact = [(kinds.INPUT, ".*"), (kinds.OUTPUT, ".*"), (kinds.TRANSPOSE, ".*")]
    for kind, name in (*exact, (kinds(QUANTIZER_NAMES.get(last, last)), re.escape(scope))):
        made.update_quantization_recipe(regex=name, operation_name=kind, algorithm_key="no_quantize")
    ((name, ends),) = interpreter.get_signature_list().items()
    (entry,) = ends["inputs"]
    ranges = made.calibrate({name: [{entry: crop.numpy()} for crop in crops.split(1)]})
    made.quantize(ranges).export_model(str(path), overwrite=True)


def fully_connected(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The fully connected layers of a file: each one's name as the quantizer has it, and its matrix's shape."""
    graph, kind_of = _graph(path)
    for step in graph.operators:
        if kind_of(step) == "FULLY_CONNECTED":
            yield _name(graph, step.outputs[0]), tuple(graph.tensors[step.inputs[1]].shape)


def last_layer(path: Path) -> tuple[str, str]:
    """The layer with weights that a file's output comes from: its kind, and its name as the quantizer has it.

    Raises:
        ExportError: The output comes from none.
    """
    graph, kind_of = _graph(path)
    makers = {index: step for step in graph.operators for index in step.outputs}
    (tensor,) = graph.outputs
    while tensor in makers:
        kind = kind_of(makers[tensor])
        if kind in LAYERS:
            return kind, _name(graph, tensor)
        tensor = makers[tensor].inputs[0]
    raise ExportError(f"{path}: its output comes from no convolution, which would stay float32; not written")


def _graph(path: Path) -> tuple[Any, Callable[[Any], str]]:
    """The graph of a file, and what tells an operation's kind."""
    flatbuffer = require("ai_edge_litert.tools.flatbuffer_utils")
    model = flatbuffer.read_model(str(path))
    (graph,) = model.subgraphs
    return graph, lambda step: flatbuffer.opcode_to_name(model, step.opcodeIndex)


def _name(graph: Any, tensor: int) -> str:
    return f"{graph.tensors[tensor].name.decode()};"
