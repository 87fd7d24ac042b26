"""Part of a data set's pictures held out for choosing, so that nothing is chosen on the test pictures."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import counts, persons_in
from pose.errors import DataError


def hold_out(
    annotations: Mapping[str, Any], count: int, seed: int = 0, path: str | Path = "annotations"
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two annotation files of one: to train on, and to choose by.

    Whole pictures are held out, with everyone on them, also where two records name the same file, and only ones with a
    person that counts: the first of a shuffle by ``seed``. Both parts keep the file's order, ids and other fields.

    Args:
        annotations: In COCO's format.
        count: Pictures to hold out.
        seed: Of the choice, not negative.
        path: The file's, for messages.

    Raises:
        DataError: It is no annotation file, or has not more than ``count`` pictures with a person that counts.
    """
    try:
        labelled = {person["image_id"] for person in persons_in(annotations, path).records if counts(person)}
        images = annotations["images"]
        first = {_place(image): image["id"] for image in reversed(images)}  # one id for each file
        same = {image["id"]: first[_place(image)] for image in images}
        candidates = sorted({same[image] for image in labelled if image in same})
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: no annotation file in COCO's format: {error!r}") from error
    if seed < 0:
        raise DataError(f"{path}: the seed must not be negative, got {seed}")
    if not 0 < count < len(candidates):
        raise DataError(f"{path}: cannot hold out {count} of {len(candidates)} pictures with a person that counts")
    chosen = set(np.random.default_rng(seed).permutation(candidates)[:count].tolist())

    def part(held_out: bool) -> dict[str, Any]:
        return {
            **annotations,
            "images": [image for image in annotations["images"] if (same[image["id"]] in chosen) == held_out],
            "annotations": [
                person for person in annotations["annotations"] if (same.get(person["image_id"]) in chosen) == held_out
            ],
        }

    return part(False), part(True)


def _place(image: Mapping[str, Any]) -> Any:
    """What tells one picture's file from another's."""
    name = image.get("file_name")
    return posixpath.normpath(name.replace("\\", "/")) if isinstance(name, str) else (image["id"],)
