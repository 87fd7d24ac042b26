#!/usr/bin/env bash
# ai-edge-quantizer 0.10.0 (ai-edge-litert 2.3.0): a layer is easily rounded that a recipe leaves out, without a word.
# A heatmap network's last layer should stay float32. But a layer's name for the recipe is its output's name in the file
# with a semicolon behind it, so that the pattern "heatmaps$" matches nothing; and a transposed convolution, with which
# many pose networks end, is CONV_2D_TRANSPOSE to the quantizer, though the file, LiteRT's schema and its tools call it
# TRANSPOSE_CONV: as a text in a recipe that name is no error either and matches nothing.
# Seen here, a file with one such layer of output "heatmaps": left float32 by "heatmaps" and by "^heatmaps;$", in 8 bits
# with "heatmaps$", with "^heatmaps$" and with operation TRANSPOSE_CONV, and no line says that a rule matched nothing.
# This project asks for its last layer by both names (pose/export/writers/litert.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    ai-edge-quantizer==0.10.0 ai-edge-litert==2.3.0 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import contextlib
import io
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.interpreter import Interpreter
from ai_edge_litert.tools import flatbuffer_utils
from ai_edge_quantizer import qtyping, quantizer, recipe

folder = Path(sys.argv[1])
FILE, AFTER = str(folder / "head.tflite"), str(folder / "head8.tflite")


def write_head():
    """A file of one transposed convolution, from 64 channels to heatmaps of 17 joints."""
    model, graph = schema.ModelT(), schema.SubGraphT()
    model.version, model.buffers, model.subgraphs = 3, [schema.BufferT()], [graph]
    graph.tensors = []

    def tensor(name, shape, values=None):
        made, buffer = schema.TensorT(), schema.BufferT()
        made.name, made.shape, made.buffer = name, list(shape), len(model.buffers)
        made.type = schema.TensorType.INT32 if name == "size" else schema.TensorType.FLOAT32
        if values is not None:
            buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        model.buffers.append(buffer)
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    kernel = np.random.default_rng(0).normal(0, 0.1, (17, 4, 4, 64)).astype(np.float32)
    features, heatmaps = tensor("features", (1, 8, 6, 64)), tensor("heatmaps", (1, 16, 12, 17))
    constants = [tensor("size", (4,), np.int32([1, 16, 12, 17])), tensor("kernel", kernel.shape, kernel)]
    code, step, options = schema.OperatorCodeT(), schema.OperatorT(), schema.TransposeConvOptionsT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.TRANSPOSE_CONV
    code.version = 1
    options.padding, options.strideW, options.strideH = schema.Padding.SAME, 2, 2
    step.opcodeIndex, step.inputs, step.outputs = 0, [*constants, features], [heatmaps]
    step.builtinOptionsType, step.builtinOptions = schema.BuiltinOptions.TransposeConvOptions, options
    model.operatorCodes, graph.operators = [code], [step]
    graph.inputs, graph.outputs = [features], [heatmaps]
    flatbuffer_utils.write_model(model, FILE)
    runs = Interpreter(FILE)
    runs.allocate_tensors()
    runs.invoke()


def kernel_after(pattern, operation):
    """The type of the kernel where the layers of ``pattern`` and ``operation`` are left out, and what was printed."""
    said = io.StringIO()
    rules = [*recipe.dynamic_wi8_afp32(), {"regex": pattern, "operation": operation, "algorithm_key": "no_quantize"}]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(said):
        logging.basicConfig(stream=said, force=True, level=logging.INFO)
        made = quantizer.Quantizer(FILE)
        made.load_quantization_recipe(rules)
        made.quantize().export_model(AFTER, overwrite=True)
    (kernel,) = [t for t in flatbuffer_utils.read_model(AFTER).subgraphs[0].tensors if t.name == b"kernel"]
    return ("float32" if kernel.type == schema.TensorType.FLOAT32 else "8 bits"), said.getvalue()


write_head()
print(f"ai-edge-quantizer {version('ai-edge-quantizer')}")
seen, quiet = {}, True
patterns = ("heatmaps", "^heatmaps;$", "heatmaps$", "^heatmaps$")
for pattern, operation in (*((each, "CONV_2D_TRANSPOSE") for each in patterns), (".*", "TRANSPOSE_CONV")):
    seen[pattern, operation], said = kernel_after(pattern, operation)
    quiet &= "match" not in said.lower() and pattern not in said and operation not in said
    print(f"left out: {pattern!r}, {operation}: the kernel is in {seen[pattern, operation]}")
try:
    qtyping.TFLOperationName("TRANSPOSE_CONV")
    raise AssertionError("the quantizer knows LiteRT's name now")
except ValueError as error:
    print(f"as its own type: ValueError: {error}")
assert list(seen.values()) == ["float32", "float32", "8 bits", "8 bits", "8 bits"], "names match otherwise now"
assert quiet, "a rule that matches nothing is told now"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
