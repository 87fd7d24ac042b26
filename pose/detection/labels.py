"""Training pictures and the boxes on them, from several data sets, by hand and by other detectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pose.datasets.image_names import find_image, plain_name
from pose.detection.groups import SAME_PERSON, are_groups
from pose.detection.targets import PERSON, REGION, UNSURE
from pose.errors import DataError
from pose.files import read_json
from pose.geometry import box_iou, have_size
from pose.skeleton import COCO


@dataclass(frozen=True)
class Source:
    """One data set to train on; at least one of ``annotations`` and ``boxes``.

    Args:
        images: The folder of the pictures.
        annotations: A COCO file with boxes by hand: persons, and crowds, in which nothing is learned. Boxes without
            keypoints count, too.
        boxes: What detectors found: a JSON file from file names to lists of x, y, width, height, score, or, where there
            are annotations, a file in COCO's results format, as ``tools/detect.py`` writes it. Where there are
            annotations, it adds persons that they do not have, in pixels as these count them.
        weight: How much more often than another's a picture of this data set is taken.
        sure: Boxes of at least this score are persons.
        unsure: Boxes of at least this score, and below ``sure``, may be persons: nothing is learned at their centers.
        groups: The annotations have boxes around groups which do not say so: those that
            :func:`pose.detection.groups.are_groups` tells by ``boxes`` are crowds. Needs both files.
    """

    images: str
    annotations: str | None = None
    boxes: str | None = None
    weight: float = 1.0
    sure: float = 0.6
    unsure: float = 0.3
    groups: bool = False

    def __post_init__(self) -> None:
        if self.annotations is None and self.boxes is None:
            raise ValueError("needs annotations or boxes")
        if self.groups and (self.annotations is None or self.boxes is None):
            raise ValueError("groups needs annotations and boxes")
        if not self.weight > 0:
            raise ValueError(f"weight must be positive, got {self.weight}")
        if not 0 <= self.unsure <= self.sure <= 1:
            raise ValueError(f"needs 0 <= unsure <= sure <= 1, got {self.unsure} and {self.sure}")


@dataclass(frozen=True)
class LabeledImages:
    """M pictures.

    Attributes:
        paths: The pictures' files.
        sizes: (M, 2) int64 width and height as their boxes count pixels; 0, 0 where no annotation file says it.
        weights: (M,) float64, see :class:`Source`.
        boxes: M times (P, 4) float32 x1, y1, x2, y2 in pixels of the picture.
        kinds: M times (P,) int64, of :data:`~pose.detection.targets.PERSON`, ``UNSURE`` and ``REGION``.
        told: A line for each rule that changed or left out something in the files, with its count.
    """

    paths: list[str]
    sizes: np.ndarray
    weights: np.ndarray
    boxes: list[np.ndarray]
    kinds: list[np.ndarray]
    told: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.paths)


class _Labels(NamedTuple):
    """What is known of a picture: its size, and boxes and kinds as in :class:`LabeledImages`."""

    size: tuple[int, int]
    boxes: np.ndarray
    kinds: np.ndarray


def read_sources(sources: Sequence[Source], root: str | Path, category: str | int | None = None) -> LabeledImages:
    """All data sets as one.

    Args:
        sources: The data sets.
        root: The folder that their paths are relative to.
        category: The persons' in the annotation files, by name or id; None for what
            :func:`pose.datasets.categories.person_category` says of each.

    Raises:
        DataError: A file is missing or not of its format, or there is no person at all.
    """
    paths, weights, labels = [], [], []
    told: list[str] = []
    for source in sources:
        for name, known in sorted(_read_source(source, Path(root), category, told).items()):
            paths.append(find_image(str(Path(root, source.images)), name))
            weights.append(source.weight)
            labels.append(known)
    if not any((known.kinds == PERSON).any() for known in labels):
        raise DataError(f"{root}: no person in the training data; are these the right files?")
    sizes, boxes, kinds = (list(column) for column in zip(*labels, strict=True))
    return LabeledImages(paths, np.array(sizes, np.int64), np.array(weights), boxes, kinds, tuple(told))


def _read_source(source: Source, root: Path, category: str | int | None, told: list[str]) -> dict[str, _Labels]:
    """What is known of pictures, by file name."""
    annotations = None if source.annotations is None else root / source.annotations
    by_hand, number = ({}, None) if annotations is None else _read_annotations(annotations, category, told)
    found = {} if source.boxes is None else _read_found(root / source.boxes, annotations, number, told)
    unknown = _Labels((0, 0), np.zeros((0, 4)), np.zeros(0, np.int64))
    merged, groups, unseen = {}, 0, 0
    for name in by_hand.keys() | found.keys():
        own, theirs = by_hand.get(name, unknown), found.get(name, np.zeros((0, 5)))
        kinds = own.kinds.copy()
        if source.groups and name in found:
            persons = np.flatnonzero(kinds == PERSON)
            grouped = persons[are_groups(own.boxes[persons], theirs)]
            kinds[grouped], groups = REGION, groups + len(grouped)
        unseen += name not in found
        boxes, kinds = _merge(own.boxes, kinds, theirs, source)
        merged[name] = _Labels(own.size, boxes, kinds)
    if source.groups:
        told.append(f"{annotations}: {groups:,} boxes are around groups and count as crowds")
        if unseen:
            told.append(f"{root / str(source.boxes)}: no boxes of {unseen:,} pictures: no groups are looked for there")
    return merged


def _read_found(path: Path, annotations: Path | None, category: int | None, told: list[str]) -> dict[str, np.ndarray]:
    """(N, 5) x, y, width, height and score of what a detector found, by file name; widths and heights are above 0.

    Args:
        path: The file.
        annotations: The annotation file of the same pictures, where there is one.
        category: The id of the persons' category there.
        told: Gets a line for each kind of boxes that are left out.
    """
    file = read_json(path, "file of boxes")
    if isinstance(file, list) and annotations is not None:
        return _read_results(path, annotations, category, told)
    if not isinstance(file, dict):
        results = ", or of COCO's results format, which needs annotations" if isinstance(file, list) else ""
        raise DataError(f"{path}: not a file of boxes: needs lists of boxes by file name{results}")
    found, flat = {}, 0
    for name, boxes in file.items():
        try:
            rows = np.array(boxes, np.float64).reshape(len(boxes), 5)
        except (TypeError, ValueError, OverflowError) as error:
            raise DataError(f"{path}: boxes of {name} are not lists of 5 numbers") from error
        _check_numbers(rows, path, name, boxes)
        sized = have_size(rows[:, :4])
        flat += int((~sized).sum())
        found[plain_name(name)] = rows[sized]
    if flat:
        told.append(f"{path}: {flat:,} boxes without a size are left out")
    return found


def _read_results(path: Path, annotations: Path, category: int | None, told: list[str]) -> dict[str, np.ndarray]:
    """As :func:`_read_found`, of a file in COCO's results format; of all pictures that have boxes in it."""
    from pose.datasets.coco import read_detections  # a detector that only finds persons reads none

    persons, left_out = read_detections(path, annotations, COCO, -math.inf, category)
    told += left_out
    rows = np.column_stack([persons.boxes, persons.box_scores]).tolist()
    found: dict[str, list[list[float]]] = {}
    for place, row in zip(persons.image_index.tolist(), rows, strict=True):  # several ids may list one file
        found.setdefault(persons.file_names[place].decode(), []).append(row)
    for name, boxes in found.items():
        _check_numbers(np.array(boxes), path, name, boxes)
    return {name: np.array(boxes) for name, boxes in found.items()}


