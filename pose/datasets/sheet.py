"""Sheets of crops: keypoints, targets and predictions as people can look at them."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose.skeleton import SIDE_COLORS, Skeleton, limb_side

_WHITE = (255, 255, 255)
_DARK = (20, 20, 20)
_SHIFT = 4  # fractional bits of coordinates


def draw_truth(crop: np.ndarray, points: np.ndarray, labelled: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A copy of a crop with labelled keypoints as dots and limbs as lines, coloured by side.

    Args:
        crop: (H, W, 3) uint8 BGR.
        points: (K, 2) in crop pixels; may lie outside.
        labelled: (K,) bool.
        skeleton: What they are.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = crop.copy()
    places = _fixed_point(points)
    for first, second in skeleton.limbs:
        if labelled[first] and labelled[second]:
            color = SIDE_COLORS[limb_side(skeleton, first, second)]
            cv2.line(canvas, places[first], places[second], color, 1, cv2.LINE_AA, _SHIFT)
    for place, shown, side in zip(places, labelled, skeleton.sides, strict=True):
        if shown:
            cv2.circle(canvas, place, 3 << _SHIFT, _DARK, -1, cv2.LINE_AA, _SHIFT)
            cv2.circle(canvas, place, 2 << _SHIFT, SIDE_COLORS[side], -1, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_predictions(
    crop: np.ndarray, points: np.ndarray, scores: np.ndarray, skeleton: Skeleton, threshold: float = 0.2
) -> np.ndarray:
    """A copy of a crop with predicted keypoints as white-edged crosses, coloured by side.

    Args:
        crop: (H, W, 3) uint8 BGR.
        points: (K, 2) in crop pixels.
        scores: (K,); those below the threshold are left out.
        skeleton: What they are.
        threshold: See ``scores``.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = crop.copy()
    for (x, y), score, side in zip(points, scores, skeleton.sides, strict=True):
        if score >= threshold:
            arms = _fixed_point(np.array([(x - 4, y - 4), (x + 4, y + 4), (x - 4, y + 4), (x + 4, y - 4)]))
            for color, width in ((_WHITE, 3), (SIDE_COLORS[side], 1)):
                cv2.line(canvas, arms[0], arms[1], color, width, cv2.LINE_AA, _SHIFT)
                cv2.line(canvas, arms[2], arms[3], color, width, cv2.LINE_AA, _SHIFT)
    return canvas


def draw_heatmaps(crop: np.ndarray, heatmaps: np.ndarray) -> np.ndarray:
    """A darkened crop under the highest value that any keypoint's heatmap has at each place.

    Args:
        crop: (H, W, 3) uint8 BGR.
        heatmaps: (K, h, w), values from 0 to 1; heatmap index j sits at crop pixel j * W / w.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    height, width = crop.shape[:2]
    highest = heatmaps.max(axis=0).clip(0, 1).astype(np.float32)
    stretch = np.array([[width / highest.shape[1], 0, 0], [0, height / highest.shape[0], 0]])
    highest = cv2.warpAffine(highest, stretch, (width, height), flags=cv2.INTER_LINEAR)
    colors = cv2.applyColorMap((highest * 255).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.where(highest[..., None] > 0.02, cv2.addWeighted(crop, 0.3, colors, 0.7, 0), crop // 2)


def tile(images: Sequence[np.ndarray], columns: int) -> np.ndarray:
    """Pictures of one size, (H, W, 3) uint8 each, side by side in rows; the rest of the last row is black.

    Raises:
        ValueError: There is no picture.
    """
    if not len(images):
        raise ValueError("no picture to show")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = image
    return sheet


def _fixed_point(points: np.ndarray) -> list[tuple[int, int]]:
    """(P, 2) to OpenCV's integers with fractional bits, kept where it can take them."""
    return np.round(points.clip(-2000, 4000) * (1 << _SHIFT)).astype(int).tolist()
