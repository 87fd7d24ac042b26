"""The network's maps to boxes of one picture. Nothing here needs torch."""

from __future__ import annotations

import cv2
import numpy as np

from pose.detection.suppression import MAX_PERSONS

STRIDE = 8
"""Input pixels per cell of the maps."""

MAX_LOG = 6.0
"""Distances are at most exp(6) cells: more than any picture has."""


def boxes_of_maps(maps: np.ndarray) -> np.ndarray:
    """What :func:`pose.detection.decode.decode` makes of one picture's maps before boxes are suppressed.

    Args:
        maps: (5, h, w) float32 of :class:`pose.detection.network.DetectionNet`.

    Returns:
        (N, 5) float32 x1, y1, x2, y2 in input pixels and the score, the best first: twice as many as are kept at most.
    """
    scores = 1 / (1 + np.exp(-maps[0]))
    peaks = scores == cv2.dilate(scores, np.ones((3, 3), np.uint8))
    ranked = np.where(peaks, scores, 0).ravel()
    best = np.argsort(-ranked, kind="stable")[: 2 * MAX_PERSONS]
    y, x = np.divmod(best, maps.shape[2])
    left, top, right, bottom = np.exp(np.minimum(maps[1:].reshape(4, -1)[:, best], MAX_LOG))
    boxes = np.stack([x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom], 1) * STRIDE
    return np.concatenate([boxes, ranked[best, None]], 1).astype(np.float32)
