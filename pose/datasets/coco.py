"""COCO keypoint annotations and detections as arrays: one row a person, one table of pictures.

Everything is NumPy, so that worker processes share it by fork instead of copying Python objects.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import AnnotatedPersons, check_somebody, counts, persons_in
from pose.datasets.categories import person_category
from pose.datasets.detections import detected_boxes
from pose.datasets.image_records import listed_images
from pose.errors import DataError
from pose.files import read_json
from pose.geometry import clip_boxes
from pose.skeleton import PERSON_CATEGORY, Skeleton


@dataclass(frozen=True)
class Persons:
    """N persons on M pictures.

    Attributes:
        image_ids: (M,) int64, every picture of the annotation file, with persons or without.
        file_names: (M,) bytes, relative to the picture folder.
        image_sizes: (M, 2) int32 widths and heights.
        image_index: (N,) int32, each person's row in the table of pictures.
        annotation_ids: (N,) int64; -1 for detections.
        boxes: (N, 4) float64 x, y, width, height in pixels.
        box_scores: (N,) float64; 1 for annotated boxes.
        keypoints: (N, K, 3) float32 x, y and COCO's visibility 0, 1 or 2; all 0 for detections.
        joint_weights: (N, K) float32, what each keypoint weighs in the loss, 0 where it is not labelled; None for 1
            wherever it is.
    """

    image_ids: np.ndarray
    file_names: np.ndarray
    image_sizes: np.ndarray
    image_index: np.ndarray
    annotation_ids: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray
    joint_weights: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def take(self, rows: Sequence[int] | np.ndarray | slice) -> Persons:
        """The persons in these rows; the table of pictures stays whole."""
        names = ["image_index", "annotation_ids", "boxes", "box_scores", "keypoints"]
        names += [] if self.joint_weights is None else ["joint_weights"]
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    @property
    def weights(self) -> np.ndarray:
        """(N, K) float32: ``joint_weights``, or 1 for every labelled keypoint."""
        return (self.keypoints[..., 2] > 0).astype(np.float32) if self.joint_weights is None else self.joint_weights


def read_annotations(path: str | Path, skeleton: Skeleton, category: str | int | None = None) -> Persons:
    """The annotated persons that train and that are scored with annotated boxes.

    The persons of docs/protocol.md#records by the rules of docs/custom_dataset.md#rules: no crowd, area above 0, at
    least one labelled keypoint; boxes clipped to the picture.

    Args:
        path: A COCO keypoint annotation file.
        skeleton: What the keypoints are.
        category: The persons' category by name or id, see :func:`pose.datasets.annotations.persons_in`.

    Raises:
        DataError: The file is missing or not of that format, an annotation has another number of
            keypoints, names an unknown picture, or has a box of no size or outside its picture.
    """
    file = read_tables(path)
    return persons_of(file, path, skeleton, persons_in(file, path, skeleton, category))


def persons_of(file: Mapping[str, Any], path: str | Path, skeleton: Skeleton, annotated: AnnotatedPersons) -> Persons:
    """:func:`read_annotations` of a file that is read already; ``path`` is for messages."""
    image_ids, file_names, image_sizes = _image_table(file, path)
    check_somebody(annotated, path)
    kept = [record for record in annotated.records if counts(record)]
    ids = np.array([annotation["id"] for annotation in kept], dtype=np.int64)
    boxes = np.array([annotation["bbox"] for annotation in kept], dtype=np.float64).reshape(-1, 4)
    keypoints = np.array([annotation["keypoints"] for annotation in kept], dtype=np.float32)
    owners = np.array([annotation["image_id"] for annotation in kept], dtype=np.int64)
    image_index = _rows_of(owners, image_ids)
    _refuse(image_index < 0, lambda row: f"{path}: annotation {ids[row]} names the unknown picture {owners[row]}")
    limits = image_sizes[image_index]
    unknown = (limits == 0).all(1, keepdims=True)  # such a picture's boxes are left as they are
    clipped = np.where(unknown, boxes, clip_boxes(boxes, np.where(unknown, 1, limits)))
    usable = (boxes[:, 2:] > 0).all(1) & (clipped[:, 2:] >= 0).all(1) & (clipped[:, 2:] > 0).any(1)
    _refuse(
        np.logical_not(usable),
        lambda row: (
            f"{path}: the box {boxes[row].tolist()} of annotation {ids[row]} has no size inside its picture, "
            f"{limits[row][0]} x {limits[row][1]} by the file; correct that size, or correct or remove the annotation"
        ),
    )
    return Persons(
        image_ids=image_ids,
        file_names=file_names,
        image_sizes=image_sizes,
        image_index=image_index,
        annotation_ids=ids,
        boxes=clipped,
        box_scores=np.ones(len(kept)),
        keypoints=keypoints.reshape(-1, skeleton.num_keypoints, 3),
    )


def read_detections(
    path: str | Path,
    annotations: str | Path,
    skeleton: Skeleton,
    box_threshold: float = 0.0,
    category: str | int | None = None,
) -> tuple[Persons, tuple[str, ...]]:
    """Detected persons on the pictures of an annotation file, boxes as they are (docs/protocol.md#detected-box).

    Boxes that have no size inside their picture, are of another category or on a picture that the annotation file
    does not name are left out.

    Args:
        path: A COCO results file with ``bbox`` and ``score``, such as SimpleBaseline's published
            ``COCO_val2017_detections_AP_H_56_person.json``.
        annotations: The annotation file whose pictures are meant.
        skeleton: What the keypoints will be.
        box_threshold: The lowest score that is kept.
        category: The persons' in the annotation file, by name or id; its id is theirs among detections, too, where
            these use it.

    Returns:
        The persons, and a line for each kind of boxes that were left out, with their count.

    Raises:
        DataError: A file is missing or not of its format, or no box is on the pictures or has a size there.
    """
    if not Path(path).is_file():
        raise DataError(
            f"{path}: detections file not found; data/README.md says where the published one is, "
            "or take the annotated boxes (tools/test.py --boxes annotated)"
        )
    tables = read_tables(annotations)
    number = person_category(tables, annotations, category)["id"] if category is not None else None
    found = detected_boxes(read_json(path, "detections file"), path, box_threshold, number)
    image_ids, file_names, image_sizes = _image_table(tables, annotations)
    known = _rows_of(found.image_ids, image_ids) >= 0
    if len(found) and not known.any():
        raise DataError(
            f"{path}: none of its {len(found)} boxes is on a picture of {annotations}; "
            "choose the detections made for these pictures"
        )
    found = found.without(~known, path, f"is on one that {annotations} does not name")
    rows = _rows_of(found.image_ids, image_ids)
    limits = image_sizes[rows]
    limits = np.where((limits == 0).all(1, keepdims=True), np.inf, limits)  # of unknown size
    outside = (found.boxes[:, :2] >= limits).any(1) | (found.boxes[:, :2] + found.boxes[:, 2:] <= 0).any(1)
    found = found.without(outside, path, "has no size inside the picture")
    rows = rows[~outside]
    told = _without_boxes(tables, image_ids, rows, PERSON_CATEGORY if number is None else number, path)
    persons = Persons(
        image_ids=image_ids,
        file_names=file_names,
        image_sizes=image_sizes,
        image_index=rows,
        annotation_ids=np.full(len(rows), -1, dtype=np.int64),
        boxes=found.boxes,
        box_scores=found.scores,
        keypoints=np.zeros((len(rows), skeleton.num_keypoints, 3), dtype=np.float32),
    )
    return persons, (*found.notices, *told)


def _without_boxes(
    tables: Mapping[str, Any], image_ids: np.ndarray, rows: np.ndarray, category: int, path: str | Path
) -> tuple[str, ...]:
    """A line where more than a tenth of the pictures with persons have no box: perhaps boxes of a part of them.

    Args:
        tables: The annotation file, whose records have not been checked.
        image_ids: (M,) the ids of its pictures.
        rows: Which of them have boxes that are kept.
        category: The persons' in the annotation file.
        path: The boxes' file.
    """
    records = [record for record in tables["annotations"] if isinstance(record, Mapping)]
    persons = [record.get("image_id") for record in records if record.get("category_id") == category]
    named = {identity for identity in persons if isinstance(identity, int)}
    annotated = [identity for identity in image_ids.tolist() if identity in named]
    absent = len(set(annotated).difference(image_ids[rows].tolist()))
    if absent <= 0.1 * len(annotated):
        return ()
    return (f"{path}: no box is left on {absent:,} of {len(annotated):,} pictures with persons",)


def read_tables(path: str | Path) -> dict[str, Any]:
    """An annotation file.

    Raises:
        DataError: It is missing or has no lists of images and annotations.
    """
    return check_tables(read_json(path, "annotation file"), path)


def check_tables(file: Any, path: str | Path) -> dict[str, Any]:
    """What was read of an annotation file, which ``path`` names in messages.

    Raises:
        DataError: It has no lists of images and annotations.
    """
    if not isinstance(file, dict) or not all(isinstance(file.get(key), list) for key in ("images", "annotations")):
        raise DataError(f"{path}: not a COCO annotation file: needs the lists 'images' and 'annotations'")
    return file


def _image_table(file: Mapping[str, Any], path: str | Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    images = listed_images(file, path)
    names = np.array([image.name.encode() for image in images], dtype=np.bytes_)
    sizes = np.array([image.size for image in images], dtype=np.int32)
    return np.array([image.id for image in images], dtype=np.int64), names, sizes.reshape(-1, 2)


def _rows_of(values: np.ndarray, table: np.ndarray) -> np.ndarray:
    """Each value's row in the table, -1 where it is not there."""
    if not len(table):
        return np.full(len(values), -1, dtype=np.int32)
    order = np.argsort(table, kind="stable")
    place = np.searchsorted(table[order], values).clip(max=len(table) - 1)
    rows = order[place]
    return np.where(table[rows] == values, rows, -1).astype(np.int32)


def _refuse(bad: np.ndarray, message: Callable[[int], str]) -> None:
    """Raises DataError about the first bad row, with a count of the others."""
    rows = np.flatnonzero(bad)
    if len(rows):
        others = f" ({len(rows) - 1} more like it)" if len(rows) > 1 else ""
        raise DataError(message(rows[0]) + others)
