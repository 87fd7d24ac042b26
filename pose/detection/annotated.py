"""COCO's files as boxes need them: pictures, persons by hand, and boxes that were found; read by the rules of all."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pose.datasets.annotations import AnnotatedPersons, boxes_in, persons_in
from pose.datasets.categories import person_category
from pose.datasets.coco import read_detections, read_tables
from pose.datasets.image_names import plain_name
from pose.errors import DataError
from pose.files import read_json
from pose.skeleton import COCO, PERSON_CATEGORY


class ListedImage(NamedTuple):
    """A picture of an annotation file.

    Attributes:
        id: The file's.
        name: Its file's, with slashes; :func:`pose.datasets.image_names.find_image` finds it.
        size: Width and height as its annotations count pixels; 0, 0 where the file does not say.
    """

    id: int
    name: str
    size: tuple[int, int]


def listed_images(file: Mapping[str, Any], path: str | Path) -> list[ListedImage]:
    """The pictures of an annotation file, which ``path`` names in messages.

    Raises:
        DataError: A record has no id or no file name, its size is not two whole numbers, or an id is there twice.
    """
    listed = []
    for image in file["images"]:
        if not isinstance(image, Mapping) or not _is_named(image):
            raise DataError(f"{path}: an image record needs a whole number as id and a file_name: {image!r:.80}")
        size = image.get("width") or 0, image.get("height") or 0
        if not all(isinstance(side, int) and 0 <= side < 2**31 for side in size):
            raise DataError(f"{path}: an image record needs whole numbers as width and height: {image!r:.80}")
        listed.append(ListedImage(image["id"], plain_name(image["file_name"]), size))
    if len({image.id for image in listed}) < len(listed):
        raise DataError(f"{path}: two image records have the same id; ids must be different")
    return listed


def _is_named(image: Mapping[str, Any]) -> bool:
    number, name = image.get("id"), image.get("file_name")
    return isinstance(number, int) and not isinstance(number, bool) and isinstance(name, str) and "\0" not in name


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

    Args:
        path: The file.
        category: The persons' by name or id, see :func:`pose.datasets.annotations.boxes_in`.

    Raises:
        DataError: The file or a record cannot be read by the rules of docs/custom_dataset.md#rules; names the record.
    """
    file = read_tables(path)
    persons = boxes_in(file, path, category)
    return listed_images(file, path), persons


class BoxTruth(NamedTuple):
    """What boxes are measured on, as :mod:`pose.detection.score` takes it.

    Attributes:
        file: ``images`` and ``annotations`` as COCO has them, of persons and crowds alone.
        areas_from_boxes: How many areas were missing and are those of the boxes.
        category: The id of the persons' category.
    """

    file: dict[str, Any]
    areas_from_boxes: int
    category: int


def read_truth(path: str | Path, category: str | int | None = None) -> BoxTruth:
    """The persons of a COCO file, see :func:`pose.datasets.annotations.persons_in`."""
    file = read_tables(path)
    persons = persons_in(file, path, category=category)
    written = [file["annotations"][row] for row in persons.rows]
    for record, before in zip(persons.records, written, strict=True):
        if not before.get("keypoints") and isinstance(before.get("num_keypoints"), int):
            record["num_keypoints"] = before["num_keypoints"]  # a file of boxes says how many, and not where
    areas = sum(before.get("area") is None for before in written)
    return BoxTruth({"images": file["images"], "annotations": persons.records}, areas, persons.category["id"])


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
