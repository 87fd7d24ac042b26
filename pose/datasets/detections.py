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
        path: For messages.
        category: The id of the persons in the annotation file, which a detector may or may not know.
        threshold: Boxes of a lower score are left out, as somebody chose.

    Raises:
        DataError: It is no such list, the category cannot be told, or no box has a size.
    """
    try:
        if not isinstance(records, list):
            raise TypeError("it is no list")
        used = [record.get("category_id") for record in records]
        number = only_category(used, path, category if category in used else None)
        chosen, notices = of_category(records, number, path, "boxes")
        kept = [row for row in map(_row, chosen) if row[1][4] >= threshold]
        rows = np.array([values for _, values in kept], np.float64).reshape(-1, 5)
        image_ids = np.array([image_id for image_id, _ in kept], np.int64)
    except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{path}: not a COCO detections file: needs a results list of image_id, category_id, bbox and score "
            f"({error!r})"
        ) from error
    found = DetectedBoxes(image_ids, rows[:, :4], rows[:, 4], notices)
    sized = np.isfinite(found.boxes).all(1) & (found.boxes[:, 2:] > 0).all(1)
    return found.without(~sized, path, "has no size")


def _row(record: Mapping[str, Any]) -> tuple[int, tuple[float, ...]]:
    box = record["bbox"]
    if not isinstance(box, list | tuple) or len(box) != 4:
        raise ValueError(f"a bbox must be x, y, width, height, not {str(box)[:80]}")
    image_id = record["image_id"]
    if isinstance(image_id, float) and not image_id.is_integer():
        raise ValueError(f"image_id must be a whole number, not {image_id}")
    if isinstance(image_id, bool | str):
        raise ValueError(f"image_id must be a whole number, not {image_id!r:.80}")
    score = float(record["score"])
    if not math.isfinite(score):
        raise ValueError(f"a box on picture {image_id} has no finite number as score")
    return int(image_id), (*map(float, box), score)
