"""Training pictures and the boxes on them, from several data sets, by hand and by other detectors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.image_names import find_image
from pose.detection.targets import PERSON, REGION, UNSURE
from pose.errors import DataError
from pose.files import read_json
from pose.geometry import box_iou
from pose.skeleton import PERSON_CATEGORY

SAME = 0.5
"""A detector's box of at least this overlap (IoU) with one by hand is of the same person."""


@dataclass(frozen=True)
class Source:
    """One data set to train on; at least one of ``annotations`` and ``boxes``.

    Args:
        images: The folder of the pictures.
        annotations: A COCO file with boxes by hand: persons, and crowds, in which nothing is learned. Boxes without
            keypoints count, too.
        boxes: A JSON file from file names to lists of x, y, width, height, score: what other detectors found. Where
            there are annotations as well, it adds persons that they do not have.
        weight: How much more often than another's a picture of this data set is taken.
        sure: Boxes of at least this score are persons.
        unsure: Boxes of at least this score, and below ``sure``, may be persons: nothing is learned at their centers.
    """

    images: str
    annotations: str | None = None
    boxes: str | None = None
    weight: float = 1.0
    sure: float = 0.6
    unsure: float = 0.3

    def __post_init__(self) -> None:
        if self.annotations is None and self.boxes is None:
            raise ValueError("needs annotations or boxes")
        if not self.weight > 0:
            raise ValueError(f"weight must be positive, got {self.weight}")
        if not 0 <= self.unsure <= self.sure <= 1:
            raise ValueError(f"needs 0 <= unsure <= sure <= 1, got {self.unsure} and {self.sure}")


@dataclass(frozen=True)
class LabeledImages:
    """M pictures.

    Attributes:
        paths: Their files.
        weights: (M,) float64, see :class:`Source`.
        boxes: M times (P, 4) float32 x1, y1, x2, y2 in pixels of the picture.
        kinds: M times (P,) int64, of :data:`~pose.detection.targets.PERSON`, ``UNSURE`` and ``REGION``.
    """

    paths: list[str]
    weights: np.ndarray
    boxes: list[np.ndarray]
    kinds: list[np.ndarray]

    def __len__(self) -> int:
        return len(self.paths)


def read_sources(sources: Sequence[Source], root: str | Path) -> LabeledImages:
    """All data sets as one.

    Args:
        sources: The data sets.
        root: The folder that their paths are relative to.

    Raises:
        DataError: A file is missing or not of its format, or there is no person at all.
    """
    paths, weights, boxes, kinds = [], [], [], []
    for source in sources:
        for name, (corners, kind) in sorted(_read_source(source, Path(root)).items()):
            paths.append(find_image(str(Path(root, source.images)), name))
            weights.append(source.weight)
            boxes.append(corners)
            kinds.append(kind)
    if not any((kind == PERSON).any() for kind in kinds):
        raise DataError(f"{root}: no person in the training data; are these the right files?")
    return LabeledImages(paths, np.array(weights), boxes, kinds)


def _read_source(source: Source, root: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Boxes and kinds by file name."""
    by_hand: dict[str, list[tuple[list[float], int]]] = {}
    if source.annotations is not None:
        by_hand = _read_annotations(root / source.annotations)
    found: dict[str, Any] = {}
    if source.boxes is not None:
        found = read_json(root / source.boxes, "file of boxes")
        if not isinstance(found, dict):
            raise DataError(f"{root / source.boxes}: not a file of boxes: needs lists of boxes by file name")
    merged = {}
    for name in by_hand.keys() | found.keys():
        own = by_hand.get(name, [])
        try:
            others = np.array(found.get(name, []), np.float64).reshape(-1, 5)
            boxes = np.array([box for box, _ in own], np.float64).reshape(-1, 4)
        except ValueError as error:
            raise DataError(f"{root / (source.boxes or '')}: boxes of {name} are not lists of 5 numbers") from error
        merged[name] = _merge(boxes, np.array([kind for _, kind in own], np.int64), others, source)
    return merged


def _read_annotations(path: Path) -> dict[str, list[tuple[list[float], int]]]:
    """x, y, width, height and kind of each annotated person, by file name."""
    file = read_json(path, "annotation file")
    try:
        names = {image["id"]: image["file_name"] for image in file["images"]}
        boxes: dict[str, list[tuple[list[float], int]]] = {name: [] for name in names.values()}
        for annotation in file["annotations"]:
            if annotation["category_id"] == PERSON_CATEGORY:
                kind = REGION if annotation.get("iscrowd", 0) else PERSON
                boxes[names[annotation["image_id"]]].append((annotation["bbox"], kind))
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: not a COCO annotation file with boxes ({error!r})") from error
    return boxes


def _merge(by_hand: np.ndarray, kinds: np.ndarray, found: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Boxes by hand, and of a detector's those of other persons; as corners, float32."""
    found = found[found[:, 4] >= source.unsure]
    own, theirs = _corners(by_hand), _corners(found[:, :4])
    new = ~(box_iou(found[:, None, :4], by_hand[None]) >= SAME).any(1)
    kind = np.where(found[:, 4] >= source.sure, PERSON, UNSURE)
    boxes = np.concatenate([own, theirs[new]]).astype(np.float32)
    kinds = np.concatenate([kinds, kind[new]])
    whole = (boxes[:, 2:] > boxes[:, :2]).all(1)
    return boxes[whole], kinds[whole]


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
