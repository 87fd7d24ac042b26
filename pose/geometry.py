"""Geometry: boxes become crops and points come back, by a centre, a scale and the crop's affine.

Arrays in, arrays out; every function takes one item or any leading batch shape. A pixel's
coordinate is its index: the left-top pixel is (0, 0). Sources: docs/protocol.md#annotated-box,
docs/protocol.md#crop-box, docs/protocol.md#warp and docs/protocol.md#map-back.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

PADDING = 1.25
"""The crop is this much larger than the box."""


def clip_boxes(boxes: ArrayLike, image_size: ArrayLike) -> np.ndarray:
    """Annotated boxes clipped to their pictures (docs/protocol.md#annotated-box).

    Args:
        boxes: (..., 4) x, y, width, height in pixels.
        image_size: (..., 2) width and height of the picture.

    Returns:
        (..., 4) float64 boxes; a width is x2 - x1, one pixel less than annotated. A box without
        overlap comes back with a width or height that is not positive.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    limit = np.asarray(image_size, dtype=np.float64) - 1
    start = np.maximum(boxes[..., :2], 0)
    end = np.minimum(limit, start + np.maximum(boxes[..., 2:] - 1, 0))
    return np.concatenate([start, end - start], axis=-1)


def have_size(boxes: ArrayLike, image_size: ArrayLike = np.inf) -> np.ndarray:
    """Which boxes have a width and a height inside their pictures, also where their corners are kept as float32.

    Args:
        boxes: (..., 4) x, y, width, height in pixels.
        image_size: (..., 2) width and height of the picture; infinite where they are not known.

    Returns:
        (...) bool.
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    start = np.maximum(boxes[..., :2], 0)
    end = np.minimum(boxes[..., :2] + boxes[..., 2:], image_size)
    return np.all(end.astype(np.float32) > start.astype(np.float32), axis=-1)


def box_iou(boxes: ArrayLike, others: ArrayLike, buffer: ArrayLike = 0.0) -> np.ndarray:
    """Intersection over union of boxes, each grown on every side by ``buffer`` times its size.

    Args:
        boxes: (..., 4) x, y, width, height.
        others: (..., 4), broadcast against ``boxes``: ``box_iou(a[:, None], b[None])`` compares each with each.
        buffer: (...) not negative.

    Returns:
        (...) float64 in [0, 1]; 0 for boxes without area.
    """
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    grow = np.asarray(buffer, np.float64)[..., None]
    start = np.maximum(boxes[..., :2] - grow * boxes[..., 2:], others[..., :2] - grow * others[..., 2:])
    end = np.minimum(boxes[..., :2] + (1 + grow) * boxes[..., 2:], others[..., :2] + (1 + grow) * others[..., 2:])
    shared = (end - start).clip(0).prod(axis=-1)
    areas = (boxes[..., 2:].prod(axis=-1) + others[..., 2:].prod(axis=-1)) * (1 + 2 * grow[..., 0]) ** 2
    return shared / np.maximum(areas - shared, 1e-12)


def boxes_to_centers_scales(
    boxes: ArrayLike, aspect_ratio: float, padding: float = PADDING
) -> tuple[np.ndarray, np.ndarray]:
    """Crop centres and sizes: the short side padded to the aspect ratio, then both enlarged.

    Args:
        boxes: (..., 4) x, y, width, height in pixels.
        aspect_ratio: Width over height of the network's input.
        padding: Factor on the padded size.

    Returns:
        centers (..., 2) and scales (..., 2) float64, in pixels. A scale is the crop's width and
        height (HRNet stores it divided by 200).
    """
    boxes = np.asarray(boxes, dtype=np.float64)
    width, height = boxes[..., 2], boxes[..., 3]
    scales = np.stack([np.maximum(width, height * aspect_ratio), np.maximum(height, width / aspect_ratio)], axis=-1)
    return boxes[..., :2] + boxes[..., 2:] / 2, scales * padding


def crop_affine(
    centers: ArrayLike,
    scales: ArrayLike,
    size: tuple[int, int],
    rotations: ArrayLike = 0.0,
    flips: ArrayLike = False,
) -> np.ndarray:
    """Affine maps from picture pixels to crop pixels.

    The three-point construction of docs/protocol.md#warp in closed form: the centre goes to the middle of
    the crop, the crop's width decides the scale in both directions, and a positive rotation turns
    the picture counter-clockwise under the crop. A flip is part of the map, so that a mirrored
    crop costs no second pass over the picture.

    Args:
        centers: (..., 2) crop centres in picture pixels.
        scales: (..., 2) crop widths and heights in picture pixels; only the width is used.
        size: Width and height of the crop in pixels.
        rotations: (...) degrees, applied after the flip.
        flips: (...) bool, mirror left and right.

    Returns:
        (..., 2, 3) float64.

    Raises:
        ValueError: A scale is not positive and finite.
    """
    centers = np.asarray(centers, dtype=np.float64)
    widths = np.asarray(scales, dtype=np.float64)[..., 0]
    if not np.all((widths > 0) & np.isfinite(widths)):
        raise ValueError("every crop scale must be positive and finite")
    angle = np.deg2rad(np.asarray(rotations, dtype=np.float64))
    factor = size[0] / widths
    cosine, sine = factor * np.cos(angle), factor * np.sin(angle)
    mirror = np.where(flips, -1.0, 1.0)
    linear = np.stack(
        [np.stack(np.broadcast_arrays(cosine * mirror, sine), axis=-1),
         np.stack(np.broadcast_arrays(-sine * mirror, cosine), axis=-1)],
        axis=-2,
    )  # fmt: skip
    middle = np.asarray(size, dtype=np.float64) / 2
    offset = middle - np.einsum("...ij,...j->...i", linear, centers)
    return np.concatenate([linear, offset[..., None]], axis=-1)


def invert_affine(affine: ArrayLike) -> np.ndarray:
    """The inverse maps: (..., 2, 3) to (..., 2, 3) float64."""
    affine = np.asarray(affine, dtype=np.float64)
    inverse = np.linalg.inv(affine[..., :2])
    return np.concatenate([inverse, -inverse @ affine[..., 2:]], axis=-1)


def apply_affine(points: ArrayLike, affine: ArrayLike) -> np.ndarray:
    """Maps points.

    Args:
        points: (..., K, 2).
        affine: (..., 2, 3) with the same leading shape.

    Returns:
        (..., K, 2) float64.
    """
    affine = np.asarray(affine, dtype=np.float64)
    points = np.asarray(points, dtype=np.float64)
    return np.einsum("...ij,...kj->...ki", affine[..., :2], points) + affine[..., None, :, 2]


def heatmap_to_image(
    points: ArrayLike, centers: ArrayLike, scales: ArrayLike, heatmap_size: tuple[int, int]
) -> np.ndarray:
    """Heatmap coordinates to picture pixels, the inverse of the unrotated crop.

    Args:
        points: (..., K, 2) in heatmap pixels.
        centers: (..., 2) in picture pixels.
        scales: (..., 2) in picture pixels.
        heatmap_size: Width and height.

    Returns:
        (..., K, 2) float64.
    """
    return apply_affine(points, invert_affine(crop_affine(centers, scales, heatmap_size)))
