"""Boxes of many pictures, in COCO's results format."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from pose.datasets.annotations import persons_in
from pose.datasets.coco import read_detections, read_tables
from pose.datasets.orientation import read_named, size_of
from pose.errors import DataError
from pose.files import read_json
from pose.skeleton import COCO, PERSON_CATEGORY

Detector = Callable[[np.ndarray], np.ndarray]


def detect_arrays(detector: Detector, images: Iterable[np.ndarray], ids: Sequence[int]) -> list[dict[str, Any]]:
    """Results of pictures (H, W, 3) uint8 BGR, with the ids given."""
    found: list[dict[str, Any]] = []
    for identity, image in zip(ids, images, strict=True):
        found += records(identity, detector(image))
    return found


def records(identity: int, boxes: np.ndarray) -> list[dict[str, Any]]:
    """The boxes (N, 5) of the picture with an id."""
    return [
        {"image_id": identity, "category_id": PERSON_CATEGORY, "bbox": box[:4], "score": box[4]}
        for box in boxes.round(4).tolist()
    ]


def detect_data_set(detector: Detector, annotations: str | Path, images: str | Path) -> list[dict[str, Any]]:
    """Results of all pictures of a COCO file.

    Args:
        detector: A picture in, boxes out.
        annotations: The file; only its list of pictures is used.
        images: The folder of the pictures.

    Raises:
        DataError: The file is not a COCO file, an id is there twice, or a picture is absent or broken.
    """
    file = read_json(annotations, "annotation file")
    table = file.get("images") if isinstance(file, dict) else None
    if not isinstance(table, list):
        raise DataError(f"{annotations}: not a COCO annotation file: needs the list 'images'")
    for image in table:
        if not isinstance(image, dict) or not _is_named(image):
            raise DataError(f"{annotations}: an image record needs a whole number as id and a file_name: {image!r:.80}")
    ids = [image["id"] for image in table]
    if len(set(ids)) < len(ids):
        raise DataError(f"{annotations}: two image records have the same id; ids must be different")
    files = [(image["file_name"], size_of(image)) for image in table]
    shown = tqdm(files, unit="picture", leave=False, disable=None)
    arrays = (read_named(images, *file).image for file in shown)
    return detect_arrays(detector, arrays, ids)


def _is_named(image: Mapping[str, Any]) -> bool:
    number, name = image.get("id"), image.get("file_name")
    return isinstance(number, int) and not isinstance(number, bool) and isinstance(name, str) and "\0" not in name


def read_truth(path: str | Path) -> tuple[dict[str, Any], int]:
    """The persons of a COCO file, with keypoints or without, as :mod:`pose.detection.score` takes them.

    Args:
        path: A file of the format; which category are persons is told as :func:`pose.datasets.annotations.persons_in`
            tells it.

    Returns:
        ``images`` and ``annotations`` as COCO has them, and how many areas were missing and are those of the boxes.

    Raises:
        DataError: It is missing or not of the format; names the record.
    """
    file = read_tables(path)
    persons = persons_in(file, path)
    records = [{**record, "category_id": PERSON_CATEGORY} for record in persons.records]
    return {"images": file["images"], "annotations": records}, persons.areas_from_boxes


def read_boxes(path: str | Path, annotations: str | Path) -> tuple[list[dict[str, Any]], int]:
    """Boxes of COCO's results format on the pictures of an annotation file.

    Args:
        path: The boxes, of this or any other detector.
        annotations: The annotation file.

    Returns:
        The results, and how many were left out because the annotation file has no such picture.

    Raises:
        DataError: As :func:`pose.datasets.coco.read_detections`.
    """
    found, left_out = read_detections(path, annotations, COCO, -math.inf)
    ids = found.image_ids[found.image_index].tolist()
    rows = zip(ids, found.boxes.tolist(), found.box_scores.tolist(), strict=True)
    return [
        {"image_id": identity, "category_id": PERSON_CATEGORY, "bbox": box, "score": score}
        for identity, box, score in rows
    ], left_out
