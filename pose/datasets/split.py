"""Parts of a data set's pictures: held out for choosing, so that nothing is chosen on the test pictures, and shares."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import counts, persons_in
from pose.datasets.image_names import ids_of_one_image
from pose.errors import DataError


def hold_out(
    annotations: Mapping[str, Any],
    count: int,
    seed: int = 0,
    path: str | Path = "annotations",
    category: str | int | None = None,
    alike: Iterable[tuple[int, int]] = (),
    tell: Callable[[str], None] | None = None,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two annotation files of one: to train on, and to choose by.

    Whole pictures are held out, with everyone on them, and only ones with a person that counts: the first of a
    shuffle by ``seed``. Records of one ``file_name`` under several ids are one picture. Both parts keep the file's
    order, ids and other fields.

    Args:
        annotations: An annotation file in COCO's format.
        count: Pictures to hold out.
        seed: The seed of the choice, not negative.
        path: The file's, for messages.
        category: The persons', by name or id, see :func:`pose.datasets.annotations.persons_in`.
        alike: Pairs of rows of ``images`` that look the same; such pictures, and those like them, stay on one side.
        tell: Takes a line for each rule that decides who counts.

    Raises:
        DataError: It is no annotation file, or has not more than ``count`` pictures with a person that counts.
    """
    first_ids, candidates = _candidates(annotations, path, category, alike, tell)
    if seed < 0:
        raise DataError(f"{path}: the seed must not be negative, got {seed}")
    if not 0 < count < len(candidates):
        raise DataError(f"{path}: cannot hold out {count} of {len(candidates)} pictures with a person that counts")
    held = set(np.random.default_rng(seed).permutation(candidates)[:count].tolist())
    chosen = {image_id for image_id, first in first_ids.items() if first in held}
    return _part(annotations, chosen, False), _part(annotations, chosen, True)


def first_share(
    annotations: Mapping[str, Any],
    share: float,
    path: str | Path = "annotations",
    category: str | int | None = None,
) -> dict[str, Any]:
    """An annotation file of a share of the pictures with a person that counts, at least one.

    They are the first of a shuffle that depends on nothing but which pictures there are: what a smaller share has, a
    larger one has, too. Order, ids and other fields stay.

    Args:
        annotations: An annotation file in COCO's format.
        share: Above 0 and at most 1.
        path: The file's, for messages.
        category: The persons' category, as in :func:`hold_out`.

    Raises:
        DataError: It is no annotation file.
    """
    first_ids, candidates = _candidates(annotations, path, category)
    count = max(round(share * len(candidates)), 1)
    kept = set(np.random.default_rng(0).permutation(candidates)[:count].tolist())
    return _part(annotations, {image_id for image_id, first in first_ids.items() if first in kept}, True)


def without_images(annotations: dict[str, Any], image_ids: Set[int]) -> dict[str, Any]:
    """An annotation file without some pictures and who is on them; the file itself where there are none."""
    return _part(annotations, image_ids, False) if image_ids else annotations


def _candidates(
    annotations: Mapping[str, Any],
    path: str | Path,
    category: str | int | None,
    alike: Iterable[tuple[int, int]] = (),
    tell: Callable[[str], None] | None = None,
) -> tuple[dict[int, int], list[int]]:
    """Maps each picture's id to the first id of that picture; and the first ids that have a person that counts."""
    try:
        persons = persons_in(annotations, path, category=category)
        if tell is not None:
            for notice in persons.notices:
                tell(notice)
        labeled = {person["image_id"] for person in persons.records if counts(person)}
        first_ids = _together(ids_of_one_image(annotations["images"]), annotations["images"], alike)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no annotation file in COCO's format: {error!r}") from error
    return first_ids, sorted({first for image_id, first in first_ids.items() if image_id in labeled})


def _together(
    first_ids: Mapping[Any, Any], images: Sequence[Mapping[str, Any]], alike: Iterable[tuple[int, int]]
) -> dict[Any, Any]:
    """``first_ids`` with one id for all pictures that are alike, directly or by way of others."""
    leads = {first: first for first in first_ids.values()}

    def lead(image_id: Any) -> Any:
        while leads[image_id] != image_id:
            leads[image_id] = leads[leads[image_id]]
            image_id = leads[image_id]
        return image_id

    for one, other in alike:
        first, second = (lead(first_ids[images[row]["id"]]) for row in (one, other))
        leads[max(first, second)] = min(first, second)
    return {image_id: lead(first) for image_id, first in first_ids.items()}


def _part(annotations: Mapping[str, Any], chosen: Set[int], inside: bool) -> dict[str, Any]:
    """The file of the pictures that are among the chosen ones, or that are not."""
    return {
        **annotations,
        "images": [image for image in annotations["images"] if (image["id"] in chosen) == inside],
        "annotations": [person for person in annotations["annotations"] if (person["image_id"] in chosen) == inside],
    }
