"""Persons collected one after another, as the formats list them, before they become arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from pose.errors import DataError
from pose.formats.dataset import ImageRecord, PoseDataset, below_threshold, make_dataset
from pose.skeleton import Skeleton

Point = tuple[float, float, float]
"""x, y in pixels, and COCO's visibility."""


class _Person(NamedTuple):
    """What :meth:`Builder.add_person` was given."""

    file_name: str
    points: Mapping[str, Point]
    box: Sequence[float] | None
    track: int
    score: float
    joint_scores: Mapping[str, float]


@dataclass
class Builder:
    """Images and persons so far; keypoints are kept by name until all names are known.

    Attributes:
        images: The images by file name, in the order of their coming.
        left_out: See :class:`~pose.formats.dataset.PoseDataset`.
    """

    images: dict[str, ImageRecord] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    _persons: list[_Person] = field(default_factory=list)

    def add_image(self, image: ImageRecord) -> None:
        """An image, with persons or without; the first record of a name stays."""
        self.images.setdefault(image.file_name, image)

    def add_person(
        self,
        file_name: str,
        points: Mapping[str, Point],
        box: Sequence[float] | None = None,
        track: int = -1,
        score: float = np.nan,
        joint_scores: Mapping[str, float] | None = None,
    ) -> None:
        """A person on an image that was added: keypoints by name, and x, y, width, height where somebody drew a box.

        A found person has a score, and its joints have theirs; see :meth:`found_visibility`.
        """
        self._persons.append(_Person(file_name, points, box, track, score, joint_scores or {}))

    def found_visibility(self, score: float, threshold: float) -> float:
        """A found joint's visibility, 2 from the threshold on; else 0, counted in ``left_out``."""
        if score >= threshold:
            return 2.0
        self.left_out[below_threshold(threshold)] += 1
        return 0.0

    @property
    def names(self) -> list[str]:
        """Every keypoint's name that a person has, in the order of their coming."""
        return list(dict.fromkeys(name for person in self._persons for name in person.points))

    def build(self, skeleton: Skeleton) -> PoseDataset:
        """The data set; keypoints that the skeleton does not name are counted as left out.

        Raises:
            DataError: It names none of the keypoints, or a place is no finite number.
        """
        if self.names and not set(self.names) & set(skeleton.keypoints):
            raise DataError(
                f"the keypoints are called {', '.join(self.names[:4])} ..., and the skeleton {skeleton.name!r} names "
                "none of them"
            )
        rows = {name: row for row, name in enumerate(self.images)}
        places = {name: place for place, name in enumerate(skeleton.keypoints)}
        keypoints = np.zeros((len(self._persons), skeleton.num_keypoints, 3))
        joint_scores = np.full(keypoints.shape[:2], np.nan)
        left_out = self.left_out.copy()
        for row, person in enumerate(self._persons):
            for name, point in person.points.items():
                if name in places:
                    keypoints[row, places[name]] = point
                    joint_scores[row, places[name]] = person.joint_scores.get(name, np.nan)
                else:
                    left_out[f"keypoints {name!r}"] += 1
        return make_dataset(
            skeleton, self.images.values(), [rows[person.file_name] for person in self._persons], keypoints, left_out,
            boxes=[[np.nan] * 4 if person.box is None else person.box for person in self._persons],
            tracks=[person.track for person in self._persons], scores=[person.score for person in self._persons],
            joint_scores=joint_scores,
        )  # fmt: skip
