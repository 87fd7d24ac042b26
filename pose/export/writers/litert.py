"""LiteRT's file, made by litert-torch of the module."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor, nn

from pose.errors import require


def write(network: nn.Module, x: Tensor, path: Path) -> None:
    """Writes ``path``."""
    require("litert_torch").convert(network, (x,)).export(str(path))
