"""Where boxes go from one frame to the next: median flow (Kalal et al., ICPR 2010), all boxes at once.

Boxes move but keep their size: what moves inside a person says little about how large the person is.
"""

from __future__ import annotations

import cv2
import numpy as np

_SIDE = 480  # pixels of the longer side that motion is looked for in
_GRID = 7  # points along each side of a box
_INNER = (0.7, 0.9)  # the part of a box, across and along, that is more person than background
_MOST_ERROR = 1.5  # pixels by which a point may miss its origin when followed forth and back
_LEAST_SHARE = 0.25  # of a box's points that must be followed well
_WINDOW, _LEVELS = (15, 15), 4


def motion_image(image: np.ndarray) -> tuple[np.ndarray, float]:
    """The picture (H, W, 3) uint8 as motion is looked for: small and grey (h, w), and its size over the picture's."""
    factor = min(1.0, _SIDE / max(image.shape[:2]))
    if factor < 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY), factor


def box_shifts(before: np.ndarray, after: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How far what is in boxes has moved.

    Args:
        before: (h, w) uint8 grey.
        after: (h, w) uint8 grey, the next frame.
        boxes: (N, 4) float64 x, y, width, height in pixels of ``before``.

    Returns:
        (N, 2) float64 pixels, and (N,) bool: False, with a shift of 0, where too little could be followed.
    """
    shifts = np.zeros((len(boxes), 2))
    if not len(boxes) or before.shape != after.shape:
        return shifts, np.zeros(len(boxes), bool)
    steps = np.linspace(-0.5, 0.5, _GRID)
    grid = np.stack(np.meshgrid(steps * _INNER[0], steps * _INNER[1]), axis=-1).reshape(-1, 2)
    points = (boxes[:, None, :2] + (0.5 + grid) * boxes[:, None, 2:]).astype(np.float32)  # (N, G, 2)
    flat = points.reshape(-1, 1, 2)
    moved, found = _followed(before, after, flat)
    back, found_back = _followed(after, before, moved)
    good = (found & found_back).astype(bool) & (np.linalg.norm(back - flat, axis=-1) <= _MOST_ERROR)
    good = good.reshape(len(boxes), -1) & ((points >= 0) & (points < before.shape[::-1])).all(axis=-1)
    enough = good.mean(axis=1) >= _LEAST_SHARE
    ways = np.where(good[..., None], moved.reshape(points.shape) - points, np.nan)[enough]
    shifts[enough] = np.nanmedian(ways, axis=1)
    return shifts, enough


def _followed(before: np.ndarray, after: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points (P, 1, 2) float32 of one grey image in the next, and (P, 1) uint8: whether they were found there."""
    moved, found, _ = cv2.calcOpticalFlowPyrLK(  # type: ignore[call-overload]  # its hints know no None
        before, after, points, None, winSize=_WINDOW, maxLevel=_LEVELS
    )
    return moved, found
