#!/usr/bin/env bash
# openvino 2026.4.1: a float32 network is computed in bfloat16 where the processor has AVX512-BF16 or AMX, unasked.
# Nothing is said, and the same file on the same OpenVINO answers to 1e-6 on one server and to 1e-2 on the next, so that
# a comparison with PyTorch passes on the machine that made the file and fails where it runs. Seen here, on an Intel
# Xeon with AVX512-BF16 and AMX: four convolutions of random weights, INFERENCE_PRECISION_HINT is bf16 where nothing
# was set, and answers are off from float64 by 3e-2, their standard deviation being .85; with the hint f32 by 4e-6.
# On processors without these instructions, or where /proc/cpuinfo does not tell them, it says so and ends with 77.
# This project opens files with the hint f32 (pose/runtimes/openvino.py).
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
if ! grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo; then
    echo "cannot be shown here: /proc/cpuinfo names neither avx512_bf16 nor amx_bf16, or is missing"
    exit 77
fi
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check --no-deps openvino==2026.4.1 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
from importlib.metadata import version

import numpy as np
import openvino
from openvino import opset13

draw = np.random.default_rng(0)
SPREADS = [(channels, (2 / (9 * channels)) ** 0.5) for channels in (3, 32, 32, 32)]
WEIGHTS = [draw.normal(0, spread, (32, channels, 3, 3)).astype(np.float32) for channels, spread in SPREADS]
IMAGE = draw.normal(0, 1, (1, 3, 64, 48)).astype(np.float32)


def network():
    image = opset13.parameter(IMAGE.shape, np.float32)
    answer = image
    for weight in WEIGHTS:
        answer = opset13.relu(opset13.convolution(answer, opset13.constant(weight), [1, 1], [1, 1], [1, 1], [1, 1]))
    return openvino.Model([answer], [image], "four_convolutions")


def exact():
    """The same in float64 by NumPy."""
    answer = IMAGE.astype(np.float64)
    for weight in WEIGHTS:
        padded = np.pad(answer, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        answer = np.maximum(np.einsum("nchwij,ocij->nohw", windows, weight.astype(np.float64), optimize=True), 0)
    return answer


core, wanted = openvino.Core(), exact()
print(f"openvino {version('openvino')}, standard deviation of the answers {wanted.std():.2f}")
off = {}
for name, options in (("nothing set", {}), ("the hint f32", {"INFERENCE_PRECISION_HINT": "f32"})):
    compiled = core.compile_model(network(), "CPU", options)
    chosen = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    off[name] = float(np.abs(compiled(IMAGE)[0] - wanted).max())
    print(f"{name}: computed in {chosen}, off by {off[name]:.1e}")
assert off["the hint f32"] < 1e-4, "float32 is not float32 with the hint either"
assert off["nothing set"] > 1e-3, "float32 is the default now"
PY
"$folder/env/bin/python" "$folder/show.py"
