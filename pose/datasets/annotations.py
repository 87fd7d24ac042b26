"""An annotation file as people have them, read by one set of rules: what training, testing and scoring share.

The rules are docs/custom_dataset.md#rules. Whatever a rule changes or leaves out is counted and told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.categories import keypoint_order, keypoint_places, person_category
from pose.errors import DataError
from pose.skeleton import Skeleton

LARGEST = 1e7
"""Coordinates and sizes beyond it are no pixels."""


@dataclass(frozen=True)
class AnnotatedPersons:
    """The records of persons of an annotation file, cleaned; the file's own records are not changed.

    Attributes:
        records: One a person: ``id``, ``image_id``, ``category_id``, ``iscrowd`` 0 or 1, ``bbox``, ``area``,
            ``keypoints`` of 3 K numbers with COCO's visibility 0, 1 or 2, all 0 where nothing counts, ``num_keypoints``
            counted from them, and what else the file says, without outlines. Where the
            file's ids are repeated, they are numbered anew.
        rows: Each record's row in the file's ``annotations``.
        category: The persons' record in ``categories``; ``{"id": ...}`` where the file has none.
        areas_from_boxes: How many areas were missing and are those of the boxes.
        notices: A line for each rule that changed or left out something, with its count.
    """

    records: list[dict[str, Any]]
    rows: list[int]
    category: dict[str, Any]
    areas_from_boxes: int
    notices: tuple[str, ...]


def counts(person: Mapping[str, Any]) -> bool:
    """Whether a record of :class:`AnnotatedPersons` counts: a labelled keypoint, no crowd, an area."""
    return person["num_keypoints"] > 0 and not person["iscrowd"] and person["area"] > 0


def persons_in(
    file: Mapping[str, Any], path: str | Path, skeleton: Skeleton | None = None, category: str | int | None = None
) -> AnnotatedPersons:
    """The persons of an annotation file by the rules of docs/custom_dataset.md#rules.

    Args:
        file: What the file holds, with lists ``images`` and ``annotations``.
        path: For messages.
        skeleton: What the keypoints shall be: the file's names are compared with it and brought into its order. None
            takes them as they are.
        category: The persons' category by name or id; None for the one that has keypoints, or is called person.

    Raises:
        DataError: A record cannot be read, keypoints do not fit the skeleton, or the category cannot be told.
    """
    told: Counter[str] = Counter()
    for image in file["images"]:
        _check_image(image, path)
    known = {image["id"] for image in file["images"]}
    if len(known) < len(file["images"]):
        raise DataError(f"{path}: two image records have the same id; ids must be different")
    chosen = person_category(file, path, category)
    records, rows = [], []
    others: Counter[Any] = Counter()
    for row, annotation in enumerate(file["annotations"]):
        _check_ids(annotation, path)
        if annotation["category_id"] != chosen["id"]:
            others[annotation["category_id"]] += 1
            continue
        if annotation["image_id"] not in known:
            raise DataError(f"{path}: annotation {annotation['id']} names the unknown picture {annotation['image_id']}")
        records.append({key: value for key, value in annotation.items() if key != "segmentation"})
        rows.append(row)
    for record in records:
        record["iscrowd"] = _crowd(record, path, told)
    areas = _boxes_and_areas(records, path)
    if areas:
        told["persons without an area: their boxes' areas are taken, and AP reads higher"] = areas
    _keypoints(records, path, skeleton, chosen, told)
    _number(records, told)
    names = {entry["id"]: entry.get("name") for entry in file.get("categories") or ()}
    notices = [f"{path}: {count:,} {what}" for what, count in told.items() if count]
    notices += [
        f"{path}: {count:,} annotations of category {names.get(number) or number} are left out; persons are category "
        f"{chosen.get('name') or chosen['id']}"
        for number, count in others.items()
    ]
    if records and skeleton is not None:
        notices += keypoint_order(chosen, skeleton, path)[1]
    return AnnotatedPersons(records, rows, chosen, areas, tuple(notices))


def _wrong(path: str | Path, problem: str) -> DataError:
    return DataError(f"{path}: not in COCO's keypoint format: {problem}; correct or remove it")


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63


def _check_image(image: object, path: str | Path) -> None:
    if not isinstance(image, Mapping) or not _is_id(image.get("id")):
        raise DataError(f"{path}: an image record needs id, file_name, width and height: {_short(image)}")


def _check_ids(annotation: object, path: str | Path) -> None:
    if not isinstance(annotation, Mapping):
        raise _wrong(path, f"{_short(annotation)} is no record")
    for key in ("id", "image_id", "category_id"):
        if not _is_id(annotation.get(key)):
            what = f"annotation {_short(annotation.get('id'))} needs a whole number below 2^63 as {key!r}"
            raise _wrong(path, f"{what}, not {_short(annotation.get(key))}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _number(records: list[dict[str, Any]], told: Counter[str]) -> None:
    """Where ids are repeated, all of them are replaced by the numbers from 1 on."""
    if len({record["id"] for record in records}) < len(records):
        told["annotations were numbered anew: ids were repeated"] = len(records)
        for number, record in enumerate(records, 1):
            record["id"] = number


def _crowd(record: Mapping[str, Any], path: str | Path, told: Counter[str]) -> int:
    value = record.get("iscrowd", 0)
    if value is None:
        told["persons with iscrowd null: taken as 0"] += 1
        return 0
    if value not in (0, 1):
        raise _wrong(path, f"annotation {record['id']} needs 0 or 1 as 'iscrowd', not {_short(value)}")
    return int(value)


def _is_numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) and abs(value) <= LARGEST for value in values)


def _boxes_and_areas(records: list[dict[str, Any]], path: str | Path) -> int:
    """Checks boxes, fills in areas that are missing, and says how many."""
    filled = 0
    for record in records:
        box, area = record.get("bbox"), record.get("area")
        if not isinstance(box, list | tuple) or len(box) != 4 or not _is_numbers(box):
            problem = f"annotation {record['id']} needs x, y, width and height as 'bbox', not {_short(box)}"
            raise _wrong(path, f"{problem}, which has no size")
        if area is None:
            filled += 1
            record["area"] = max(box[2], 0) * max(box[3], 0)
        elif not isinstance(area, int | float) or not abs(area) <= LARGEST**2:
            raise _wrong(path, f"annotation {record['id']} needs a number as 'area', not {_short(area)}")
    return filled


def _keypoints(
    records: list[dict[str, Any]],
    path: str | Path,
    skeleton: Skeleton | None,
    category: Mapping[str, Any],
    told: Counter[str],
) -> None:
    """Writes flat keypoints of visibility 0, 1 or 2 in the skeleton's order and their counts into the records."""
    rows = [row for row, record in enumerate(records) if record.get("keypoints")]
    length = 3 * (skeleton.num_keypoints if skeleton else _usual_count(records, rows, category))
    lists = [_flat(records[row], length, path, skeleton, told) for row in rows]
    before = np.array(lists, np.float64).reshape(len(rows), length // 3, 3)
    points = before.copy()
    seen, known = points[..., 2], np.isfinite(points[..., :2]).all(2)
    rules = {
        "keypoints with a visibility below 0 or above 2: taken as not labelled": ~((seen >= 0) & (seen <= 2)),
        "keypoints with a fraction as visibility: taken as seen": (seen > 0) & (seen < 2) & (seen != 1),
        "keypoints at 0, 0: taken as not labelled": (seen > 0) & (seen <= 2) & (points[..., :2] == 0).all(2),
        "unlabelled keypoints without coordinates: taken as 0, 0": (seen == 0) & ~known,
    }
    unlabeled, fraction, origin, empty = rules.values()
    bad = (seen > 0) & ~unlabeled & ~(known & (np.abs(points[..., :2]) <= LARGEST).all(2))
    if bad.any():
        row = rows[int(bad.any(1).argmax())]
        raise DataError(
            f"{path}: annotation {records[row]['id']} has a keypoint that is no finite number of pixels; "
            "correct or remove it"
        )
    points[..., 2][fraction] = 2
    points[unlabeled | origin, 2] = 0
    points[empty | (unlabeled & ~known), :2] = 0
    told.update({what: int(mask.sum()) for what, mask in rules.items()})
    if skeleton is not None and rows:
        points = points[:, keypoint_places(category, skeleton, path)]
    labeled = (points[..., 2] > 0).sum(1)
    changed = (points != before).any((1, 2))
    for place, row in enumerate(rows):
        record = records[row]
        stated = record.get("num_keypoints")
        if stated is not None and stated != int((before[place, :, 2] > 0).sum()):
            told["persons whose num_keypoints is wrong: counted anew"] += 1
        flat = points[place].ravel().tolist() if changed[place] else lists[place]
        record.update(keypoints=flat, num_keypoints=int(labeled[place]))
        if labeled[place] and record["area"] <= 0 and not record["iscrowd"]:
            told["persons of area 0: neither train nor are looked for"] += 1
            record.update(keypoints=[0] * length, num_keypoints=0)
    without = {row for row, record in enumerate(records) if not record.get("keypoints")}
    for row in without:
        records[row].update(keypoints=[0] * length, num_keypoints=0)
    told["persons without keypoints: neither train nor are looked for"] += sum(
        not records[row]["iscrowd"] for row in without
    )


def _usual_count(records: Sequence[Mapping[str, Any]], rows: Sequence[int], category: Mapping[str, Any]) -> int:
    """K of a file whose skeleton nobody named: its category's names, or what most persons have."""
    if category.get("keypoints"):
        return len(category["keypoints"])
    lengths = Counter(_count(records[row]["keypoints"]) for row in rows)
    return lengths.most_common(1)[0][0] if lengths else 0


def _count(keypoints: object) -> int:
    if not isinstance(keypoints, list | tuple):
        return 0
    return len(keypoints) if isinstance(keypoints[0], list | tuple) else len(keypoints) // 3


def _flat(
    record: Mapping[str, Any], length: int, path: str | Path, skeleton: Skeleton | None, told: Counter[str]
) -> list[Any]:
    """A person's 3 K numbers from flat, nested (K lists of 2 or 3) or paired (2 K numbers) keypoints."""
    values = record["keypoints"]
    if not isinstance(values, list | tuple):
        raise _wrong(path, f"annotation {record['id']} needs x, y and v of each keypoint as 'keypoints'")
    flat, width = list(values), 3
    if all(isinstance(value, list | tuple) for value in flat):
        widths = {len(value) for value in flat}
        if widths in ({2}, {3}):
            width = widths.pop()
            told["persons with nested keypoints: taken as one list"] += 1
        flat = [number for value in flat for number in value]
    elif 3 * len(flat) == 2 * length and len(flat) != length:
        width = 2
    if width == 2 and 3 * len(flat) == 2 * length:
        pairs = zip(flat[::2], flat[1::2], strict=True)
        flat = [number for x, y in pairs for number in (x, y, 0 if None in (x, y) or x != x or y != y else 2)]
        told["persons with keypoints without visibility: taken as seen"] += 1
    if len(flat) != length:
        wanted = f"the skeleton {skeleton.name!r} needs {length}" if skeleton else f"others have {length}"
        raise DataError(
            f"{path}: annotation {record['id']} has {len(flat)} keypoint numbers, {wanted}; "
            "name this data set's with data.skeleton, see README.md"
        )
    if set(map(type, flat)) <= {int, float}:
        return flat
    told["persons with text or null among their keypoints: read as numbers"] += 1
    try:
        return [float("nan") if value is None else float(value) for value in flat]
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(path, f"annotation {record['id']} has no numbers as 'keypoints' ({error})") from error
