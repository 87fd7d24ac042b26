"""Suppression: the best of several boxes of one person is kept. Nothing here needs torch."""

from __future__ import annotations

import cv2
import numpy as np

OVERLAP = 0.6
"""Boxes of more overlap (IoU) than this are of one person."""

MAX_PERSONS = 100
"""Boxes a picture, as COCO's evaluation counts them."""


def suppress(boxes: np.ndarray, owners: np.ndarray, overlap: float) -> np.ndarray:
    """Greedy non-maximum suppression, each picture's boxes apart.

    By OpenCV: torchvision's costs seconds to import.

    Args:
        boxes: (N, 5) x1, y1, x2, y2 and the score, above 0.
        owners: (N,) int64, whose picture each is on.
        overlap: The worse of two boxes with a larger IoU is left out.

    Returns:
        (M,) int64 rows, the best first.
    """
    values = np.asarray(boxes, np.float64)
    places = values[:, :4].copy()
    places[:, 2:] -= places[:, :2]
    scores = values[:, 4].tolist()
    rows = cv2.dnn.NMSBoxesBatched(places.tolist(), scores, owners.tolist(), 0.0, overlap) if scores else ()
    kept = np.array(list(rows), np.int64)
    return kept[np.argsort(-values[kept, 4], kind="stable")]
