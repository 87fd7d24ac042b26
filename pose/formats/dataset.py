"""Labeled persons as every format is read into and written from, and a count of what was left out on the way."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from pose.errors import DataError
from pose.poses import distinct_ids
from pose.skeleton import Skeleton

BOX_MARGIN = 0.05
"""Where nobody drew a box, it is the labeled keypoints' extent and this share of it on every side."""


@dataclass(frozen=True)
class ImageRecord:
    """One image of a data set.

    Attributes:
        file_name: Relative to the image folder, with forward slashes.
        width: Its width in pixels.
        height: Its height in pixels.
        id: Its number in the file; None where the file has none.
    """

    file_name: str
    width: int
    height: int
    id: int | None = None


@dataclass(frozen=True)
class PoseDataset:
    """N persons with K keypoints on M images.

    What a format does not say is NaN, and what it says beyond these fields is counted in ``left_out``, so that a
    conversion can tell what it loses.

    Attributes:
        skeleton: Names the K keypoints.
        images: M images, with persons or without.
        owners: (N,) int64, each person's row in ``images``.
        keypoints: (N, K, 3) float64 x, y in pixels and COCO's visibility 0, 1 or 2; x and y are 0 where it is 0.
        boxes: (N, 4) float64 x, y, width, height in pixels; NaN where nobody drew one.
        areas: (N,) float64 pixels^2 of the outline; NaN where nobody drew one.
        crowd: (N,) bool, regions of many persons, without keypoints.
        scores: (N,) float64 of found persons; NaN for labeled ones.
        joint_scores: (N, K) float64 of found joints; NaN for labeled ones.
        tracks: (N,) int64, which person this is over the images of a video; -1 where nobody says.
        ids: (N,) int64, as the file numbers them, unique; -1 where it does not.
        left_out: What the file held that has no place here, with how many of it.
    """

    skeleton: Skeleton
    images: tuple[ImageRecord, ...]
    owners: np.ndarray
    keypoints: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    crowd: np.ndarray
    scores: np.ndarray
    joint_scores: np.ndarray
    tracks: np.ndarray
    ids: np.ndarray
    left_out: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self.owners)

    @property
    def labeled(self) -> np.ndarray:
        """(N, K) bool: keypoints that are labeled, seen or hidden."""
        return self.keypoints[..., 2] > 0

    @property
    def persons(self) -> np.ndarray:
        """(N,) bool: no crowd, and at least one labeled keypoint."""
        return ~self.crowd & self.labeled.any(1)

    def take(self, rows: ArrayLike) -> PoseDataset:
        """The persons in these rows, by indices or a mask (N,); the images stay."""
        rows = np.asarray(rows)
        names = ("owners", "keypoints", "boxes", "areas", "crowd", "scores", "joint_scores", "tracks", "ids")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def boxes_or_extents(self) -> np.ndarray:
        """(N, 4) ``boxes``, and :func:`extents` where there is none; NaN for who has neither."""
        drawn = np.isfinite(self.boxes).all(1)
        return np.where(drawn[:, None], self.boxes, extents(self.keypoints))

    def image_ids(self) -> np.ndarray:
        """(M,) int64: the file's numbers where all images have different ones of 64 bits, else 1, 2, 3 ..."""
        return np.array(distinct_ids([image.id for image in self.images]), np.int64)

    def person_ids(self) -> np.ndarray:
        """(N,) int64: the file's numbers where all persons have different ones above 0, else 1, 2, 3 ..."""
        return np.array(distinct_ids([number if number > 0 else None for number in self.ids.tolist()]), np.int64)


def make_dataset(
    skeleton: Skeleton,
    images: Iterable[ImageRecord],
    owners: ArrayLike,
    keypoints: ArrayLike,
    left_out: Counter[str] | None = None,
    **known: Any,
) -> PoseDataset:
    """A data set of what a format says; everything else becomes NaN, False or -1.

    Args:
        skeleton, images, owners, left_out: See :class:`PoseDataset`.
        keypoints: (N, K, 3); places of unlabeled ones may be anything.
        known: Other fields of :class:`PoseDataset`, by name.

    Raises:
        DataError: A labeled keypoint has no finite place, or a visibility is not 0, 1 or 2.
    """
    owners = np.asarray(owners, np.int64).reshape(-1)
    count, width = len(owners), skeleton.num_keypoints
    points = np.array(keypoints, np.float64).reshape(count, width, 3)
    labeled = points[..., 2] > 0
    if not np.isin(points[..., 2], (0, 1, 2)).all():
        raise DataError("a keypoint's visibility is not 0, 1 or 2")
    if not np.isfinite(points[labeled]).all():
        raise DataError("a labeled keypoint has no finite x and y")
    points[~labeled] = 0
    fields: dict[str, Any] = {
        "boxes": np.full((count, 4), np.nan),
        "areas": np.full(count, np.nan),
        "crowd": np.zeros(count, bool),
        "scores": np.full(count, np.nan),
        "joint_scores": np.full((count, width), np.nan),
        "tracks": np.full(count, -1, np.int64),
        "ids": np.full(count, -1, np.int64),
    }
    for name, values in known.items():
        fields[name] = np.asarray(values, fields[name].dtype).reshape(fields[name].shape)
    return PoseDataset(skeleton, tuple(images), owners, points, left_out=Counter(left_out or {}), **fields)


