"""Predicted persons of a whole data set as arrays, and COCO's keypoint results format: written, read and checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pose.datasets.categories import of_category
from pose.errors import DataError
from pose.files import read_json, write_json
from pose.poses import to_coco_results
from pose.skeleton import PERSON_CATEGORY


class ResultsError(DataError):
    """Results that cannot be scored; the message is one line that names the record and what is wrong with it."""


@dataclass(frozen=True)
class Predictions:
    """What a network said about N persons, before rescoring and suppression.

    Args:
        image_ids: (N,) int64.
        keypoints: (N, K, 3) float: x, y in pixels of the picture, and the joint's score.
        boxes: (N, 4) float: x, y, width, height in pixels, the boxes that the crops were made from.
        box_scores: (N,) float: the detector's scores, 1 for annotated boxes.
        areas: (N,) float: the padded crop's width x height in pixels^2, which OKS-NMS uses.
        annotation_ids: (N,) int64 of the annotations whose boxes were used, or None.

    Raises:
        ResultsError: A shape does not fit, or a number is NaN or infinite.
    """

    image_ids: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    box_scores: np.ndarray
    areas: np.ndarray
    annotation_ids: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name, array in self.arrays().items():
            object.__setattr__(self, name, np.asarray(array))
        count = len(self.image_ids)
        if self.image_ids.ndim != 1 or not np.issubdtype(self.image_ids.dtype, np.integer):
            raise ResultsError("predictions: image_ids must be a list of integers")
        if self.keypoints.ndim != 3 or len(self.keypoints) != count or self.keypoints.shape[2] != 3:
            raise ResultsError(f"predictions: keypoints has the shape {self.keypoints.shape}, wanted ({count}, K, 3)")
        shapes = {"boxes": (count, 4), "box_scores": (count,), "areas": (count,), "annotation_ids": (count,)}
        for name, array in self.arrays().items():
            wanted = shapes.get(name, array.shape)
            if array.shape != wanted:
                raise ResultsError(f"predictions: {name} has the shape {array.shape}, wanted {wanted}")
            if not np.isfinite(array).all():
                row = int(np.argwhere(~np.isfinite(array))[0, 0])
                image = int(self.image_ids[row])
                raise ResultsError(f"predictions: {name} of person {row} (image {image}) holds NaN or infinity")

    def __len__(self) -> int:
        return len(self.image_ids)

    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that are there, by name."""
        present = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: array for name, array in present.items() if array is not None}

    def select(self, indices: NDArray[np.bool_ | np.integer] | Sequence[int] | slice) -> Predictions:
        """The persons at these indices, or where a boolean (N,) mask is true, in that order."""
        return Predictions(**{name: array[indices] for name, array in self.arrays().items()})

    @classmethod
    def empty(cls, num_keypoints: int) -> Predictions:
        """No person at all, for K keypoints."""
        return cls(np.zeros(0, np.int64), np.zeros((0, num_keypoints, 3)), np.zeros((0, 4)), np.zeros(0), np.zeros(0))

    @classmethod
    def concatenate(cls, parts: Sequence[Predictions]) -> Predictions:
        """All persons of several non-empty-list parts in order; a field that any part lacks is left out.

        Raises:
            ValueError: No parts.
        """
        if not parts:
            raise ValueError("no predictions to concatenate; use Predictions.empty")
        names = [name for name in parts[0].arrays() if all(name in part.arrays() for part in parts)]
        return cls(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


@dataclass(frozen=True)
class Results:
    """N persons as figures are computed from them and as a results file has them: scored, suppressed, rounded.

    Args:
        image_ids: (N,) int64.
        keypoints: (N, K, 3) float64: x, y in pixels of the picture, and the joint's score.
        scores: (N,) float64 person scores.
    """

    image_ids: np.ndarray
    keypoints: np.ndarray
    scores: np.ndarray

    def __len__(self) -> int:
        return len(self.image_ids)

    def select(self, indices: NDArray[np.bool_ | np.integer] | Sequence[int] | slice) -> Results:
        """The persons at these indices, or where a boolean (N,) mask is true, in that order."""
        return Results(self.image_ids[indices], self.keypoints[indices], self.scores[indices])

    def records(self, category_id: int = PERSON_CATEGORY) -> list[dict]:
        """COCO's keypoint results format, for a file: 100,000 persons are millions of Python objects."""
        return to_coco_results(self.image_ids, self.keypoints, self.scores, category_id)


def write_results(path: str | Path, results: Sequence[Mapping]) -> None:
    """Write a results file, beside its place and renamed, so an older one is never half lost.

    Raises:
        OutputError: The place cannot be written.
    """
    write_json(path, results)


def read_results(
    path: str | Path,
    num_keypoints: int | None = None,
    image_ids: Collection[int] | None = None,
    category_id: int = PERSON_CATEGORY,
    tell: Callable[[str], None] = print,
) -> list[dict]:
    """Read and check a results file; what is checked is what :func:`check_results` says.

    Records of other categories are left out and told, where there are some of the persons'.

    Args:
        path: A JSON file in COCO's keypoint results format.
        num_keypoints: K of the skeleton; None takes that of the first record.
        image_ids: The ids that the annotations know; None leaves that unchecked.
        category_id: The persons' category.
        tell: Takes the line about records of other categories.

    Raises:
        DataError: It is missing or no JSON.
        ResultsError: It is no list, or a record is wrong; the message names the file.
    """
    results = read_json(path, "results file")
    source = str(path)
    if isinstance(results, list) and all(isinstance(record, Mapping) and _has_category(record) for record in results):
        chosen, notices = of_category(results, category_id, path, "records")
        if chosen and notices:
            results, source = chosen, f"{path}, records of category {category_id}"
            tell(notices[0])
    check_results(results, num_keypoints, image_ids, category_id, source)
    return results


def _has_category(record: Mapping) -> bool:
    return isinstance(record.get("category_id"), int)


def size_notice(results: Sequence[Mapping]) -> str:
    """A line where other programs wrote joints that they did not find at (0, 0), else nothing.

    pycocotools 2.0.11 makes a result's area from all its keypoints (``COCO.loadRes``), so such a person counts as a
    larger one: AP is the same, AP(M) and AP(L) are not (findings/cocoeval_sizes_of_absent_joints.sh).
    """
    keypoints = [record["keypoints"] for record in results]
    count = sum(any(x == y == 0 for x, y in zip(points[0::3], points[1::3], strict=True)) for points in keypoints)
    if not count:
        return ""
    return (
        f"{count:,} of {len(results):,} persons have joints at (0, 0), which count in the size that pycocotools gives "
        "a result: AP(M) and AP(L) are not what they would be without"
    )


def check_results(
    results: Sequence[Mapping],
    num_keypoints: int | None = None,
    image_ids: Collection[int] | None = None,
    category_id: int = PERSON_CATEGORY,
    source: str = "results",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Check records of COCO's keypoint results format and return them as arrays.

    Args:
        results: The records; an empty list is fine.
        num_keypoints: K of the skeleton; None takes that of the first record.
        image_ids: The ids that the annotations know; None leaves that unchecked.
        category_id: The category that every record must have.
        source: What messages call the results: the file's name.

    Returns:
        image ids (N,) int64, keypoints (N, K, 3) float64, person scores (N,) float64.

    Raises:
        ResultsError: Not a list of records, a field is missing or of a wrong type, another
            category, an unknown image id, a wrong number of keypoints, NaN or infinity, or two
            records with the same image, keypoints and score.
    """
    if not isinstance(results, list):
        raise ResultsError(f"{source}: wanted a list of records, got {type(results).__name__}")
    for index, record in enumerate(results):
        _check_record(record, f"{source}: record {index}")
    ids = _whole(results, "image_id", source)
    lengths = np.fromiter((len(record["keypoints"]) for record in results), np.int64, len(results))
    count = num_keypoints if num_keypoints is not None else int(lengths[0]) // 3 if results else 0
    length = 3 * count

    def refuse(wrong: np.ndarray, say: str) -> None:
        """Raise about the first record where the (N,) mask is true."""
        if wrong.any():
            index = int(wrong.argmax())
            raise ResultsError(f"{source}: record {index} (image {ids[index]}) {say.format(index=index)}")

    categories = _whole(results, "category_id", source)
    refuse(categories != category_id, f"is of another category than {category_id}")
    if image_ids is not None:
        known = np.fromiter(image_ids, np.int64, len(image_ids))
        refuse(~np.isin(ids, known), "is of an image that the annotations do not have")
    refuse(lengths != length, f"has not {length} numbers in 'keypoints' ({count} keypoints, x y score each)")
    try:
        numbers = chain.from_iterable(record["keypoints"] for record in results)
        keypoints = np.fromiter(numbers, np.float64, length * len(results)).reshape(len(results), length)
        scores = np.fromiter((record["score"] for record in results), np.float64, len(results))
    except (TypeError, ValueError, OverflowError) as error:
        raise ResultsError(f"{source}: a keypoint or a score is not a number ({error})") from error
    refuse(~(np.isfinite(keypoints).all(axis=1) & np.isfinite(scores)), "holds NaN, infinity or null")
    refuse(_repeated(ids, keypoints, scores), "is the same as an earlier record")
    return ids, keypoints.reshape(len(results), count, 3), scores


def _whole(results: Sequence[Mapping], key: str, source: str) -> np.ndarray:
    """(N,) int64 of a field that is known to be whole numbers."""
    try:
        return np.fromiter((record[key] for record in results), np.int64, len(results))
    except OverflowError as error:
        raise ResultsError(f"{source}: a record has a number beyond 64 bits as {key!r}") from error


def _check_record(record: object, name: str) -> None:
    if not isinstance(record, Mapping):
        raise ResultsError(f"{name} is not an object but {type(record).__name__}")
    for key, wanted in (("image_id", int), ("category_id", int), ("keypoints", list), ("score", (int, float))):
        if not isinstance(record.get(key), wanted):
            what = "has no" if key not in record else f"has {type(record[key]).__name__} as"
            raise ResultsError(f"{name} {what} {key!r}")
        if wanted is int and not -(2**63) <= record[key] < 2**63:
            raise ResultsError(f"{name} has a number beyond 64 bits as {key!r}")


def _repeated(ids: np.ndarray, keypoints: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(N,) bool: true where an earlier record has the same image, keypoints and score."""
    rows = np.column_stack([ids.astype(np.float64), scores, keypoints]) + 0.0  # makes -0.0 the same bytes as 0.0
    first = np.unique(rows.view(f"V{rows.itemsize * rows.shape[1]}").ravel(), return_index=True)[1]
    repeated = np.ones(len(rows), bool)
    repeated[first] = False
    return repeated
