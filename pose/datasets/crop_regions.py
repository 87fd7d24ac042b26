"""How much of a picture the crops of a person can show, and in how much detail."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from pose.datasets.augment import HALF_BODY_PADDING, Augmentation
from pose.datasets.coco import Persons
from pose.geometry import boxes_to_centers_scales

MARGIN = 2
"""Pixels around what the crops cover, for interpolation."""


_FARTHEST = 1 << 31  # pixels, beyond every picture


def reach(scales: np.ndarray, degrees: float) -> np.ndarray:
    """The half width and half height of what a rectangle covers when it turns by up to ``degrees`` both ways.

    Args:
        scales: (N, 2) widths and heights.
        degrees: The largest turn, at least 0.

    Returns:
        (N, 2).
    """
    limit = np.deg2rad(min(degrees, 90.0))
    half = scales / 2
    across = half[:, ::-1]
    angle = np.minimum(np.arctan2(across, half), limit)  # where a corner points along the axis
    return half * np.cos(angle) + across * np.sin(angle)


def half_body_boxes(persons: Persons, upper_body: np.ndarray, above: int) -> Iterator[tuple[np.ndarray, ...]]:
    """The half-body crops that augmentation may take, of the upper and then of the lower bodies.

    Args:
        persons: The N persons.
        upper_body: (K,) bool.
        above: A person needs more labelled keypoints than this.

    Yields:
        rows (M,), centers (M, 2), boxes (M, 4): as :func:`pose.datasets.augment.half_body` has them.
    """
    labeled = persons.keypoints[:, :, 2] > 0
    points = persons.keypoints[:, :, :2].astype(np.float64)
    for half in (upper_body, ~upper_body):
        chosen = labeled & half
        rows = np.flatnonzero((labeled.sum(1) > above) & (chosen.sum(1) >= 2))
        here = chosen[rows, :, None]
        low = np.where(here, points[rows], np.inf).min(1)
        extent = np.where(here, points[rows], -np.inf).max(1) - low
        center = np.where(here, points[rows], 0).sum(1) / here.sum(1)
        some = extent.any(1)
        yield rows[some], center[some], np.concatenate([low, extent], axis=1)[some]


def crop_regions(
    persons: Persons, upper_body: np.ndarray, input_size: tuple[int, int], settings: Augmentation | None
) -> tuple[np.ndarray, np.ndarray]:
    """What crops of each person can show.

    Args:
        persons: The N persons.
        upper_body: (K,) bool; all False where there are no half-body crops.
        input_size: Width and height of the crops.
        settings: What augmentation may do; None for the plain crop.

    Returns:
        regions (N, 4) int64: first column and row, and those behind the last, within the picture, or as far as the
        crops reach to the right and below where its width and height are 0, not known;
        steps (N,): picture pixels per pixel of the finest crop.
    """
    aspect_ratio = input_size[0] / input_size[1]
    centers, scales = boxes_to_centers_scales(persons.boxes, aspect_ratio)
    everyone = np.arange(len(persons))
    crops = [(everyone, centers, scales)]
    if settings is None:
        smallest, largest, degrees = 1.0, 1.0, 0.0
    else:
        smallest, largest = 1 - settings.scale_std, 1 + settings.scale_std
        degrees = settings.rotation_degrees * (2 if settings.rotation_distribution == "hrnet" else 1)
        degrees *= settings.rotation_probability > 0
        if upper_body.any() and settings.half_body_probability > 0:
            for rows, middles, boxes in half_body_boxes(persons, upper_body, settings.half_body_above):
                crops.append((rows, middles, boxes_to_centers_scales(boxes, aspect_ratio, HALF_BODY_PADDING)[1]))
    low, high = np.full((len(persons), 2), np.inf), np.full((len(persons), 2), -np.inf)
    steps = np.full(len(persons), np.inf)
    for rows, middles, sizes in crops:
        far = reach(sizes * largest, degrees) + MARGIN
        low[rows] = np.minimum(low[rows], middles - far)
        high[rows] = np.maximum(high[rows], middles + far)
        steps[rows] = np.minimum(steps[rows], sizes[:, 0] * smallest / input_size[0])
    sizes = persons.image_sizes[persons.image_index].astype(np.int64)
    limits = np.where((sizes == 0).all(1, keepdims=True), _FARTHEST, sizes)
    first = np.clip(np.floor(low), 0, limits - 1).astype(np.int64)
    last = np.clip(np.ceil(high) + 1, first + 1, limits).astype(np.int64)
    return np.concatenate([first, last], axis=1), steps
