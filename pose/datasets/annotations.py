"""An annotation file as people have them, read by one set of rules: what training, testing and scoring share.

The rules are docs/custom_dataset.md#rules. Whatever a rule changes or leaves out is counted and told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pose.datasets.categories import keypoint_order, person_category
from pose.datasets.image_records import UNKNOWN, image_sizes, is_id, short
from pose.datasets.keypoint_lists import LARGEST, clean_keypoints, not_coco
from pose.errors import DataError
from pose.skeleton import Skeleton

AREAS_FILLED = "persons without an area: their boxes' areas are taken, and AP reads higher"


@dataclass(frozen=True)
class AnnotatedPersons:
    """The records of persons of an annotation file, cleaned; the file's own records are not changed.

    Attributes:
        records: One a person: ``id``, ``image_id``, ``category_id``, ``iscrowd`` 0 or 1, ``bbox``, ``area``,
            ``keypoints`` of 3 K numbers with COCO's visibility 0, 1 or 2, all 0 where nothing counts, ``num_keypoints``
            counted from them, and what else the file says, without outlines. Where the
            file's ids are repeated, they are numbered anew.
        rows: Each record's row in the file's ``annotations``.
        path: The file, for messages.
        category: The persons' record in ``categories``; ``{"id": ...}`` where the file has none.
        told: What each rule changed or left out, and how many.
        order: At most one line: keypoints have no names, or were in another order.
        areas_from_boxes: How many of who counts have their box's area, because it was missing or somebody wrote that.
        areas_zero: How many persons with labelled keypoints have area 0.
    """

    records: list[dict[str, Any]]
    rows: list[int]
    path: str | Path
    category: dict[str, Any]
    told: Mapping[str, int]
    order: tuple[str, ...] = ()
    areas_from_boxes: int = 0
    areas_zero: int = 0

    @property
    def notices(self) -> tuple[str, ...]:
        """A line for each rule that changed or left out something, with its count."""
        return (*(f"{self.path}: {count:,} {what}" for what, count in self.told.items() if count), *self.order)


LEFT_OUT: dict[str, Callable[[Any, Any, Any], Any]] = {
    "crowd regions (left out of training, ignored in scoring)": lambda crowd, labeled, area: crowd > 0,
    "no labelled keypoint": lambda crowd, labeled, area: labeled == 0,
    "area 0 or less": lambda crowd, labeled, area: area <= 0,
}
"""Rules for persons that neither train nor are looked for: of ``iscrowd``, labelled keypoints and area, or arrays."""


def counts(person: Mapping[str, Any]) -> bool:
    """Whether a record of :class:`AnnotatedPersons` trains and is looked for: no rule of :data:`LEFT_OUT` holds."""
    values = person["iscrowd"], person["num_keypoints"], person["area"]
    return not any(rule(*values) for rule in LEFT_OUT.values())


def persons_in(
    file: Mapping[str, Any], path: str | Path, skeleton: Skeleton | None = None, category: str | int | None = None
) -> AnnotatedPersons:
    """The persons of an annotation file for training and scoring, by the rules of docs/custom_dataset.md#rules.

    Those of area 0 have no labelled keypoints in what comes back, so that every evaluator ignores them.

    Args:
        file: What the file holds, with lists ``images`` and ``annotations``.
        path: What messages call the file.
        skeleton: What the keypoints shall be: the file's names are compared with it and brought into its order. None
            takes them as they are.
        category: The persons' category by name or id; None for the one that has keypoints, or is called person.

    Raises:
        DataError: A record cannot be read, keypoints do not fit the skeleton, or the category cannot be told.
    """
    persons = persons_as_written(file, path, skeleton, category)
    need_boxes(persons)
    empty = [person for person in persons.records if person["num_keypoints"] and not counts(person)]
    empty = [person for person in empty if not person["iscrowd"]]
    for person in empty:
        person.update(keypoints=[0] * len(person["keypoints"]), num_keypoints=0, area=0)
    boxed = sum(area_is_box(person["area"], person["bbox"]) for person in persons.records if counts(person))
    told = {**persons.told, "persons of area 0 or less: neither train nor are looked for": len(empty)}
    return replace(persons, told=told, areas_from_boxes=boxed, areas_zero=len(empty))


def area_is_box(area: float, box: Sequence[float]) -> bool:
    """Whether a person's area is width x height of the box, up to rounding, which no outline's is."""
    product = box[2] * box[3]
    return abs(area - product) <= max(0.5, 0.001 * product)


def need_boxes(persons: AnnotatedPersons) -> None:
    """Raises DataError about the first person without a box."""
    for person in persons.records:
        if person["bbox"] is None:
            raise _no_box(person, persons.path)


def check_somebody(persons: AnnotatedPersons, path: str | Path) -> None:
    """Raises DataError where nobody of a file trains or is looked for; says why.

    Args:
        persons: As :func:`persons_in` gives them.
        path: The file, for messages.
    """
    if any(map(counts, persons.records)):
        return
    if persons.areas_zero:
        raise DataError(
            f"{path}: area is 0 on all {persons.areas_zero:,} persons with labelled keypoints, so that nobody counts; "
            "write the areas of their outlines, or leave 'area' out and their boxes' are taken"
        )
    left_out = f" ({'; '.join(persons.notices)})" if persons.notices else ""
    raise DataError(f"{path}: no person with labelled keypoints; is this a keypoint annotation file?{left_out}")


def persons_as_written(
    file: Mapping[str, Any], path: str | Path, skeleton: Skeleton | None = None, category: str | int | None = None
) -> AnnotatedPersons:
    """:func:`persons_in` for a file that is converted: who has area 0 keeps the keypoints, and boxes may be missing.

    Without a box ``bbox`` is None, and without an area either, ``area`` is NaN.
    """
    persons = _boxed(file, path, category, ("id", "image_id", "category_id"))
    told = Counter(persons.told)
    _number(persons.records, told)
    clean_keypoints(persons.records, path, skeleton, persons.category, told)
    order = keypoint_order(persons.category, skeleton, path)[1] if persons.records and skeleton is not None else []
    return replace(persons, told=told, order=tuple(order))


def boxes_in(file: Mapping[str, Any], path: str | Path, category: str | int | None = None) -> AnnotatedPersons:
    """:func:`persons_in` by boxes alone: keypoints are what the file says, if it says any, and so are ids.

    Raises:
        DataError: A record cannot be read, or the category cannot be told.
    """
    persons = _boxed(file, path, category, ("image_id", "category_id"))
    need_boxes(persons)
    return replace(persons, told={what: count for what, count in persons.told.items() if what != AREAS_FILLED})


def _boxed(
    file: Mapping[str, Any], path: str | Path, category: str | int | None, keys: Sequence[str]
) -> AnnotatedPersons:
    """Persons whose ids, boxes and areas are right."""
    told: Counter[str] = Counter()
    known = image_sizes(file["images"], path)
    chosen = person_category(file, path, category)
    records, rows = [], []
    others: Counter[Any] = Counter()
    for row, annotation in enumerate(file["annotations"]):
        _check_ids(annotation, row, path, keys)
        if annotation["category_id"] != chosen["id"]:
            others[annotation["category_id"]] += 1
            continue
        if annotation["image_id"] not in known:
            raise DataError(
                f"{path}: annotation {_named(annotation, row)} names the unknown picture {annotation['image_id']}"
            )
        records.append({key: value for key, value in annotation.items() if key != "segmentation"})
        rows.append(row)
    for record in records:
        record["iscrowd"] = _crowd(record, path, told)
    told[AREAS_FILLED] = _boxes_and_areas(records, path)
    unsized = {record["image_id"] for record in records if known[record["image_id"]] == UNKNOWN}
    told["pictures of unknown size: their persons' boxes are not clipped"] = len(unsized)
    names = {entry["id"]: entry.get("name") for entry in file.get("categories") or ()}
    own = chosen.get("name") or chosen["id"]
    for number, count in others.items():
        told[f"annotations of category {names.get(number) or number} are left out; persons are category {own}"] = count
    return AnnotatedPersons(records, rows, path, chosen, told)


def _check_ids(annotation: object, row: int, path: str | Path, keys: Sequence[str]) -> None:
    if not isinstance(annotation, Mapping):
        raise not_coco(path, f"annotation number {row}, {short(annotation)}, is no record")
    for key in keys:
        if not is_id(annotation.get(key)):
            what = f"annotation {_named(annotation, row)} needs a whole number below 2^63 as {key!r}"
            raise not_coco(path, f"{what}, not {short(annotation.get(key))}")


def _named(annotation: Mapping[str, Any], row: int) -> str:
    """How a message calls an annotation, which may have no id."""
    return f"number {row}" if annotation.get("id") is None else short(annotation["id"])


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
        raise not_coco(path, f"annotation {record.get('id')} needs 0 or 1 as 'iscrowd', not {short(value)}")
    return int(value)


def _is_numbers(values: Sequence[object]) -> bool:
    return all(isinstance(value, int | float) and abs(value) <= LARGEST for value in values)


def _boxes_and_areas(records: list[dict[str, Any]], path: str | Path) -> int:
    """Checks boxes, fills in areas that are missing, and says how many."""
    filled = 0
    for record in records:
        box, area = record.setdefault("bbox", None), record.get("area")
        if box is not None and (not isinstance(box, list | tuple) or len(box) != 4 or not _is_numbers(box)):
            raise _no_box(record, path)
        if area is None:
            filled += box is not None
            record["area"] = float("nan") if box is None else max(box[2], 0) * max(box[3], 0)
        elif not isinstance(area, int | float) or not abs(area) <= LARGEST**2:
            raise not_coco(path, f"annotation {record.get('id')} needs a number as 'area', not {short(area)}")
    return filled


def _no_box(record: Mapping[str, Any], path: str | Path) -> DataError:
    what = f"annotation {record.get('id')} needs x, y, width and height as 'bbox', not {short(record['bbox'])}"
    return not_coco(path, f"{what}")
