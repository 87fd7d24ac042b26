"""A list of detected boxes, read by one set of rules: what testing and the demo share.

One box that cannot be used is left out and counted; a record that is no detection is an error.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.categories import of_category, only_category
from pose.datasets.image_records import is_id, short
from pose.errors import DataError


@dataclass(frozen=True)
class DetectedBoxes:
    """N boxes of one category.

    Attributes:
        image_ids: (N,) int64.
        boxes: (N, 4) float64 x, y, width, height in pixels; widths and heights are above 0.
        scores: (N,) float64.
        notices: A line for each rule that left out something, with its count.
    """

    image_ids: np.ndarray
    boxes: np.ndarray
    scores: np.ndarray
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.boxes)

    def without(self, bad: np.ndarray, path: str | Path, why: str) -> DetectedBoxes:
        """The boxes that are not bad (N,), and a line about the bad ones, the first of which is named.

        Raises:
            DataError: All of them are bad.
        """
        if not bad.any():
            return self
        row = int(bad.argmax())
        first = f"the box {self.boxes[row].tolist()} on picture {self.image_ids[row]} {why}"
        if bad.all():
            raise DataError(f"{path}: {first}{f', and so do all {len(bad)}' if len(bad) > 1 else ''}; remove it")
        notice = f"{path}: {bad.sum():,} of {len(bad):,} boxes are left out, {first}"
        kept = ~bad
        return DetectedBoxes(self.image_ids[kept], self.boxes[kept], self.scores[kept], (*self.notices, notice))


def detected_boxes(
    records: Any, path: str | Path, threshold: float = 0.0, category: int | None = None
) -> DetectedBoxes:
    """The boxes of a results list in COCO's format, ``image_id``, ``category_id``, ``bbox`` and ``score``.

    Of several categories persons are ``category`` where it is among them, else 1; a record without one is a person.
    Boxes without a finite width and height above 0 are left out and counted, and so are those of other categories.

    Args:
        records: What the file holds.
        path: What messages call the file.
        category: The id of the persons in the annotation file, which a detector may or may not know.
        threshold: Boxes of a lower score are left out, as somebody chose.

    Raises:
        DataError: It is no such list, the category cannot be told, or no box has a size.
    """
    if not isinstance(records, list):
        raise _no_detections(path, "it is no list")
    for row, record in enumerate(records):
        problem = _problem(record)
        if problem:
            raise _no_detections(path, f"record {row} {problem}")
    used = [record.get("category_id") for record in records]
    number = only_category(used, path, category if category in used else None)
    chosen, notices = of_category(records, number, path, "boxes")
    kept = [record for record in chosen if float(record["score"]) >= threshold]
    rows = np.array([[*map(float, record["bbox"]), float(record["score"])] for record in kept]).reshape(-1, 5)
    image_ids = np.array([int(record["image_id"]) for record in kept], np.int64)
    found = DetectedBoxes(image_ids, rows[:, :4], rows[:, 4], notices)
    sized = np.isfinite(found.boxes).all(1) & (found.boxes[:, 2:] > 0).all(1)
    return found.without(~sized, path, "has no size")


def _no_detections(path: str | Path, what: str) -> DataError:
    return DataError(
        f"{path}: not a COCO detections file: {what}; needs a results list of image_id, category_id, bbox and score"
    )


def _problem(record: Any) -> str:
    """What is wrong with a record, or nothing; a box without a size is no such thing."""
    if not isinstance(record, Mapping):
        return f"is {short(record)}"
    for key in ("image_id", "bbox", "score"):
        if key not in record:
            return f"has no {key!r}"
    number, box, score = record["image_id"], record["bbox"], record["score"]
    if isinstance(number, float) and number.is_integer():
        number = int(number)
    if not is_id(number):
        return f"has {short(number)} as image_id, not a whole number of 64 bits"
    if not isinstance(record.get("category_id", 1), int | None):
        return f"(picture {number}) has {short(record['category_id'])} as category_id"
    if not isinstance(box, list | tuple) or len(box) != 4 or not all(map(_is_number, box)):
        return f"(picture {number}) has {short(box)} as bbox, not x, y, width, height"
    if not _is_number(score) or not math.isfinite(float(score)):
        return f"(picture {number}) has no finite number as score, but {short(score)}"
    return ""


def _is_number(value: object) -> bool:
    try:
        float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return False
    return True
