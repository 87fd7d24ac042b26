"""Annotations of one skeleton as another's: keypoints of the same name, the others unlabelled."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pose.errors import DataError
from pose.skeleton import Skeleton


def as_skeleton(annotations: Mapping[str, Any], source: Skeleton, target: Skeleton) -> dict[str, Any]:
    """An annotation file with another skeleton's keypoints, so that a network of it can be tested or trained on it.

    Boxes, areas, ids and pictures stay. Keypoints that ``source`` does not name get visibility 0, and
    ``num_keypoints`` counts what is left.

    Args:
        annotations: In COCO's format.
        source: What its keypoints are.
        target: What they shall be.

    Raises:
        DataError: The skeletons share no name, or it is no annotation file of ``source``.
    """
    shared = [name for name in target.keypoints if name in source.keypoints]
    if not shared:
        raise DataError(f"skeletons {source.name} and {target.name} share no keypoint's name")
    taken = [source.keypoints.index(name) for name in shared]
    places = [target.keypoints.index(name) for name in shared]

    def convert(person: Mapping[str, Any]) -> dict[str, Any]:
        if "keypoints" not in person:
            return dict(person)
        points = np.asarray(person["keypoints"], np.float64)
        if points.size != 3 * source.num_keypoints:
            raise DataError(
                f"annotation {person.get('id')} has {points.size // 3} keypoints, {source.name} has "
                f"{source.num_keypoints}; name the annotations' own skeleton"
            )
        converted = np.zeros((target.num_keypoints, 3))
        converted[places] = points.reshape(-1, 3)[taken]
        count = int((converted[:, 2] > 0).sum())
        return {**person, "keypoints": converted.ravel().tolist(), "num_keypoints": count}

    try:
        people = [convert(person) for person in annotations["annotations"]]
        limbs = [[first + 1, second + 1] for first, second in target.limbs]
        categories = [
            {**category, "keypoints": list(target.keypoints), "skeleton": limbs} if category["id"] == 1 else category
            for category in annotations["categories"]
        ]
    except DataError:
        raise
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"no annotation file in COCO's format: {error!r}") from error
    return {**annotations, "annotations": people, "categories": categories}
