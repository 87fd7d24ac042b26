"""Drawing: skeletons over images, anti-aliased and colored by side; crops with keypoints, predictions, heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose.poses import Poses
from pose.skeleton import SIDE_COLORS, Skeleton, limb_side

DRAWN_SCORE = 0.2
"""Joints are drawn from this score on, where nobody chooses another."""

_OUTLINE = (20, 20, 20)
_WHITE = (255, 255, 255)
_BOX_COLOR = (80, 220, 80)
_SHIFT = 4  # fractional bits of OpenCV's integer coordinates


def draw_poses(image: np.ndarray, poses: Poses, threshold: float | None = None) -> np.ndarray:
    """A copy of an image with every person's skeleton, and in a video with everyone's box and number.

    Args:
        image: (H, W, 3) uint8 BGR.
        poses: The persons of this image.
        threshold: Joints below this score are left out, with their limbs; None takes that of the poses, and
            :data:`DRAWN_SCORE` where they have none.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    if threshold is None:
        threshold = DRAWN_SCORE if poses.threshold is None else poses.threshold
    return draw_skeletons(image, poses.keypoints, poses.boxes, poses.skeleton, threshold, poses.track_ids)


def draw_skeletons(
    image: np.ndarray,
    keypoints: np.ndarray,
    boxes: np.ndarray,
    skeleton: Skeleton,
    threshold: float = DRAWN_SCORE,
    track_ids: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of an image with skeletons of plain arrays, small persons over large ones.

    Args:
        image: (H, W, 3) uint8 BGR.
        keypoints: (N, K, 3) x, y in pixels, and the joint's score.
        boxes: (N, 4) x, y, width, height in pixels; they decide how thick the lines are.
        skeleton: Names the K keypoints and joins them.
        threshold: Joints below this score are left out, with their limbs.
        track_ids: (N,) identities in a video; each person gets a box and a number in a color of its own.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image.copy()
    for person in np.argsort([-box[2] * box[3] for box in boxes], kind="stable"):
        shown = (keypoints[person, :, 2] >= threshold) & np.isfinite(keypoints[person]).all(axis=1)
        _draw_person(canvas, keypoints[person, :, :2], shown, line_width(boxes[person]), skeleton)
        if track_ids is not None:
            number = int(track_ids[person])
            _draw_tagged(canvas, boxes[person], str(number), track_color(number))
    return canvas


def line_width(box: np.ndarray) -> float:
    """The width of a person's limbs in pixels, from the box (4,) x, y, width, height in pixels."""
    return max(1.0, float(np.sqrt(box[2] * box[3])) / 45)


def track_color(track_id: int) -> tuple[int, int, int]:
    """A bright BGR color for a person in a video, different from those of the numbers before and after."""
    hue = track_id * 0.618034 % 1  # the golden ratio spreads any run of numbers over the circle
    pixel = np.array([[[hue * 360, 0.75, 1.0]]], np.float32)
    return tuple((cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] * 255).astype(int).tolist())


