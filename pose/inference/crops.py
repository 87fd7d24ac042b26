"""Network inputs without torch: the numbers of :func:`pose.prediction.to_input`, as a test proves."""

from __future__ import annotations

import numpy as np


def normalise(crops: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 BGR to (N, 3, H, W) float32 RGB, less ``mean`` over ``std``, (3,) each in [0, 255]."""
    table = (np.arange(256, dtype=np.float32)[:, None] - mean) / std  # (256, 3), RGB
    images = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for channel in range(3):
        np.take(table[:, channel], crops[..., 2 - channel], out=images[:, channel], mode="clip")
    return images
