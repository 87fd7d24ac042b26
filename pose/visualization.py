"""Drawing: skeletons over images, anti-aliased and colored by side; crops with keypoints, predictions, heatmaps."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from pose.skeleton import SIDE_COLORS, Skeleton, limb_side

_OUTLINE = (20, 20, 20)
_WHITE = (255, 255, 255)
_BOX = (80, 220, 80)
_SHIFT = 3  # fractional bits of coordinates over an image
_CROP_SHIFT = 4  # and over a crop


def line_width(box: np.ndarray) -> float:
    """The width of a person's limbs in pixels, from the box (4,) x, y, width, height in pixels."""
    return max(1.0, float(np.sqrt(box[2] * box[3])) / 45)


def draw_poses(
    image: np.ndarray,
    keypoints: np.ndarray,
    boxes: np.ndarray,
    skeleton: Skeleton,
    threshold: float = 0.2,
    track_ids: np.ndarray | None = None,
) -> np.ndarray:
    """A copy of the picture with every person's skeleton, small persons over large ones.

    Args:
        image: (H, W, 3) uint8 BGR.
        keypoints: (N, K, 3) x, y in pixels, and the joint's score.
        boxes: (N, 4) x, y, width, height in pixels; they decide how thick the lines are.
        skeleton: Names the K keypoints and joins them.
        threshold: Joints below this score are left out, with their limbs.
        track_ids: (N,) identities in a video; each person gets a box and a number in a colour of its own.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image.copy()
    for person in np.argsort([-box[2] * box[3] for box in boxes], kind="stable"):
        shown = (keypoints[person, :, 2] >= threshold) & np.isfinite(keypoints[person]).all(axis=1)
        _draw_person(canvas, keypoints[person, :, :2], shown, line_width(boxes[person]), skeleton)
        if track_ids is not None:
            _draw_identity(canvas, boxes[person], int(track_ids[person]))
    return canvas


def track_color(track_id: int) -> tuple[int, int, int]:
    """BGR: bright, and different from the numbers before and after."""
    hue = track_id * 0.618034 % 1  # the golden ratio spreads any run of numbers over the circle
    pixel = np.array([[[hue * 360, 0.75, 1.0]]], np.float32)
    return tuple((cv2.cvtColor(pixel, cv2.COLOR_HSV2BGR)[0, 0] * 255).astype(int).tolist())


def draw_boxes(image: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """A copy of the picture with boxes and their scores.

    Args:
        image: (H, W, 3) uint8 BGR.
        boxes: (N, 5) x, y, width, height in pixels, and the score.

    Returns:
        (H, W, 3) uint8 BGR.
    """
    canvas = image.copy()
    for box in boxes[::-1]:  # the best on top
        _draw_tagged(canvas, box[:4], f"{box[4]:.2f}", _BOX)
    return canvas


def _draw_identity(canvas: np.ndarray, box: np.ndarray, track_id: int) -> None:
    _draw_tagged(canvas, box, str(track_id), track_color(track_id))


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
    bottom = max(y1, tag_height + 2 * rim)  # inside the picture where there is no room above the box
    cv2.rectangle(canvas, (x, bottom - tag_height - 2 * rim), (x + tag_width + 2 * rim, bottom), color, -1)
    place = (x + rim, bottom - rim)
    cv2.putText(canvas, tag, place, cv2.FONT_HERSHEY_SIMPLEX, scale, _OUTLINE, thick, cv2.LINE_AA)


def _draw_person(canvas: np.ndarray, points: np.ndarray, shown: np.ndarray, width: float, skeleton: Skeleton) -> None:
    """A dark outline below everything first, so that the colours hold on any background."""
    thick, rim = max(1, round(width)), max(1, round(width / 4))
    radius = max(1.0, 0.8 * width)
    limit = 4.0 * max(canvas.shape)  # far outside the picture, where drawing would overflow
    reachable = np.where(shown[:, None], points, 0).clip(-limit, limit)
    fixed = [tuple(point) for point in (reachable * (1 << _SHIFT)).round().astype(int).tolist()]
    limbs = [(a, b) for a, b in skeleton.limbs if shown[a] and shown[b]]
    joints = np.flatnonzero(shown)
    outlined = thick > 1
    if outlined:
        for a, b in limbs:
            cv2.line(canvas, fixed[a], fixed[b], _OUTLINE, thick + 2 * rim, cv2.LINE_AA, _SHIFT)
    for a, b in limbs:
        cv2.line(canvas, fixed[a], fixed[b], SIDE_COLORS[limb_side(skeleton, a, b)], thick, cv2.LINE_AA, _SHIFT)
    for joint in joints:
        color = SIDE_COLORS[skeleton.sides[joint]]
        if outlined:
            cv2.circle(canvas, fixed[joint], _fixed(radius + rim), _OUTLINE, -1, cv2.LINE_AA, _SHIFT)
        cv2.circle(canvas, fixed[joint], _fixed(radius), color, -1, cv2.LINE_AA, _SHIFT)


def _fixed(length: float) -> int:
    return round(length * (1 << _SHIFT))


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
            cv2.line(canvas, places[first], places[second], color, 1, cv2.LINE_AA, _CROP_SHIFT)
    for place, shown, side in zip(places, labelled, skeleton.sides, strict=True):
        if shown:
            cv2.circle(canvas, place, 3 << _CROP_SHIFT, _OUTLINE, -1, cv2.LINE_AA, _CROP_SHIFT)
            cv2.circle(canvas, place, 2 << _CROP_SHIFT, SIDE_COLORS[side], -1, cv2.LINE_AA, _CROP_SHIFT)
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
                cv2.line(canvas, arms[0], arms[1], color, width, cv2.LINE_AA, _CROP_SHIFT)
                cv2.line(canvas, arms[2], arms[3], color, width, cv2.LINE_AA, _CROP_SHIFT)
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
    return np.round(points.clip(-2000, 4000) * (1 << _CROP_SHIFT)).astype(int).tolist()
