"""Annotations of one skeleton as another's: keypoints of the same name, the others unlabelled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import persons_as_written
from pose.errors import DataError
from pose.skeleton import Skeleton


def as_skeleton(
    annotations: Mapping[str, Any], source: Skeleton, target: Skeleton, path: str | Path = "annotations"
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """An annotation file with another skeleton's keypoints, so that a network of it can be tested or trained on it.

    The persons are read by the rules of docs/custom_dataset.md#rules. Boxes, outlines, ids and pictures stay, and so do
    annotations of other categories. Keypoints that ``source`` does not name get visibility 0, and ``num_keypoints``
    counts what is left.

    Args:
        annotations: An annotation file in COCO's format.
        source: What its keypoints are.
        target: What they shall be.
        path: What messages call the file.

    Returns:
        The file, and a line for each rule that changed something.

    Raises:
        DataError: The skeletons share no name, or it is no annotation file of ``source``.
    """
    shared = [name for name in target.keypoints if name in source.keypoints]
    if not shared:
        raise DataError(f"skeletons {source.name} and {target.name} share no keypoint's name")
    taken = [source.keypoints.index(name) for name in shared]
    places = [target.keypoints.index(name) for name in shared]

    try:
        annotated = persons_as_written(annotations, path, source)
        read = dict(zip(annotated.rows, annotated.records, strict=True))

        def convert(row: int, person: Mapping[str, Any]) -> dict[str, Any]:
            if row not in read or not person.get("keypoints"):
                return dict(person)
            converted = np.zeros((target.num_keypoints, 3))
            converted[places] = np.asarray(read[row]["keypoints"], np.float64).reshape(-1, 3)[taken]
            kept = {key: read[row][key] for key in ("id", "iscrowd")}
            count = int((converted[:, 2] > 0).sum())
            return {**person, **kept, "keypoints": converted.ravel().tolist(), "num_keypoints": count}

        people = [convert(row, person) for row, person in enumerate(annotations["annotations"])]
        limbs = [[first + 1, second + 1] for first, second in target.limbs]
        changed = {"keypoints": list(target.keypoints), "skeleton": limbs}
        categories = [
            {**category, **changed} if category["id"] == annotated.category["id"] else category
            for category in annotations["categories"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{path}: no annotation file in COCO's format: {error!r}") from error
    return {**annotations, "annotations": people, "categories": categories}, annotated.notices
