"""PyTorch's exported program, with a free batch size."""

from __future__ import annotations

import io
from pathlib import Path

import torch
from torch import Tensor, nn

MOST_IMAGES = 4096


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    batch = torch.export.Dim("batch", min=1, max=MOST_IMAGES)
    sample = (torch.cat([x, x]),)
    # strict was the default before 2.7, and refuses dynamic networks there
    program = torch.export.export(network, sample, dynamic_shapes=({0: batch},), strict=False)
    file = io.BytesIO()  # torch ends the whole process where it cannot write a path (seen in 2.14: c10::Error)
    torch.export.save(program, file)
    path.write_bytes(file.getvalue())
