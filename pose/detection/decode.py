"""The network's maps to boxes: peaks, their boxes, and of boxes of one person the best. Nothing here needs torch."""

from __future__ import annotations

import cv2
import numpy as np

from pose.detection.letterbox import STRIDE
from pose.detection.suppression import MAX_PERSONS, OVERLAP, suppress

MAX_LOG = 6.0
"""Distances are at most exp(6) cells: more than any picture has."""


def decode(
    maps: np.ndarray, threshold: float = 0.0, overlap: float = OVERLAP, max_persons: int = MAX_PERSONS
) -> np.ndarray:
    """One picture's maps to boxes.

    Args:
        maps: (5, h, w) float32 of :class:`pose.detection.network.DetectionNet`.
        threshold: Boxes of a lower score are left out.
        overlap: The worse of two boxes with a larger IoU is left out.
        max_persons: The number of boxes at most; the best are kept.

    Returns:
        (N, 5) float32 x1, y1, x2, y2 in input pixels and the score in (0, 1), the best first.
    """
    return best(boxes_at_peaks(maps, 2 * max_persons), threshold, overlap, max_persons)


def boxes_at_peaks(maps: np.ndarray, most: int) -> np.ndarray:
    """Boxes at the cells whose score is the highest of their 3 x 3, some of one person still.

    Args:
        maps: (5, h, w) float32 of :class:`pose.detection.network.DetectionNet`.
        most: How many at most; the best are kept.

    Returns:
        (N, 5) float32 x1, y1, x2, y2 in input pixels and the score, the best first.
    """
    scores = 1 / (1 + np.exp(np.minimum(-maps[0], 80)))  # exp(80) is a float32 still
    peaks = scores == cv2.dilate(scores, np.ones((3, 3), np.uint8))
    places = np.flatnonzero(peaks)
    places = places[np.argsort(-scores.ravel()[places], kind="stable")[:most]]
    y, x = np.divmod(places, maps.shape[2])
    left, top, right, bottom = np.exp(np.minimum(maps[1:].reshape(4, -1)[:, places], MAX_LOG))
    boxes = np.stack([x + 0.5 - left, y + 0.5 - top, x + 0.5 + right, y + 0.5 + bottom], 1) * STRIDE
    return np.concatenate([boxes, scores.ravel()[places, None]], 1).astype(np.float32)


def best(found: np.ndarray, threshold: float, overlap: float, max_persons: int = MAX_PERSONS) -> np.ndarray:
    """The boxes of one picture that are shown, the best first.

    Args:
        found: (N, 5) x1, y1, x2, y2 and the score.
        threshold, overlap, max_persons: See :func:`decode`.
    """
    boxes = found[found[:, 4] > max(threshold, 1e-6)]
    return boxes[suppress(boxes, np.zeros(len(boxes), np.int64), overlap)[:max_persons]]
