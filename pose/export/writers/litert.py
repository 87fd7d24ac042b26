"""LiteRT's file, made by litert-torch of the module; in 8 bits by the quantizer that comes with it."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pose.errors import require


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    require("litert_torch").convert(network, (x,)).export(str(path))


def write_int8(network: nn.Module, x: Tensor, crops: Tensor, path: Path) -> None:
    """Writes ``path`` in 8 bits, whose input and output stay float32.

    Args:
        network: The network.
        x: An input.
        crops: (N, 3, H, W) to find the activations' ranges with.
        path: The file.
    """
    write(network, x, path)
    package = "ai_edge_quantizer"
    quantizer, recipe, types = (require(f"{package}.{name}") for name in ("quantizer", "recipe", "qtyping"))
    made = quantizer.Quantizer(str(path))
    made.load_quantization_recipe(recipe.static_wi8_ai8())
    for end in (types.TFLOperationName.INPUT, types.TFLOperationName.OUTPUT):
        made.update_quantization_recipe(regex=".*", operation_name=end, algorithm_key="no_quantize")
    interpreter = require("ai_edge_litert.interpreter").Interpreter(str(path))
    ((name, ends),) = interpreter.get_signature_list().items()
    (entry,) = ends["inputs"]
    ranges = made.calibrate({name: [{entry: crop.numpy()} for crop in crops.split(1)]})
    made.quantize(ranges).export_model(str(path), overwrite=True)
