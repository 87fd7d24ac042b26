"""ONNX of one image, without Scan: for OpenCV, MNN, TVM and whatever else refuses control flow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor, nn

from pose.errors import require
from pose.export import batch_scan


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``; the metadata is added by the caller."""
    onnx = require("onnx")
    onnx.save(batch_scan.trace(network, x, ["crops"], ["heatmaps"], free=False), str(path))


def describe(path: Path, entries: Mapping[str, str]) -> None:
    """Puts the metadata into a file."""
    onnx = require("onnx")
    file = onnx.load(str(path))
    onnx.helper.set_model_props(file, dict(entries))
    onnx.checker.check_model(file, full_check=True)
    onnx.save(file, str(path))
