"""COCO's files as boxes need them: pictures, persons by hand, and boxes that were found; read by the rules of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from pose.datasets.annotations import AnnotatedPersons, boxes_in, need_boxes, persons_as_written
from pose.datasets.categories import person_category
from pose.datasets.coco import read_detections, read_tables
from pose.datasets.image_records import UNKNOWN, ListedImage, image_sizes, listed_images
from pose.errors import DataError
from pose.files import read_json
from pose.geometry import have_size
from pose.skeleton import COCO, PERSON_CATEGORY


def read_images(path: str | Path, category: str | int | None = None) -> tuple[list[ListedImage], int]:
    """The pictures of a file, which may have no annotations, and the id of the persons' category.

    Args:
        path: The file.
        category: The persons' by name or id; None for what :func:`pose.datasets.categories.person_category` says.

    Raises:
        DataError: It is no file with a list of pictures, or the category cannot be told.
    """
    file = read_json(path, "annotation file")
    if not isinstance(file, dict) or not isinstance(file.get("images"), list):
        raise DataError(f"{path}: not a COCO annotation file: needs the list 'images'")
    annotations = file["annotations"] if isinstance(file.get("annotations"), list) else []
    return listed_images(file, path), person_category({**file, "annotations": annotations}, path, category)["id"]


def read_persons(path: str | Path, category: str | int | None = None) -> tuple[list[ListedImage], AnnotatedPersons]:
    """The pictures and the persons of an annotation file, with keypoints or without, and crowds.

    Boxes without a size inside their picture are left out and counted.

    Args:
        path: The file.
        category: The persons' by name or id, see :func:`pose.datasets.annotations.boxes_in`.

    Raises:
        DataError: The file or a record cannot be read by the rules of docs/custom_dataset.md#rules; names the record.
    """
    file = read_tables(path)
    persons = boxes_in(file, path, category)
    listed = listed_images(file, path)
    return listed, _sized(persons, {image.id: image.size for image in listed})


def _sized(persons: AnnotatedPersons, sizes: Mapping[int, tuple[int, int]]) -> AnnotatedPersons:
    """Without the boxes that have no size inside their picture, which no detector can find; they are counted.

    Args:
        persons: All have boxes.
        sizes: Width and height of each picture by its id.
    """
    boxes = np.array([record["bbox"] for record in persons.records], np.float64).reshape(-1, 4)
    limits = np.array([sizes[record["image_id"]] for record in persons.records], np.float64).reshape(-1, 2)
    limits[(limits == UNKNOWN).all(1)] = np.inf
    kept = np.flatnonzero(have_size(boxes, limits)).tolist()
    told = {**persons.told, "boxes without a size inside their picture are left out": len(boxes) - len(kept)}
    records, rows = ([column[row] for row in kept] for column in (persons.records, persons.rows))
    return replace(persons, records=records, rows=rows, told=told)


class BoxTruth(NamedTuple):
    """What boxes are measured on, as :mod:`pose.detection.score` takes it.

    Attributes:
        file: ``images`` and ``annotations`` as COCO has them, of persons and crowds alone.
        notices: A line for each rule that changed or left out something, with its count.
        category: The id of the persons' category.
    """

    file: dict[str, Any]
    notices: tuple[str, ...]
    category: int


def read_truth(path: str | Path, category: str | int | None = None) -> BoxTruth:
    """The persons of a COCO file, with keypoints or without, and crowds; who has keypoints is told from them.

    Everyone whose box has a size inside the picture is looked for, whatever the area; the others are left out.

    Args:
        path: The file.
        category: The persons' by name or id, see :func:`pose.datasets.annotations.persons_as_written`.

    Raises:
        DataError: As :func:`pose.datasets.annotations.persons_as_written`, or a person has no box.
    """
    file = read_tables(path)
    persons = persons_as_written(file, path, category=category)
    need_boxes(persons)
    persons = _sized(persons, image_sizes(file["images"], path))
    empty = [record for record in persons.records if record["area"] <= 0 and not record["iscrowd"]]
    for record in empty:
        record["area"] = record["bbox"][2] * record["bbox"][3]
    written = [file["annotations"][row] for row in persons.rows]
    for record, before in zip(persons.records, written, strict=True):
        if not before.get("keypoints") and isinstance(before.get("num_keypoints"), int):
            record["num_keypoints"] = before["num_keypoints"]  # a file of boxes says how many, and not where
    told = {what: count for what, count in persons.told.items() if "keypoint" not in what}  # boxes are measured alone
    told["persons of area 0 or less: their boxes' areas are taken"] = len(empty)
    notices = replace(persons, told=told, order=()).notices
    return BoxTruth({"images": file["images"], "annotations": persons.records}, notices, persons.category["id"])


def read_boxes(
    path: str | Path, annotations: str | Path, category: int = PERSON_CATEGORY
) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """Boxes of COCO's results format on the pictures of an annotation file.

    Args:
        path: The boxes, of this or any other detector.
        annotations: The annotation file.
        category: The persons' there, which the results get; where the boxes are of one other category alone, that is
            the persons' too.

    Returns:
        The results, and a line for each kind of boxes that were left out, with their count.

    Raises:
        DataError: As :func:`pose.datasets.coco.read_detections`.
    """
    found, left_out = read_detections(path, annotations, COCO, -math.inf, category)
    ids = found.image_ids[found.image_index].tolist()
    rows = zip(ids, found.boxes.tolist(), found.box_scores.tolist(), strict=True)
    return [
        {"image_id": identity, "category_id": category, "bbox": box, "score": score} for identity, box, score in rows
    ], left_out
