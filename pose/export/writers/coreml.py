"""Core ML's package: it can be written anywhere, and run on Apple's systems alone."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pose.errors import require


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes the folder ``path``, in float32, for iOS 16 and macOS 13 on.

    ``torch.export`` rather than a traced module: coremltools 9.0 stops at traced sizes where numpy is 2.4.
    """
    coremltools = require("coremltools")
    program = torch.export.export(network, (x,)).run_decompositions({})
    converted = coremltools.convert(
        program,
        outputs=[coremltools.TensorType(name="heatmaps")],
        minimum_deployment_target=coremltools.target.iOS16,
        compute_precision=coremltools.precision.FLOAT32,
    )
    converted.save(str(path))
