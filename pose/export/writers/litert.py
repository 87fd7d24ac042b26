"""LiteRT's file, made by litert-torch of the module; 8 bits, of all or of banks, by the quantizer with it."""

from __future__ import annotations

import re
from pathlib import Path

from torch import Tensor, nn

from pose.errors import require


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    require("litert_torch").convert(network, (x,)).export(str(path))


def write_bank(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` with the weights of fully connected layers, which banks are, in 8 bits; all else is float32."""
    write(network, x, path)
    quantizer, types = (require(f"ai_edge_quantizer.{name}") for name in ("quantizer", "qtyping"))
    made = quantizer.Quantizer(str(path))
    made.add_dynamic_config(regex=".*", operation_name=types.TFLOperationName.FULLY_CONNECTED, num_bits=8)
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
    kinds, names = types.TFLOperationName, {part["index"]: part["name"] for part in interpreter.get_tensor_details()}
    outputs = [step["outputs"][0] for step in interpreter._get_ops_details() if step["op_name"] == "CONV_2D"]
    made = quantizer.Quantizer(str(path))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    exact = [(kinds.INPUT, ".*"), (kinds.OUTPUT, ".*"), (kinds.TRANSPOSE, ".*")]
    for kind, name in (*exact, (kinds.CONV_2D, re.escape(names[outputs[-1]]))):
        made.update_quantization_recipe(regex=name, operation_name=kind, algorithm_key="no_quantize")
    ((name, ends),) = interpreter.get_signature_list().items()
    (entry,) = ends["inputs"]
    ranges = made.calibrate({name: [{entry: crop.numpy()} for crop in crops.split(1)]})
    made.quantize(ranges).export_model(str(path), overwrite=True)
