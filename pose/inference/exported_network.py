"""Exported pose networks, run by the runtime of their file; torch is not needed, unless the file is torch's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose import heatmap
from pose.inference.profiler import Profiler
from pose.runtimes.files import open_file
from pose.runtimes.pixels import normalize


class ExportedNetwork:
    """An exported pose network; see :class:`~pose.inference.networks.PoseNetwork`.

    Args:
        path: The file, see :func:`~pose.runtimes.files.open_file`.
        device: ``cpu``, or anything else for a GPU where the installed runtime has one.
        profiler: Times the forward passes.

    Attributes:
        metadata: What the file says of itself.

    Raises:
        CheckpointError: The file is missing, broken or not such a network.
        OptionError: The file's runtime is not installed.
    """

    def __init__(self, path: str | Path, device: str = "auto", profiler: Profiler | None = None) -> None:
        self.profiler = profiler or Profiler()
        self.session = open_file(path, device=device)
        self.metadata = self.session.metadata
        self.skeleton = self.metadata.skeleton
        self.input_size, self.heatmap_size = self.metadata.input_size, self.metadata.heatmap_size
        self._mean, self._std = (
            255 * np.array(values, np.float32) for values in (self.metadata.mean, self.metadata.std)
        )

    def __call__(self, crops: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(N, H, W, 3) uint8 BGR to coordinates (N, K, 2) in heatmap pixels and scores (N, K)."""
        if self.session.takes_pixels:
            (keypoints,) = self._run(np.ascontiguousarray(crops[..., ::-1]))
            return keypoints[..., :2] * (np.array(self.heatmap_size) / self.input_size), keypoints[..., 2]
        images = normalize(crops, self._mean, self._std)
        outputs = self._run(images)
        if len(outputs) == 2:
            return outputs[0], outputs[1]
        heatmaps, test = outputs[0], self.metadata.test
        if test["flip"]:
            (mirrored,) = self._run(np.ascontiguousarray(images[..., ::-1]))
            heatmaps = heatmap.average_flip(heatmaps, mirrored, self.skeleton.flip_index, test["flip_shift"])
        return heatmap.decode(heatmaps, test["decode"])

    def _run(self, images: np.ndarray) -> list[np.ndarray]:
        with self.profiler("forward"):
            return self.session(images)
