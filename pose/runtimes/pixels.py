"""Pixels as networks take them, without torch."""

from __future__ import annotations

import numpy as np


def normalize(crops: np.ndarray, mean: np.ndarray, std: np.ndarray) -> np.ndarray:
    """The numbers of :func:`pose.prediction.to_input`, without torch.

    Args:
        crops: (N, H, W, 3) uint8 BGR.
        mean, std: (3,) of RGB in [0, 255].

    Returns:
        (N, 3, H, W) float32 RGB, less ``mean`` over ``std``.
    """
    table = (np.arange(256, dtype=np.float32)[:, None] - mean) / std  # (256, 3), RGB
    images = np.empty((len(crops), 3, *crops.shape[1:3]), np.float32)
    for channel in range(3):
        np.take(table[:, channel], crops[..., 2 - channel], out=images[:, channel], mode="clip")
    return images
