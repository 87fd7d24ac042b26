#!/usr/bin/env bash
# openvino 2026.4.1: converting a model in Python reports usage to its vendor's analytics, and nobody is asked.
# openvino.convert_model starts openvino-telemetry (2025.2.0, which the wheel requires) with the opt-in dialog off and
# without a consent file takes silence for consent. Core.read_model reads the same ONNX file and reports nothing.
# Expected: no connection without consent. The script replaces the function that would connect, so it sends nothing.
# Seen here: convert_model: 2 or more reports to www.google-analytics.com; read_model: none.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    openvino==2026.4.1 openvino-telemetry==2025.2.0 onnx==1.23.2 numpy==2.4.6
cat >"$folder/show.py" <<'PY'
import sys
import urllib.parse
import urllib.request
from pathlib import Path

folder = Path(sys.argv[1])


def instead(request, *arguments, **options):
    """In the place of the connection, in this process and those forked from it: a line in a file."""
    with open(folder / "reports", "a") as file:
        file.write(urllib.parse.urlsplit(request.full_url).hostname + "\n")


urllib.request.urlopen = instead
import onnx  # noqa: E402
import openvino  # noqa: E402
from onnx import TensorProto, helper  # noqa: E402

shape = [1, 3, 4, 4]
values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in "xy"]
graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "graph", values[:1], values[1:])
path = folder / "relu.onnx"
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


def reports():
    return (folder / "reports").read_text().split() if (folder / "reports").exists() else []


openvino.Core().read_model(path)
before = reports()
openvino.convert_model(path)
after = reports()
print(f"openvino {openvino.__version__}: read_model: {len(before)} reports; "
      f"convert_model: {len(after) - len(before)} to {', '.join(sorted(set(after)))}")
assert not before, "read_model reports usage as well"
assert after, "convert_model reports nothing any more: the behaviour changed"
PY
env -u CI HOME="$folder" "$folder/env/bin/python" "$folder/show.py" "$folder"
