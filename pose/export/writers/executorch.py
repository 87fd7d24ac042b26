"""ExecuTorch's file: what XNNPACK takes is delegated to it, computed convolutions stay portable."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from pose.errors import require


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    exir = require("executorch.exir")
    xnnpack = require("executorch.backends.xnnpack.partition.xnnpack_partitioner")
    program = torch.export.export(network, (x,))
    lowered = exir.to_edge_transform_and_lower(program, partitioner=[xnnpack.XnnpackPartitioner()])
    path.write_bytes(lowered.to_executorch().buffer)
