"""MNN's file, made of an ONNX graph of one image.

The converter is called as the function that it is. MNN's command for it (``mnnconvert``, ``MNN.tools.mnnconvert``)
installs a logging package when it is started and sends usage to its vendor (3.6.1), which nobody is asked about here.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor, nn

from pose.errors import require
from pose.export.errors import ExportError
from pose.export.writers import onnx_single


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``.

    Raises:
        ExportError: The converter writes nothing.
    """
    require("MNN")
    tools = require("_tools", "MNN's converter", extra="mnn")
    with tempfile.TemporaryDirectory() as folder:
        graph = Path(folder, "network.onnx")
        onnx_single.write(network, x, graph)
        arguments = ["-f", "ONNX", "--modelFile", str(graph), "--MNNModel", str(path), "--bizCode", "pose"]
        with _quiet(Path(folder, "log")) as log:
            tools.mnnconvert(["mnnconvert", *arguments])
        if not path.is_file():
            raise ExportError(f"{path}: MNN's converter wrote nothing ({' '.join(log.read_text().split())[-300:]})")


@contextmanager
def _quiet(log: Path) -> Iterator[Path]:
    """The process's standard output goes to a file: the converter is C++ and prints what it does."""
    kept = os.dup(1)
    try:
        with open(log, "wb") as file:
            os.dup2(file.fileno(), 1)
            yield log
    finally:
        os.dup2(kept, 1)
        os.close(kept)
