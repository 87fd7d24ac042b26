"""LiteRT's file, made by litert-torch of the module; 8 bits, of all or of banks, by the quantizer with it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pose.errors import require
from pose.export.errors import ExportError
from pose.models.dynamic.graph_bytes import quantized_matrices

LAYERS = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV")
"""LiteRT's operations that have weights."""

QUANTIZER_NAMES = {"TRANSPOSE_CONV": "CONV_2D_TRANSPOSE"}
"""What the quantizer calls an operation otherwise than LiteRT does."""

_TYPES = {0: np.float32, 9: np.int8}
"""The types of constant matrices here, by the number that LiteRT's schema has for them."""


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    require("litert_torch").convert(network, (x,)).export(str(path))


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with the matrices that the layers name for it in 8 bits; all else is float32.

    Raises:
        ExportError: The converter has made other matrices of all of them.
    """
    write(network, x, path)
    wanted = {matrix.detach().numpy().tobytes() for matrix in quantized_matrices(network).values()}
    if not wanted:
        return
    names = [name for name, matrix in fully_connected(path) if matrix.tobytes() in wanted]
    if not names:
        raise ExportError(f"{path}: litert-torch has changed every matrix that is to be of 8 bits; leave --bank out")
    quantizer, types = (require(f"ai_edge_quantizer.{name}") for name in ("quantizer", "qtyping"))
    made, kind = quantizer.Quantizer(str(path)), types.TFLOperationName.FULLY_CONNECTED
    for name in names:
        made.add_dynamic_config(regex=re.escape(name), operation_name=kind, num_bits=8)
    made.quantize().export_model(str(path), overwrite=True)


def write_int8(network: nn.Module, x: Tensor, crops: Tensor, path: Path) -> None:
    """Writes ``path`` in 8 bits, whose input, output and last convolutions stay float32.

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
    kinds = types.TFLOperationName
    made = quantizer.Quantizer(str(path))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    exact = [(kinds.INPUT, ".*"), (kinds.OUTPUT, ".*"), (kinds.TRANSPOSE, ".*")]
    last = [(kinds(QUANTIZER_NAMES.get(kind, kind)), re.escape(name)) for kind, name in last_layers(path)]
    for kind, name in (*exact, *last):
        made.update_quantization_recipe(regex=name, operation_name=kind, algorithm_key="no_quantize")
    ((name, ends),) = interpreter.get_signature_list().items()
    (entry,) = ends["inputs"]
    ranges = made.calibrate({name: [{entry: crop.numpy()} for crop in crops.split(1)]})
    made.quantize(ranges).export_model(str(path), overwrite=True)


def fully_connected(path: Path) -> Iterator[tuple[str, np.ndarray]]:
    """The fully connected layers of a file that have a constant matrix: each one's name as the quantizer has it.

    Yields:
        A name and its matrix, (C', C) as the file has it.
    """
    model, graph, kind_of = _graph(path)
    for step in graph.operators:
        matrix = graph.tensors[step.inputs[1]] if kind_of(step) == "FULLY_CONNECTED" else None
        data = None if matrix is None else model.buffers[matrix.buffer].data
        if matrix is not None and data is not None:
            yield (
                _name(graph, step.outputs[0]),
                np.asarray(data, np.uint8).view(_TYPES[matrix.type]).reshape(matrix.shape),
            )


def last_layers(path: Path) -> list[tuple[str, str]]:
    """The layers with weights that a file's output comes from, by whatever lies behind them: one, or those of a sum.

    Returns:
        Kinds, and names as the quantizer has them.

    Raises:
        ExportError: The output comes from none.
    """
    _, graph, kind_of = _graph(path)
    makers = {index: step for step in graph.operators for index in step.outputs}
    found, seen, ahead = {}, set(), [*graph.outputs]
    while ahead:
        tensor = ahead.pop()
        if tensor in seen or tensor not in makers:
            continue
        seen.add(tensor)
        kind = kind_of(makers[tensor])
        if kind in LAYERS:
            found[_name(graph, tensor)] = kind
        else:
            ahead.extend(makers[tensor].inputs)
    if not found:
        raise ExportError(f"{path}: its output comes from no convolution, which would stay float32; not written")
    return [(kind, name) for name, kind in found.items()]


def _graph(path: Path) -> tuple[Any, Any, Callable[[Any], str]]:
    """A file, its graph, and what tells an operation's kind."""
    flatbuffer = require("ai_edge_litert.tools.flatbuffer_utils")
    model = flatbuffer.read_model(str(path))
    (graph,) = model.subgraphs
    return model, graph, lambda step: flatbuffer.opcode_to_name(model, step.opcodeIndex)


def _name(graph: Any, tensor: int) -> str:
    return f"{graph.tensors[tensor].name.decode()};"