def draw_boxes(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A copy of an image with boxes and their scores.

    Args:
        image: (H, W, 3) uint8 BGR.
        boxes: (N, 5) x, y, width, height in pixels, and the score, the best first.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image.copy()
    for box in boxes[::-1]:  # the best on top
        _draw_tagged(canvas, box[:4], f"{box[4]:.2f}", _BOX_COLOR)
    return canvas


def draw_truth(crop: np.ndarray, points: np.ndarray, labeled: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """A copy of a crop with labeled keypoints as dots and limbs as thin lines, colored by side.

    Args:
        crop: (H, W, 3) uint8 BGR.
        points: (K, 2) in crop pixels; may lie outside.
        labeled: (K,) bool.
        skeleton: Names the K keypoints and joins them.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = crop.copy()
    places = _fixed_point(points, canvas)
    _draw_limbs(canvas, places, labeled, skeleton, thickness=1)
    _draw_joints(canvas, places, labeled, skeleton, radius=2, rim=1)
    return canvas


def draw_predictions(
    crop: np.ndarray, points: np.ndarray, scores: np.ndarray, skeleton: Skeleton, threshold: float = DRAWN_SCORE
) -> np.ndarray:
    """A copy of a crop with predicted keypoints as white-edged crosses, colored by side.

    Args:
        crop: (H, W, 3) uint8 BGR.
        points: (K, 2) in crop pixels.
        scores: (K,) joint scores.
        skeleton: Names the K keypoints.
        threshold: Keypoints below this score are left out.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = crop.copy()
    arms = np.array([(-4, -4), (4, 4), (-4, 4), (4, -4)])
    for joint in np.flatnonzero(scores >= threshold):
        ends = _fixed_point(points[joint] + arms, canvas)
        for color, thickness in ((_WHITE, 3), (SIDE_COLORS[skeleton.sides[joint]], 1)):
            _line(canvas, ends[0], ends[1], color, thickness)
            _line(canvas, ends[2], ends[3], color, thickness)
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
    """Images of one size, (H, W, 3) uint8 each, side by side in rows; the rest of the last row is black.

    Raises:
        ValueError: There is no image.
    """
    if not len(images):
        raise ValueError("no image to show")
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    height, width = images[0].shape[:2]
    sheet = np.zeros((rows * height, columns * width, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        top, left = number // columns * height, number % columns * width
        sheet[top : top + height, left : left + width] = image
    return sheet


def _draw_tagged(canvas: np.ndarray, box: np.ndarray, tag: str, color: tuple[int, int, int]) -> None:
    """A box (4,) and, at its corner, a word on a tag of the same color."""
    width = line_width(box)
    limit = 4 * max(canvas.shape)
    x1, y1, x2, y2 = np.concatenate([box[:2], box[:2] + box[2:]]).clip(-limit, limit).round().astype(int).tolist()
    cv2.rectangle(canvas, (x1, y1), (x2, y2), color, max(1, round(width / 2)))
    scale = min(max(0.4, width / 6), 4.0)
    thick = max(1, round(1.5 * scale))
    (tag_width, tag_height), _ = cv2.getTextSize(tag, cv2.FONT_HERSHEY_SIMPLEX, scale, thick)
    rim = 2 + thick
    x = min(max(x1, 0), max(canvas.shape[1] - tag_width - 2 * rim, 0))
    bottom = max(y1, tag_height + 2 * rim)  # inside the image where there is no room above the box
    cv2.rectangle(canvas, (x, bottom - tag_height - 2 * rim), (x + tag_width + 2 * rim, bottom), color, -1)
    place = (x + rim, bottom - rim)
    cv2.putText(canvas, tag, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _OUTLINE, thick, cv2.LINE_AA)


def _draw_person(canvas: np.ndarray, points: np.ndarray, shown: np.ndarray, width: float, skeleton: Skeleton) -> None:
    """A skeleton with a dark outline below all of it, so that the colors hold on any background; thin lines have none.

    Args:
        canvas: (H, W, 3) uint8 BGR, drawn into.
        points: (K, 2) in pixels.
        shown: (K,) bool; the points of the others may be anything.
        width: The width of the limbs in pixels.
        skeleton: Names the K keypoints and joins them.
    """
    thickness = max(1, round(width))
    rim = max(1, round(width / 4)) if thickness > 1 else 0
    places = _fixed_point(np.where(shown[:, None], points, 0), canvas)
    if rim:
        _draw_limbs(canvas, places, shown, skeleton, thickness + 2 * rim, _OUTLINE)
    _draw_limbs(canvas, places, shown, skeleton, thickness)
    _draw_joints(canvas, places, shown, skeleton, max(1.0, 0.8 * width), rim)


def _draw_limbs(
    canvas: np.ndarray,
    places: list[tuple[int, int]],
    shown: np.ndarray,
    skeleton: Skeleton,
    thickness: int,
    color: tuple[int, int, int] | None = None,
) -> None:
    """The limbs between shown keypoints, in one color or in those of their sides."""
    for first, second in skeleton.limbs:
        if shown[first] and shown[second]:
            side = SIDE_COLORS[limb_side(skeleton, first, second)]
            _line(canvas, places[first], places[second], color or side, thickness)


def _draw_joints(
    canvas: np.ndarray, places: list[tuple[int, int]], shown: np.ndarray, skeleton: Skeleton, radius: float, rim: int
) -> None:
    """A dot in its side's color for each shown keypoint, with a dark rim."""
    for joint in np.flatnonzero(shown):
        if rim:
            _dot(canvas, places[joint], radius + rim, _OUTLINE)
        _dot(canvas, places[joint], radius, SIDE_COLORS[skeleton.sides[joint]])


def _line(
    canvas: np.ndarray, start: tuple[int, int], end: tuple[int, int], color: tuple[int, int, int], thickness: int
) -> None:
    cv2.line(canvas, start, end, color, thickness, cv2.LINE_AA, _SHIFT)


def _dot(canvas: np.ndarray, place: tuple[int, int], radius: float, color: tuple[int, int, int]) -> None:
    cv2.circle(canvas, place, round(radius * (1 << _SHIFT)), color, -1, cv2.LINE_AA, _SHIFT)


def _fixed_point(points: np.ndarray, canvas: np.ndarray) -> list[tuple[int, int]]:
    """(P, 2) pixels as OpenCV's integers with fractional bits, kept near the image, where OpenCV can take them."""
    limit = 4.0 * max(canvas.shape)
    return [tuple(point) for point in (points.clip(-limit, limit) * (1 << _SHIFT)).round().astype(int).tolist()]
