"""The poses of one image as arrays, and as records of COCO's keypoint results format."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike

from pose.errors import DataError
from pose.skeleton import PERSON_CATEGORY, Skeleton


@dataclass(frozen=True)
class Person:
    """One person of an image.

    Attributes:
        keypoints: (K, 3) float64 x, y in pixels of the image, and the joint's score.
        score: The person's score.
        box: (4,) float64 x, y, width, height in pixels.
        box_score: The detector's score.
        track_id: Which person this is over the frames of a video; None in single images.
    """

    keypoints: np.ndarray
    score: float
    box: np.ndarray
    box_score: float
    track_id: int | None = None


@dataclass(frozen=True)
class Poses:
    """N persons of one image.

    ``len(poses)`` is N, ``poses[0]`` is the first :class:`Person`, a loop goes over one person after another, and
    ``poses[:2]`` or ``poses[poses.scores > 0.5]`` are the ``Poses`` of some of them::

        for person in poses:
            x, y, score = person.keypoints[poses.skeleton.keypoints.index("nose")]

    The package ``supervision`` (0.29 and later) draws and filters them, too::

        supervision.KeyPoints(xy=poses.keypoints[..., :2], keypoint_confidence=poses.keypoints[..., 2])

    Attributes:
        boxes: (N, 4) float64 x, y, width, height in pixels, as they were given or detected.
        box_scores: (N,) float64, the detector's scores, or 1 where it gave none.
        keypoints: (N, K, 3) float64 x, y in pixels of the image, and the joint's score.
        scores: (N,) float64 person scores: box score x mean of the good joint scores.
        areas: (N,) float64 pixels^2 of the padded crops, the scale of a person in OKS.
        sources: (N,) int64, the row of the given boxes that each person came from.
        skeleton: Names the K keypoints and the limbs between them.
        track_ids: (N,) int64, which person is which over the frames of a video; None in single images.
        threshold: The joint score from which a joint is worth drawing, where the network's calibration tells; joint
            scores are probabilities then, see :mod:`pose.evaluation.calibration`.
    """

    boxes: np.ndarray
    box_scores: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray
    areas: np.ndarray
    sources: np.ndarray
    skeleton: Skeleton
    track_ids: np.ndarray | None = None
    threshold: float | None = None

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        scores = ", ".join(f"{score:.2f}" for score in self.scores[:8]) + (", ..." if len(self) > 8 else "")
        return f"Poses({len(self)} persons, {self.skeleton.num_keypoints} keypoints, scores [{scores}])"

    @overload
    def __getitem__(self, index: int) -> Person: ...

    @overload
    def __getitem__(self, index: slice | np.ndarray | Sequence[int] | Sequence[bool]) -> Poses: ...

    def __getitem__(self, index: int | slice | np.ndarray | Sequence[int] | Sequence[bool]) -> Person | Poses:
        """One person by number, or the poses of several by a slice, a boolean mask (N,) or (M,) indices.

        Raises:
            IndexError: There is no such person, or the mask is not of N.
        """
        if isinstance(index, (int, np.integer)):
            if not -len(self) <= index < len(self):
                raise IndexError(f"there is no person {index}, only {len(self)} persons")
            track_id = None if self.track_ids is None else int(self.track_ids[index])
            score, box_score = float(self.scores[index]), float(self.box_scores[index])
            return Person(self.keypoints[index], score, self.boxes[index], box_score, track_id)
        if not isinstance(index, slice):
            index = np.asarray(index)
            index = index if index.size else index.astype(np.int64)  # NumPy takes an empty list for floats
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        taken: dict[str, Any] = {name: each[index] for name, each in values.items() if isinstance(each, np.ndarray)}
        return replace(self, **taken)

    def __iter__(self) -> Iterator[Person]:
        return (self[row] for row in range(len(self)))

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Records of COCO's keypoint results format, see :func:`to_coco_results`.

        Args:
            image_id: The image's id in the annotation file, written into every record.
        """
        return to_coco_results([image_id] * len(self), self.keypoints, self.scores)


def to_coco_results(
    image_ids: ArrayLike, keypoints: ArrayLike, scores: ArrayLike, category_id: int = PERSON_CATEGORY
) -> list[dict[str, Any]]:
    """Persons as records of COCO's keypoint results format, in plain Python numbers.

    The numbers are :func:`rounded`.

    Args:
        image_ids: (N,) integers.
        keypoints: (N, K, 3) x, y in pixels of the image, and the joint's score.
        scores: (N,) person scores.
        category_id: Written into every record.

    Returns:
        N of ``{"image_id", "category_id", "keypoints": 3K floats, "score"}``.

    Raises:
        DataError: A number is NaN or infinite, which JSON has no way to write.
    """
    keypoints, scores = rounded(keypoints, scores)
    if not (np.isfinite(keypoints).all() and np.isfinite(scores).all()):
        raise DataError("keypoints or scores hold NaN or infinity, which no results file can; is the network damaged?")
    flat = keypoints.reshape(len(keypoints), 3 * keypoints.shape[1])
    records = zip(np.asarray(image_ids).tolist(), flat.tolist(), scores.tolist(), strict=True)
    return [
        {"image_id": image_id, "category_id": category_id, "keypoints": points, "score": score}
        for image_id, points, score in records
    ]


def distinct_ids(ids: Sequence[int | None], first: int = 1) -> list[int]:
    """The ids of a COCO file's records: those that are known where all are different ones of 64 bits, else a count.

    Args:
        ids: The known id of each record, or None.
        first: The number that the count begins with.
    """
    known = [number for number in ids if number is not None and -(2**63) <= number < 2**63]
    return known if len(set(known)) == len(ids) else list(range(first, first + len(ids)))


def rounded(keypoints: ArrayLike, scores: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """What a results file says of (N, K, 3) keypoints and (N,) person scores, as float64.

    Coordinates have 3 digits after the point, joint scores 5 and person scores 8. Figures are
    computed from these, so they are the same whether or not the results went through a file.
    """
    keypoints = np.asarray(keypoints, np.float64)
    keypoints = np.concatenate([keypoints[..., :2].round(3), keypoints[..., 2:].round(5)], axis=-1)
    return keypoints, np.asarray(scores, np.float64).round(8)
