"""Joints that a network found, beside those that people labelled, and how sure it was of each."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pose.datasets.annotations import AnnotatedPersons
from pose.datasets.coco import Persons
from pose.errors import DataError
from pose.files import read_json
from pose.skeleton import Skeleton

CONFIDENCES = "confidences"
"""The field of an annotation with a number for each of its keypoints: how sure the network was that made them."""


def own_confidences(annotated: AnnotatedPersons, path: Path, persons: Persons, own: Skeleton) -> np.ndarray:
    """(N, K) confidences of the annotations' own keypoints; NaN for annotations that state none."""
    none = [float("nan")] * own.num_keypoints
    stated = {annotation["id"]: annotation.get(CONFIDENCES, none) for annotation in annotated.records}
    try:
        return np.array([stated[each] for each in persons.annotation_ids.tolist()], np.float32).reshape(
            len(persons), own.num_keypoints
        )
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the {CONFIDENCES} of an annotation must be {own.num_keypoints} numbers, one a keypoint"
        ) from error


def extra_joints(path: Path, persons: Persons, skeleton: Skeleton) -> np.ndarray:
    """(N, K, 3) x, y and confidence; 0 for persons that the file does not name."""
    stated = read_json(path, "file of a network's joints")
    none = [[0.0] * 3] * skeleton.num_keypoints
    try:
        joints = np.array([stated.get(str(each), none) for each in persons.annotation_ids.tolist()], np.float32)
        joints = joints.reshape(len(persons), skeleton.num_keypoints, 3)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: needs an object from annotation id to {skeleton.num_keypoints} times x, y, confidence, the "
            f"keypoints of {skeleton.name} in its order"
        ) from error
    if not np.isfinite(joints).all():
        raise DataError(f"{path}: a joint is no finite number; correct or remove it")
    return joints
