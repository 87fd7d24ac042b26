"""PyTorch's own exported programs: ``NAME.pt2``. They hold a graph and weights, no classes of this project."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.errors import CheckpointError, require
from pose.runtimes.session import NetworkSession, read_details


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """Any batch size; threads are torch's."""
    torch, metadata = require("torch"), read_details(path)
    try:
        module = torch.export.load(str(path)).module()
    except Exception as error:  # what is wrong with a file is said by exceptions of many kinds
        raise CheckpointError(f"{path}: no exported program that torch {torch.__version__} can load") from error

    def run(images: np.ndarray) -> list[np.ndarray]:
        with torch.inference_mode():
            return [module(torch.from_numpy(images)).numpy()]

    return NetworkSession(run, metadata, one_image=False)
