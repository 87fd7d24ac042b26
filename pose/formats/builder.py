"""Persons collected one after another, as the formats list them, before they become arrays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from pose.errors import DataError
from pose.formats.dataset import ImageRecord, PoseDataset, make_dataset
from pose.skeleton import Skeleton

Point = tuple[float, float, float]
"""x, y in pixels, and COCO's visibility."""


@dataclass
class Builder:
    """Images and persons so far; keypoints are kept by name until all names are known.

    Attributes:
        images: By file name, in the order of their coming.
        left_out: See :class:`~pose.formats.dataset.PoseDataset`.
    """

    images: dict[str, ImageRecord] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    _persons: list[tuple[str, Mapping[str, Point], Sequence[float] | None, int]] = field(default_factory=list)

    def add_image(self, image: ImageRecord) -> None:
        """An image, with persons or without; the first record of a name stays."""
        self.images.setdefault(image.file_name, image)

    def add_person(
        self, file_name: str, points: Mapping[str, Point], box: Sequence[float] | None = None, track: int = -1
    ) -> None:
        """A person on an image that was added: keypoints by name, and x, y, width, height where somebody drew a box."""
        self._persons.append((file_name, points, box, track))

    @property
    def names(self) -> list[str]:
        """Every keypoint's name that a person has, in the order of their coming."""
        return list(dict.fromkeys(name for _, points, _, _ in self._persons for name in points))

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
        left_out = self.left_out.copy()
        for row, (_, points, _, _) in enumerate(self._persons):
            for name, point in points.items():
                if name in places:
                    keypoints[row, places[name]] = point
                else:
                    left_out[f"keypoints {name!r}"] += 1
        boxes = [[np.nan] * 4 if box is None else box for _, _, box, _ in self._persons]
        owners = [rows[file_name] for file_name, _, _, _ in self._persons]
        tracks = [track for _, _, _, track in self._persons]
        return make_dataset(skeleton, self.images.values(), owners, keypoints, left_out, boxes=boxes, tracks=tracks)
