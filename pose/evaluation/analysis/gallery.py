"""Crops to look at: annotation beside result, the worst and the best, false and missed persons."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from pose.datasets.orientation import read_named, size_of
from pose.evaluation.analysis.summary import Analysis
from pose.skeleton import Skeleton
from pose.visualization import draw_skeletons

SHOWN = 8
"""Crops of each kind."""

LEAST_LABELED = 5
"""Persons with fewer labelled keypoints say little about the network."""

_LARGEST = (320, 240)  # pixels of a view


@dataclass(frozen=True)
class CropGroup:
    """Crops of one kind.

    Args:
        title: What they have in common.
        crops: Captions and JPEG data URIs.
    """

    title: str
    crops: tuple[tuple[str, str], ...]


def make_gallery(
    analysis: Analysis, annotations: COCO, images: str | Path, skeleton: Skeleton
) -> tuple[CropGroup, ...]:
    """Draws the persons worth looking at.

    Args:
        analysis: What was found out about the results.
        annotations: The annotation file.
        images: The folder of its pictures.
        skeleton: Names the K keypoints and joins them.

    Raises:
        DataError: A picture is absent or broken.
    """
    truth, results, matches = analysis.truth, analysis.results, analysis.matches

    @lru_cache(maxsize=4)
    def read(image_id: int) -> np.ndarray:
        record = annotations.imgs[image_id]
        return read_named(images, record["file_name"], size_of(record)).image

    def crop(image_id: int, true: np.ndarray | None, found: np.ndarray | None) -> str:
        """Keypoints (K, 3) with a score of 0 or 1, of the annotation and of the result; either may be missing."""
        image = read(int(image_id))
        window = _window(np.concatenate([each for each in (true, found) if each is not None]), image)
        views = [_view(image, window, each, skeleton) for each in (true, found) if each is not None]
        return _data_uri(np.concatenate(views, axis=1))

    def matched(index: int) -> tuple[str, str]:
        row, person = matches.rows[index], matches.persons[index]
        shown = truth.labeled[person].astype(np.float64)[:, None]
        true, found = (
            np.hstack([points[:, :2], shown]) for points in (truth.keypoints[person], results.keypoints[row])
        )
        caption = (
            f"OKS {analysis.person_oks[index]:.2f}, score {results.scores[row]:.2f}, annotation {truth.ids[person]}"
        )
        return caption, crop(truth.image_ids[person], true, found)

    def false(row: int) -> tuple[str, str]:
        found = np.hstack([results.keypoints[row, :, :2], np.ones((skeleton.num_keypoints, 1))])
        caption = f"score {results.scores[row]:.2f}, image {results.image_ids[row]}"
        return caption, crop(results.image_ids[row], None, found)

    def missed(person: int) -> tuple[str, str]:
        true = np.hstack([truth.keypoints[person, :, :2], truth.labeled[person].astype(np.float64)[:, None]])
        return f"annotation {truth.ids[person]}", crop(truth.image_ids[person], true, None)

    telling = np.flatnonzero(truth.labeled[matches.persons].sum(axis=1) >= LEAST_LABELED)
    by_oks = telling[np.argsort(analysis.person_oks[telling], kind="stable")]
    by_score = matches.false_rows[np.argsort(-results.scores[matches.false_rows], kind="stable")]
    by_size = matches.missed[np.argsort(-truth.areas[matches.missed], kind="stable")]
    return (
        CropGroup("Worst: annotation left, result right", tuple(map(matched, by_oks[:SHOWN]))),
        CropGroup("Best: annotation left, result right", tuple(map(matched, by_oks[::-1][:SHOWN]))),
        CropGroup("False persons of the highest scores", tuple(map(false, by_score[:SHOWN]))),
        CropGroup("The largest missed persons", tuple(map(missed, by_size[:SHOWN]))),
    )


def _window(points: np.ndarray, image: np.ndarray) -> tuple[int, int, int, int]:
    """x0, y0, x1, y1 in pixels: around (N, 3) keypoints with score 1, with room, inside the picture."""
    limit = np.array(image.shape[1::-1])
    shown = points[points[:, 2] > 0, :2].clip(0, limit - 1)
    low, high = shown.min(axis=0), shown.max(axis=0)
    room = np.maximum(0.2 * (high - low).max(), 8)
    start = np.floor(low - room).clip(0).astype(int)
    end = np.ceil(high + room).clip(None, limit).astype(int)
    return (*start.tolist(), *end.tolist())


def _view(image: np.ndarray, window: tuple[int, int, int, int], points: np.ndarray, skeleton: Skeleton) -> np.ndarray:
    """The window, enlarged or reduced to the gallery's size, with a skeleton of (K, 3) keypoints."""
    x0, y0, x1, y1 = window
    factor = min(_LARGEST[0] / (x1 - x0), _LARGEST[1] / (y1 - y0))
    size = (max(1, round((x1 - x0) * factor)), max(1, round((y1 - y0) * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    view = cv2.resize(image[y0:y1, x0:x1], size, interpolation=how)
    moved = np.hstack([(points[:, :2] - (x0, y0)) * factor, points[:, 2:]])
    return draw_skeletons(view, moved[None], np.array([[0, 0, *size]], np.float64), skeleton)


def _data_uri(image: np.ndarray) -> str:
    encoded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 85])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()
