"""A person's keypoints as files have them, made COCO's flat list by the rules of docs/custom_dataset.md#rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.categories import keypoint_places
from pose.errors import DataError
from pose.skeleton import Skeleton

LARGEST = 1e7
"""Coordinates and sizes beyond it are no pixels."""


def not_coco(path: str | Path, problem: str) -> DataError:
    """What is told about a record that cannot be read."""
    return DataError(f"{path}: not in COCO's keypoint format: {problem}; correct or remove it")


def clean_keypoints(
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
    try:
        before = np.array(lists, np.float64).reshape(len(rows), length // 3, 3)
    except OverflowError as error:  # a whole number beyond all floats
        row = next(row for row, flat in zip(rows, lists, strict=True) if max(map(abs, flat)) > LARGEST)
        raise _no_pixels(records[row], path) from error
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
        raise _no_pixels(records[rows[int(bad.any(1).argmax())]], path)
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
    without = {row for row, record in enumerate(records) if not record.get("keypoints")}
    for row in without:
        records[row].update(keypoints=[0] * length, num_keypoints=0)
    told["persons without keypoints: neither train nor are looked for"] += sum(
        not records[row]["iscrowd"] for row in without
    )


def _no_pixels(record: Mapping[str, Any], path: str | Path) -> DataError:
    what = f"annotation {record['id']} has a keypoint that is no finite number of pixels"
    return DataError(f"{path}: {what}; correct or remove it")


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
        raise not_coco(path, f"annotation {record['id']} needs x, y and v of each keypoint as 'keypoints'")
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
            "name this data set's with data.skeleton, or --source of tools/convert_annotations.py"
        )
    if set(map(type, flat)) <= {int, float}:
        return flat
    told["persons with text or null among their keypoints: read as numbers"] += 1
    try:
        return [float("nan") if value is None else float(value) for value in flat]
    except (TypeError, ValueError, OverflowError) as error:
        raise not_coco(path, f"annotation {record['id']} has no numbers as 'keypoints' ({error})") from error
