"""Which category of a COCO file the persons are, and how its keypoints' names lie in a skeleton."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.errors import DataError
from pose.skeleton import PERSON_CATEGORY, Skeleton


def person_category(file: Mapping[str, Any], path: str | Path, wanted: str | int | None = None) -> dict[str, Any]:
    """The record of the persons' category: the wanted one, or the one with keypoints, or that called person.

    Args:
        file: An annotation file.
        path: What messages call the file.
        wanted: Name or id; None chooses as said.

    Raises:
        DataError: There is no such category, or nothing tells which of several it is.
    """
    categories = file.get("categories") or []
    if not isinstance(categories, list) or not all(_is_category(each) for each in categories):
        raise DataError(f"{path}: 'categories' must be a list of records with a whole number as 'id'")
    if not categories:
        used = (each.get("category_id") for each in file["annotations"] if isinstance(each, Mapping))
        return {"id": only_category(used, path, wanted)}
    if wanted is not None:
        names = [each for each in categories if wanted in (each["id"], str(each["id"]), each.get("name"))]
        if len(names) == 1:
            return names[0]
        raise DataError(f"{path}: has no category {wanted!r}; it has {_listed(categories)}")
    candidates = [each for each in categories if each.get("keypoints")] or categories
    if len(candidates) > 1:
        candidates = [each for each in candidates if _fold(str(each.get("name"))) == "person"]
    if len(candidates) != 1:
        raise DataError(
            f"{path}: which category are persons? name it with data.category or --category; there are "
            f"{_listed(categories)}"
        )
    return candidates[0]


def only_category(used: Iterable[object], path: str | Path, wanted: str | int | None = None) -> int:
    """The persons' category among bare ids: the wanted one, 1 where it is used or nothing is, or the only one.

    Raises:
        DataError: Several are used and none of them is 1.
    """
    numbers = Counter(each for each in used if isinstance(each, int))
    if wanted is not None and str(wanted).lstrip("-").isdecimal():
        return int(wanted)
    if PERSON_CATEGORY in numbers or not numbers:
        return PERSON_CATEGORY
    if len(numbers) == 1:
        return next(iter(numbers))
    raise DataError(f"{path}: which category are persons? it names none, and uses {sorted(numbers)[:10]}")


def of_category(
    records: Sequence[Mapping[str, Any]], number: int, path: str | Path, what: str
) -> tuple[list[Mapping[str, Any]], tuple[str, ...]]:
    """The records of one category in a results list, and at most one line: how many are of which other one.

    Args:
        records: With ``category_id``; a record without one is of this category.
        number: The category.
        path, what: The file and what its records are, for the line.
    """
    others = Counter(record.get("category_id", number) for record in records)
    del others[number]
    if not others:
        return list(records), ()
    named = ", ".join(f"{count:,} of {category!r}" for category, count in others.most_common(10))
    told = f"{path}: {others.total():,} {what} of other categories are left out; persons are {number} (others: {named})"
    return [record for record in records if record.get("category_id", number) == number], (told,)


def _is_category(value: object) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("id"), int):
        return False
    names = value.get("keypoints") or []
    return isinstance(names, list) and all(isinstance(name, str) for name in names)


def _listed(categories: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(f"{each['id']} ({each.get('name')!r})" for each in categories[:10])


def _fold(name: str) -> str:
    return name.strip().lower().replace(" ", "_").replace("-", "_")


def keypoint_order(category: Mapping[str, Any], skeleton: Skeleton, path: str | Path) -> tuple[np.ndarray, list[str]]:
    """Where each keypoint of a skeleton is in a category's keypoints, and what there is to say about it.

    Returns:
        (K,) int64 places, and at most one line: no names to compare, or another order.

    Raises:
        DataError: The names are others; says the first difference and how to convert by name.
    """
    places = np.arange(skeleton.num_keypoints)
    names = category.get("keypoints")
    if not names:
        return places, [f"{path}: names no keypoints; they are taken in the order of the skeleton {skeleton.name!r}"]
    theirs, ours = [_fold(name) for name in names], [_fold(name) for name in skeleton.keypoints]
    if theirs == ours:
        return places, []
    if sorted(theirs) == sorted(ours):
        told = f"{path}: keypoints are in another order than in the skeleton {skeleton.name!r}; "
        told += "brought into its order, which results must have, too"
        return np.array([theirs.index(name) for name in ours]), [told]
    if len(theirs) != len(ours):
        difference = f"has {len(theirs)} keypoints, the skeleton {skeleton.name!r} {len(ours)}"
    else:
        place = next(place for place, name in enumerate(theirs) if name not in ours)
        difference = f"calls keypoint {place + 1} {names[place]!r}, the skeleton {skeleton.name!r} "
        difference += f"{skeleton.keypoints[place]!r}"
    raise DataError(
        f"{path}: {difference}; name this data set's with data.skeleton or --skeleton, or map "
        "by name with tools/convert_annotations.py"
    )


def keypoint_places(category: Mapping[str, Any], skeleton: Skeleton, path: str | Path) -> np.ndarray:
    """(K,) int64, see :func:`keypoint_order`."""
    return keypoint_order(category, skeleton, path)[0]
