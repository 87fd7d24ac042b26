#!/usr/bin/env bash
# onnxruntime 1.32.0: whether its quantizers take a convolution with a computed kernel depends on the bias.
# quantize_dynamic makes 8 bits of such a convolution without a bias; with one, constant or computed, it stops with
# "ValueError: Expected kernel to be an initializer", though it could leave the node alone. quantize_static in its
# QOperator format writes a file for a computed bias that onnxruntime itself refuses to load (bias_quantized is int8,
# QLinearConv takes int32). With op_types_to_quantize=["MatMul", "Gemm"] quantize_dynamic leaves convolutions alone.
# Seen here with an attention over four kernels of 8 x 8 x 3 x 3: exactly that, printed below. This project's `--int8`
# of ONNX files is for static networks, and `--bank int8` writes its own nodes for dynamic ones.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import logging
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_dynamic, quantize_static

logging.disable(logging.WARNING)
onnxruntime.set_default_logger_severity(3)
folder = Path(sys.argv[1])
draw = np.random.default_rng(0)
IMAGE = draw.normal(0, 1, (1, 8, 6, 6)).astype(np.float32)


def written(bias):
    """A network with one convolution: its kernel is a mixture of four, its ``bias`` none, constant or computed."""
    values = {"weight": draw.normal(0, 0.1, (8, 4)), "bank": draw.normal(0, 0.1, (4, 8 * 8 * 9))}
    values |= {"row": np.int64([1, 8]), "kernel_shape": np.int64([8, 8, 3, 3])}
    nodes = [("GlobalAveragePool", ["image"], "mean"), ("Reshape", ["mean", "row"], "means"),
             ("MatMul", ["means", "weight"], "logits"), ("Softmax", ["logits"], "shares"),
             ("MatMul", ["shares", "bank"], "mixed"), ("Reshape", ["mixed", "kernel_shape"], "kernel")]
    if bias == "constant":
        values["bias"] = draw.normal(0, 0.1, 8)
    if bias == "computed":
        values |= {"biases": draw.normal(0, 0.1, (4, 8)), "bias_shape": np.int64([8])}
        nodes += [("MatMul", ["shares", "biases"], "sum"), ("Reshape", ["sum", "bias_shape"], "bias")]
    nodes = [helper.make_node(kind, ins, [out]) for kind, ins, out in nodes]
    inputs = ["image", "kernel"] + ([] if bias == "none" else ["bias"])
    nodes.append(helper.make_node("Conv", inputs, ["answer"], pads=[1, 1, 1, 1]))
    constants = [numpy_helper.from_array(each if each.dtype == np.int64 else each.astype(np.float32), name)
                 for name, each in values.items()]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, IMAGE.shape) for name in ("image", "answer")]
    graph = helper.make_graph(nodes, "mixture", ends[:1], ends[1:], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    onnx.save(model, folder / f"{bias}.onnx")
    return folder / f"{bias}.onnx"


class Images(CalibrationDataReader):
    def __init__(self):
        self.rest = iter([{"image": IMAGE}])

    def get_next(self):
        return next(self.rest, None)


def outcome(quantize, source):
    """How the quantized file's answers differ, or what the quantizer or the loading says."""
    after = folder / "quantized.onnx"
    before = onnxruntime.InferenceSession(source).run(None, {"image": IMAGE})[0]
    try:
        quantize(source, after)
    except ValueError as error:
        return f"ValueError: {error}"
    try:
        found = onnxruntime.InferenceSession(after).run(None, {"image": IMAGE})[0]
    except Exception as error:
        return f"not loaded: {str(error).splitlines()[0][:230]}"
    return "a file" if np.isfinite(found).all() and found.shape == before.shape else "nonsense"


def static(source, after):
    quantize_static(source, after, Images(), quant_format=QuantFormat.QOperator)


def products(source, after):
    quantize_dynamic(source, after, op_types_to_quantize=["MatMul", "Gemm"])


print(f"onnxruntime {version('onnxruntime')}")
seen = {}
for bias in ("none", "constant", "computed"):
    path = written(bias)
    for name, quantize in (("dynamic", quantize_dynamic), ("dynamic, products alone", products), ("static", static)):
        seen[name, bias] = outcome(quantize, path)
        print(f"{name}, {bias} bias: {seen[name, bias]}")
stopped = "ValueError: Expected kernel to be an initializer"
assert seen["dynamic", "none"] == "a file", "a computed kernel without bias is refused, too"
assert seen["dynamic", "constant"] == seen["dynamic", "computed"] == stopped, "a bias does not matter now"
assert "bias_quantized" in seen["static", "computed"], "the file with a computed bias is loaded now"
assert seen["static", "constant"] == seen["dynamic, products alone", "computed"] == "a file", "the ways out are closed"
PY
"$folder/env/bin/python" "$folder/show.py" "$folder"
