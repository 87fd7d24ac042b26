"""A skeleton as a picture to check: one labeled person with the names of its keypoints, limbs and sides."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pose.datasets.orientation import read_named
from pose.errors import DataError
from pose.formats.dataset import PoseDataset
from pose.skeleton import SIDE_COLORS
from pose.visualization import draw_skeletons

_HEIGHT, _LIST_WIDTH, _ROW = 640, 300, 22  # pixels
_DARK, _PALE = (60, 60, 60), (225, 225, 225)


def draw_skeleton_sheet(dataset: PoseDataset, images: Path | None = None) -> np.ndarray:
    """Draws the person with most labeled keypoints, the largest of these, over its image where that is at hand.

    The person's left is orange and the right is blue; keypoints are numbered from 0 on, and a list beside says their
    names and what each becomes in a mirror.

    Args:
        dataset: A data set that has a person with a labeled keypoint.
        images: The folder of the images.

    Returns:
        (H, W, 3) uint8 BGR.

    Raises:
        DataError: Nobody has a labeled keypoint.
    """
    if not dataset.persons.any():
        raise DataError("nobody has a labelled keypoint, so that there is nothing to draw the skeleton by")
    labeled = dataset.labeled.sum(1) * dataset.persons
    boxes = dataset.boxes_or_extents()
    row = int(np.lexsort((boxes[:, 2] * boxes[:, 3], labeled))[-1])
    points = dataset.keypoints[row]
    view, factor, corner = _view(dataset, row, points, images)
    moved = np.hstack([(points[:, :2] - corner) * factor, points[:, 2:] > 0])
    drawn = draw_skeletons(view, moved[None], np.array([[0, 0, 200, 500]]), dataset.skeleton)
    for index in np.flatnonzero(points[:, 2] > 0):
        x, y = moved[index, :2].round().astype(int).tolist()
        _text(drawn, str(index), (x + 6, y - 6), outline=True)
    return _beside(drawn, dataset)


def _view(
    dataset: PoseDataset, row: int, points: np.ndarray, images: Path | None
) -> tuple[np.ndarray, float, np.ndarray]:
    """The person's surroundings or a plain ground, how much it is enlarged and its corner in the image."""
    labeled = points[points[:, 2] > 0, :2]
    low, high = labeled.min(0), labeled.max(0)
    room = np.maximum(0.15 * (high - low).max(), 8)
    low, high = np.floor(low - room), np.ceil(high + room)
    factor = float(min(_HEIGHT / (high[1] - low[1]), 1.5 * _HEIGHT / (high[0] - low[0])))
    width, height = np.maximum(((high - low) * factor).round().astype(int), 1).tolist()
    view = np.full((height, width, 3), _PALE, np.uint8)
    if images is not None:
        try:
            record = dataset.images[dataset.owners[row]]
            image = read_named(images, record.file_name, (record.width, record.height)).image
        except DataError:
            return view, factor, low
        affine = np.array([[factor, 0, -factor * low[0]], [0, factor, -factor * low[1]]])
        view = cv2.warpAffine(image, affine, (width, height), flags=cv2.INTER_AREA, borderValue=_PALE)
    return view, factor, low


def _beside(drawn: np.ndarray, dataset: PoseDataset) -> np.ndarray:
    skeleton = dataset.skeleton
    lines = [
        f"{index} {name}" + (f"  <> {mirror}" if mirror != index else "")
        for index, (name, mirror) in enumerate(zip(skeleton.keypoints, skeleton.flip_index.tolist(), strict=True))
    ]
    columns = -(-len(lines) * _ROW // (_HEIGHT - 2 * _ROW))
    height = max(len(drawn), _ROW * min(len(lines) + 2, _HEIGHT // _ROW))
    sheet = np.full((height, drawn.shape[1] + columns * _LIST_WIDTH, 3), 255, np.uint8)
    sheet[: len(drawn), : drawn.shape[1]] = drawn
    per_column = -(-len(lines) // columns)
    for index, line in enumerate(lines):
        x = drawn.shape[1] + 12 + index // per_column * _LIST_WIDTH
        y = _ROW * (index % per_column + 1)
        cv2.circle(sheet, (x, y - 5), 5, SIDE_COLORS[skeleton.sides[index]], -1, cv2.LINE_AA)
        _text(sheet, line, (x + 12, y))
    return sheet


def _text(canvas: np.ndarray, words: str, place: tuple[int, int], outline: bool = False) -> None:
    plain = words.encode("ascii", "replace").decode()  # OpenCV's letters
    if outline:
        cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, (255, 255, 255), 3, cv2.LINE_AA)
    cv2.putText(canvas, plain, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5, _DARK, 1, cv2.LINE_AA)
