"""MNN: ``NAME.mnn``."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.errors import require
from pose.runtimes.session import NetworkSession, read_details


def open_file(path: str | Path, threads: int = 0) -> NetworkSession:
    """Opens a file to compute in float32; 0 threads are one."""
    mnn, metadata = require("MNN"), read_details(path)
    options = {"precision": "high", "backend": "CPU", "numThread": max(threads, 1)}
    manager = mnn.nn.create_runtime_manager((options,))
    network = mnn.nn.load_module_from_file(str(path), ["crops"], ["heatmaps"], runtime_manager=manager)
    size = (1, 3, metadata.input_size[1], metadata.input_size[0])

    def run(images: np.ndarray) -> list[np.ndarray]:
        crop = mnn.expr.placeholder(list(size), mnn.expr.NCHW)
        crop.write(images)
        heatmaps = mnn.expr.convert(network.forward([crop])[0], mnn.expr.NCHW)
        return [np.array(heatmaps.read())]

    return NetworkSession(run, metadata, one_image=True)