def _check_numbers(rows: np.ndarray, path: Path, name: str, written: Sequence[object]) -> None:
    """Refuses boxes (N, 5) of a picture that hold what is no number, or one that no picture has."""
    from pose.datasets.image_records import short
    from pose.datasets.keypoint_lists import LARGEST

    numbers = (np.abs(rows) <= LARGEST).all(1)  # null became NaN
    if not numbers.all():
        wrong = short(written[int(numbers.argmin())])
        raise DataError(f"{path}: a box of {name} is not 5 finite numbers up to {LARGEST:.0f}: {wrong}; remove it")


def _read_annotations(path: Path, category: str | int | None, told: list[str]) -> tuple[dict[str, _Labels], int | None]:
    """x, y, width, height and kind of each annotated person, by file name, and the id of the persons' category."""
    from pose.detection.annotated import read_persons  # a detector that only finds persons reads no annotations

    listed, persons = read_persons(path, category)
    told += persons.notices
    names = {image.id: image.name for image in listed}
    boxes: dict[str, list[list[float]]] = {image.name: [] for image in listed}
    kinds: dict[str, list[int]] = {image.name: [] for image in listed}
    for person in persons.records:
        name = names[person["image_id"]]
        boxes[name].append(person["bbox"])
        kinds[name].append(REGION if person["iscrowd"] else PERSON)
    known = {
        name: _Labels(size, np.array(boxes[name], np.float64).reshape(-1, 4), np.array(kinds[name], np.int64))
        for _, name, size in listed
    }
    return known, persons.category["id"]


def _merge(by_hand: np.ndarray, kinds: np.ndarray, found: np.ndarray, source: Source) -> tuple[np.ndarray, np.ndarray]:
    """Boxes by hand, and of a detector's those of other persons; as corners, float32."""
    found = found[found[:, 4] >= source.unsure]
    own, theirs = _corners(by_hand), _corners(found[:, :4])
    new = ~(box_iou(found[:, None, :4], by_hand[None]) >= SAME_PERSON).any(1)
    kind = np.where(found[:, 4] >= source.sure, PERSON, UNSURE)
    return np.concatenate([own, theirs[new]]).astype(np.float32), np.concatenate([kinds, kind[new]])


def _corners(boxes: np.ndarray) -> np.ndarray:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)
