"""Joints that a network found, beside those that people labelled, and how sure it was of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pose.datasets.annotations import AnnotatedPersons
from pose.datasets.categories import keypoint_places
from pose.datasets.coco import Persons
from pose.errors import DataError
from pose.files import read_json
from pose.skeleton import Skeleton

CONFIDENCES = "confidences"
"""The field of an annotation with a number for each of its keypoints: how sure the network was that made them."""


def own_confidences(annotated: AnnotatedPersons, path: Path, persons: Persons, own: Skeleton) -> np.ndarray:
    """(N, K) confidences of the annotations' own keypoints, in the order of ``own`` as these; NaN where none is stated.

    Raises:
        DataError: They are not as many numbers in [0, 1] as the file has keypoints.
    """
    none = [float("nan")] * own.num_keypoints
    stated = {annotation["id"]: annotation.get(CONFIDENCES) for annotation in annotated.records}
    rows = [stated[each] for each in persons.annotation_ids.tolist()]
    try:
        values = np.array([none if row is None else row for row in rows], np.float32)
        values = values.reshape(len(persons), own.num_keypoints)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{path}: the {CONFIDENCES} of an annotation must be {own.num_keypoints} numbers, one a keypoint"
        ) from error
    wrong = ~((values >= 0) & (values <= 1)).all(1) & np.array([row is not None for row in rows], bool)
    if wrong.any():
        which = persons.annotation_ids[int(wrong.argmax())]
        raise DataError(f"{path}: the {CONFIDENCES} of annotation {which} must be numbers from 0 to 1")
    return values[:, keypoint_places(annotated.category, own, path)]


def extra_joints(
    path: Path, annotated: AnnotatedPersons, written: Sequence[Mapping[str, Any]], persons: Persons, skeleton: Skeleton
) -> np.ndarray:
    """(N, K, 3) x, y and confidence; NaN for persons that the file does not name.

    Args:
        path: The file, from the ids that annotations are written with to joints.
        annotated: The persons of an annotation file, which may have been numbered anew.
        written: The annotation file's ``annotations``.
        persons: Some of these persons.
        skeleton: What the joints are.

    Raises:
        DataError: The file is wrong, names none of the persons, or ids are repeated, so that it does not say whose the
            joints are.
    """
    stated = read_json(path, "file of a network's joints")
    none = [[float("nan")] * 3] * skeleton.num_keypoints
    names = {record["id"]: written[row]["id"] for record, row in zip(annotated.records, annotated.rows, strict=True)}
    if len(set(names.values())) < len(names):
        raise DataError(f"{annotated.path}: ids of annotations are repeated, but {path} goes by them; number them anew")
    ids = [str(names[each]) for each in persons.annotation_ids.tolist()]
    try:
        joints = np.array([stated.get(each, none) for each in ids], np.float32)
        joints = joints.reshape(len(persons), skeleton.num_keypoints, 3)
    except (AttributeError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: needs an object from annotation id to {skeleton.num_keypoints} times x, y, confidence, the "
            f"keypoints of {skeleton.name} in its order"
        ) from error
    named = np.array([each in stated for each in ids], bool)
    if not named.any():
        raise DataError(f"{path}: names none of the {len(ids):,} persons of {annotated.path}; is it of another file?")
    if not np.isfinite(joints[named]).all():
        raise DataError(f"{path}: a joint is no finite number; correct or remove it")
    return joints
