"""OpenVINO's files, made of an ONNX graph of one image."""

from __future__ import annotations

import tempfile
from pathlib import Path

from torch import Tensor, nn

from pose.errors import require
from pose.export.writers import onnx_single


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path`` and its .bin, in float32."""
    openvino = require("openvino")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "network.onnx")
        onnx_single.write(network, x, graph)
        model = openvino.Core().read_model(graph)
        openvino.save_model(model, str(path), compress_to_fp16=False)
