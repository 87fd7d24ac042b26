"""The crops of persons: one decoding and one warp each, in batches of uint8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pose.datasets.augment import Augmentation, Crop, augment
from pose.datasets.batch_dataset import BatchDataset
from pose.datasets.coco import Persons
from pose.datasets.crop_cache import open_crop_cache
from pose.datasets.image_folder import ImageFolder, Source
from pose.datasets.images import warp
from pose.datasets.orientation import ImageNotices
from pose.datasets.pixels import augment_pixels, changes_pixels
from pose.errors import DataError
from pose.geometry import apply_affine, boxes_to_centers_scales, crop_affine
from pose.skeleton import Skeleton


class Batch(NamedTuple):
    """N crops.

    Attributes:
        crops: (N, H, W, 3) uint8 BGR.
        keypoints: (N, K, 2) float32 in crop pixels.
        weights: (N, K) float32, what each keypoint weighs in the loss; 0 where it is not labelled.
        rows: (N,) int64, each person's row in its :class:`~pose.datasets.coco.Persons`.
        problems: What is wrong with pictures that could not be used, in whose place others stand.
        notices: (notice, path) of pictures that were turned by their EXIF mark, or may have to be.
    """

    crops: Tensor
    keypoints: np.ndarray
    weights: np.ndarray
    rows: np.ndarray
    problems: tuple[str, ...] = ()
    notices: tuple[tuple[str, str], ...] = ()

    @property
    def labeled(self) -> np.ndarray:
        """(N, K) bool."""
        return self.weights > 0


class CropDataset(BatchDataset[Batch]):
    """Person crops. They are asked for as (epoch, row, copy), so that augmentation depends on nothing else.

    Args:
        persons: The persons that the crops show.
        image_root: The folder that their file names are relative to.
        skeleton: What their keypoints are.
        input_size: Width and height of the crops.
        augmentation: How crops vary; None for the plain crop of the box.
        seed: The seed of the augmentation.
        broken_share: The share of the pictures that may be absent or broken: another person takes the
            place of theirs, and :class:`Batch` says so.
        reduced_decode: Decode pictures smaller where a crop allows it.
        crop_cache: A folder for a :mod:`~pose.datasets.crop_cache`; None reads the pictures.
        workers: Processes that make the cache.
        tell: Takes a line about that.

    Attributes:
        image_indices: The pictures that they are on, rows of the table of pictures.
        problems: What is wrong with pictures that are known to be unusable.
        notices: Counts the pictures of the batches that were turned, or may have to be.

    Raises:
        DataError: More pictures are missing than may be.
    """

    def __init__(
        self,
        persons: Persons,
        image_root: str | Path,
        skeleton: Skeleton,
        input_size: tuple[int, int],
        augmentation: Augmentation | None = None,
        seed: int = 0,
        *,
        broken_share: float = 0.0,
        reduced_decode: bool = False,
        crop_cache: Path | None = None,
        workers: int = 0,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.persons = persons
        self.weights = persons.weights
        self.image_indices = np.unique(persons.image_index)
        self.centers, self.scales = boxes_to_centers_scales(persons.boxes, input_size[0] / input_size[1])
        self.skeleton = skeleton
        width, height = input_size
        self.input_size = (width, height)
        self.augmentation = augmentation
        self.seed = seed
        self.broken_share = broken_share
        self.upper_body = np.isin(np.arange(skeleton.num_keypoints), skeleton.upper_body)
        self.images = ImageFolder(persons, image_root, reduced_decode)
        self.source: Source = self.images
        self.notices = ImageNotices()
        self.problems = list(map(str, self.images.missing()))
        if len(self.problems) > int(broken_share * len(self.image_indices)):
            raise DataError(f"{self.problems[0]} ({len(self.problems)} of {len(self.image_indices)} are missing)")
        if crop_cache is not None:
            self.source = open_crop_cache(
                crop_cache, self.images, self.upper_body, self.input_size, augmentation, workers, reduced_decode, tell
            )
            self.problems += set(self.source.broken.values()) - set(self.problems)
            self.notices.add(self.source.notices, tell)
            self.notices.tell_counts(tell)

    @property
    def aspect_ratio(self) -> float:
        """Width over height of the crops."""
        return self.input_size[0] / self.input_size[1]

    def __len__(self) -> int:
        return len(self.persons)

    def crop_of(self, epoch: int, row: int, copy: int = 0) -> Crop:
        """Where the crop of a person lies in an epoch; ``copy`` counts the times that it is drawn there, from 0."""
        plain = Crop(self.centers[row], self.scales[row])
        if self.augmentation is None:
            return plain
        rng = self._random((epoch, row, copy))
        return augment(plain, self.persons.keypoints[row], self.upper_body, self.aspect_ratio, self.augmentation, rng)

    def _random(self, key: tuple[int, ...], pixels: bool = False) -> np.random.Generator:
        """The random numbers of a crop's place, or of its pixels."""
        epoch, row, copy = key if len(key) == 3 else (*key, 0)
        numbers = (copy, 1) if pixels else (copy,) if copy else ()
        return np.random.default_rng((self.seed, epoch, row, *numbers))

    def batch(self, keys: Sequence[tuple[int, ...]]) -> Batch:
        """The crops by (epoch, row) or (epoch, row, copy).

        Raises:
            DataError: A picture cannot be used, and no other may take its place.
        """
        rows = [key[1] for key in keys]
        crops = [self.crop_of(*key) for key in keys]
        affines = self._affines(crops)
        pixels = self.new_crops(len(keys))
        problems: list[str] = []
        for place, (key, out) in enumerate(zip(keys, pixels, strict=True)):
            view = None
            while view is None:
                try:
                    view = self.source.view(rows[place], crops[place].scale[0] / self.input_size[0])
                except DataError as error:
                    rows[place] = (rows[place] + 1) % len(self)  # the next person instead
                    if not self.broken_share or rows[place] == key[1]:
                        raise
                    problems.append(str(error))
                    crops[place] = self.crop_of(key[0], rows[place], *key[2:])
                    affines[place] = self._affines(crops[place : place + 1])
            warp(view.image, view.seen(affines[place]), self.input_size, out)
            if self.augmentation is not None and changes_pixels(self.augmentation):
                augment_pixels(out, self.augmentation, self._random((key[0], rows[place], *key[2:]), pixels=True))
        keypoints = self.persons.keypoints[rows]
        points = apply_affine(keypoints[..., :2], affines).astype(np.float32)
        weights = self.weights[rows]
        flips, swapped = np.array([crop.flip for crop in crops]), self.skeleton.flip_index
        points[flips], weights[flips] = points[flips][:, swapped], weights[flips][:, swapped]
        notices = tuple(dict.fromkeys(self.images.notices))
        self.images.notices.clear()
        return Batch(torch.from_numpy(pixels), points, weights, np.array(rows), tuple(problems), notices)

    def _affines(self, crops: Sequence[Crop]) -> np.ndarray:
        """(N, 2, 3) maps from pictures to crops."""
        centers, scales, rotations, flips = (np.array(values) for values in zip(*crops, strict=True))
        return crop_affine(centers, scales, self.input_size, rotations, flips)
