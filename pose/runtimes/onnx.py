"""ONNX Runtime: ``NAME.onnx``, with a free batch size or of one image."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.onnx_format import PIXELS, open_network
from pose.runtimes.session import NetworkSession


def open_file(path: str | Path, threads: int = 0, device: str = "cpu") -> NetworkSession:
    """See :func:`pose.onnx_format.open_network`; 0 threads are the runtime's own choice."""
    session, metadata = open_network(path, device, threads)
    (entry,) = session.get_inputs()

    def run(images: np.ndarray) -> list[np.ndarray]:
        return session.run(None, {entry.name: images})

    gives_keypoints = len(session.get_outputs()) == 2 or entry.type == PIXELS
    return NetworkSession(run, metadata, entry.shape[0] == 1, gives_keypoints, entry.type == PIXELS)
