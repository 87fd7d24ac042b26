"""Part of a data set's pictures held out for choosing, so that nothing is chosen on the test pictures."""

from __future__ import annotations

from collections.abc import Mapping
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
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two annotation files of one: to train on, and to choose by.

    Whole pictures are held out, with everyone on them, and only ones with a person that counts: the first of a
    shuffle by ``seed``. Records of one ``file_name`` under several ids are one picture. Both parts keep the file's
    order, ids and other fields.

    Args:
        annotations: In COCO's format.
        count: Pictures to hold out.
        seed: Of the choice, not negative.
        path: The file's, for messages.
        category: The persons', by name or id, see :func:`pose.datasets.annotations.persons_in`.

    Raises:
        DataError: It is no annotation file, or has not more than ``count`` pictures with a person that counts.
    """
    try:
        labeled = {
            person["image_id"] for person in persons_in(annotations, path, category=category).records if counts(person)
        }
        first_ids = ids_of_one_image(annotations["images"])
        candidates = sorted({first for image_id, first in first_ids.items() if image_id in labeled})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no annotation file in COCO's format: {error!r}") from error
    if seed < 0:
        raise DataError(f"{path}: the seed must not be negative, got {seed}")
    if not 0 < count < len(candidates):
        raise DataError(f"{path}: cannot hold out {count} of {len(candidates)} pictures with a person that counts")
    held = set(np.random.default_rng(seed).permutation(candidates)[:count].tolist())
    chosen = {image_id for image_id, first in first_ids.items() if first in held}

    def part(held_out: bool) -> dict[str, Any]:
        return {
            **annotations,
            "images": [image for image in annotations["images"] if (image["id"] in chosen) == held_out],
            "annotations": [
                person for person in annotations["annotations"] if (person["image_id"] in chosen) == held_out
            ],
        }

    return part(False), part(True)
