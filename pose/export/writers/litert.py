"""LiteRT's file, made by litert-torch of the module; 8 bits, of all or of banks, by the quantizer with it."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor, nn

from pose.errors import require
from pose.export.banks import check_found
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
    converter = require("litert_torch")
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):  # its forty steps
        converter.convert(network, (x,)).export(str(path))


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with the matrices that the layers name for it in 8 bits; all else is float32.

    Raises:
        ExportError: The converter has made another matrix of one of them.
    """
    write(network, x, path)
    products = quantized_matrices(network)
    if not products:
        return
    keys = {name: _key(matrix.detach().numpy()) for product in products for name, matrix in product.items()}
    layers = [(name, _key(matrix)) for name, matrix in fully_connected(path)]
    there, wanted = {key for _, key in layers}, set(keys.values())
    check_found(products, {name for name, key in keys.items() if key in there}, path, "litert-torch")
    names = [name for name, key in layers if key in wanted]
    quantizer, types = (require(f"ai_edge_quantizer.{name}") for name in ("quantizer", "qtyping"))
    made, kind = quantizer.Quantizer(str(path)), types.TFLOperationName.FULLY_CONNECTED
    for name in names:
        made.add_dynamic_config(regex=exactly(name), operation_name=kind, num_bits=8)
    _replace(path, made.quantize())


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
    last = [(kinds(QUANTIZER_NAMES.get(kind, kind)), exactly(name)) for kind, name in last_layers(path)]
    for kind, name in (*exact, *last):
        made.update_quantization_recipe(regex=name, operation_name=kind, algorithm_key="no_quantize")
    ((name, ends),) = interpreter.get_signature_list().items()
    (entry,) = ends["inputs"]
    ranges = made.calibrate({name: [{entry: crop.numpy()} for crop in crops.split(1)]})
    _replace(path, made.quantize(ranges))


def _replace(path: Path, quantized: Any) -> None:
    """Writes what the quantizer has made in place of a file, of which it would warn."""
    path.unlink()
    quantized.export_model(str(path))


def exactly(name: str) -> str:
    """A name as the quantizer takes it, which searches for an expression anywhere in its own."""
    return f"^{re.escape(name)}$"


def _key(matrix: np.ndarray) -> tuple[tuple[int, ...], bytes]:
    """What two matrices have in common that are the same; zeros have a sign, which a converter may drop."""
    return matrix.shape, (matrix + np.zeros((), matrix.dtype)).tobytes()


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
