"""ONNX of one image, without Scan: for OpenCV, MNN, TVM and whatever else refuses control flow."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pose.errors import require
from pose.export import batch_scan


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``; the metadata is added by the caller."""
    onnx = require("onnx")
    onnx.save(batch_scan.trace(network, x, ["crops"], ["heatmaps"], free=False), str(path))