def extents(keypoints: np.ndarray) -> np.ndarray:
    """(N, 4) boxes x, y, width, height around labeled keypoints (N, K, 3), with :data:`BOX_MARGIN`; NaN for none.

    A person whose labeled keypoints are all in one row or column gets a box of a pixel in that direction.
    """
    labeled = keypoints[..., 2:] > 0
    low = np.where(labeled, keypoints[..., :2], np.inf).min(1, initial=np.inf)
    high = np.where(labeled, keypoints[..., :2], -np.inf).max(1, initial=-np.inf)
    some = labeled.any(1)
    low, high = (np.where(some, ends, np.nan) for ends in (low, high))
    size = np.maximum(high - low, 1.0)
    return np.hstack([low - BOX_MARGIN * size, (1 + 2 * BOX_MARGIN) * size])


def relative_name(name: str, roots: Sequence[str] = ()) -> str:
    """A file name with forward slashes, without a drive, a leading slash or the first of ``roots`` it begins with.

    Folders that ``..`` leaves again are gone; a ``..`` before all others stays, since it says where the image is.
    """
    path = PurePosixPath(posixpath.normpath(str(name).replace("\\", "/")))
    for root in roots:
        if path.is_relative_to(root):
            return path.relative_to(root).as_posix()
    return "/".join(part for part in path.parts if part.strip("/") and not part.endswith(":"))


def inner_names(images: Iterable[ImageRecord], dropped: Sequence[str] = ()) -> list[PurePosixPath]:
    """Where a folder that is written keeps images: :func:`relative_name` without ``..`` before it.

    Args:
        images: The images whose names are asked for.
        dropped: Folders that the format gives another meaning, left out of the names.

    Raises:
        DataError: Nothing is left of a name, or two differ in no more than their suffixes, so that in a format with a
            file an image one would take the other's place.
    """
    first: dict[PurePosixPath, str] = {}
    names = []
    for image in images:
        parts = PurePosixPath(relative_name(image.file_name)).parts
        name = PurePosixPath(*(part for part in parts[:-1] if part not in ("..", *dropped)), *parts[-1:])
        if name.name in ("", ".."):
            raise DataError(f"an image is called {image.file_name!r}, which names no file; correct its file_name")
        stem = name.with_suffix("")
        if stem in first:
            raise DataError(
                f"the images {first[stem]} and {image.file_name} would share the file of {stem}: their names are the "
                "same but for suffix or folder; rename one"
            )
        first[stem] = image.file_name
        names.append(name)
    return names


def found_joints(joint_scores: np.ndarray, threshold: float) -> np.ndarray:
    """Visibilities of found joints: 2 from the threshold on, else 0."""
    return np.where(joint_scores >= threshold, 2.0, 0.0)


def below_threshold(threshold: float) -> str:
    """What :attr:`PoseDataset.left_out` calls found joints that became unlabeled."""
    return f"joints below the score {threshold:g} (unlabeled now)"


def with_skeleton(dataset: PoseDataset, target: Skeleton) -> PoseDataset:
    """The same persons with another skeleton's keypoints, by name; what only one has is unlabeled and counted.

    Raises:
        DataError: The skeletons share no name.
    """
    source = dataset.skeleton
    if target == source:
        return dataset
    shared = [name for name in target.keypoints if name in source.keypoints]
    if not shared:
        raise DataError(f"skeletons {source.name} and {target.name} share no keypoint's name")
    taken = [source.keypoints.index(name) for name in shared]
    places = [target.keypoints.index(name) for name in shared]
    keypoints = np.zeros((len(dataset), target.num_keypoints, 3))
    joint_scores = np.full(keypoints.shape[:2], np.nan)
    keypoints[:, places] = dataset.keypoints[:, taken]
    joint_scores[:, places] = dataset.joint_scores[:, taken]
    gone = int(dataset.labeled.sum() - (keypoints[..., 2] > 0).sum())
    left_out = dataset.left_out + Counter({f"keypoints that {target.name} does not have": gone})
    return replace(dataset, skeleton=target, keypoints=keypoints, joint_scores=joint_scores, left_out=left_out)
