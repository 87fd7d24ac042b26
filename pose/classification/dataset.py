"""Labelled images as a data set: one decoding and one resampling each, in batches of uint8."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from pose.classification.augment import RandomPart
from pose.classification.folder import LabeledImages
from pose.classification.settings import ClassifierSettings
from pose.datasets.batch_dataset import BatchDataset
from pose.datasets.images import decode_checked, read_bytes
from pose.errors import DataError

READ_TOGETHER = 16
"""Files that are in memory at a time."""


class LabeledBatch(NamedTuple):
    """N images.

    Attributes:
        crops: (N, H, W, 3) uint8 BGR.
        labels: (N,) int64.
        rows: (N,) int64, each image's row in its :class:`~pose.classification.folder.LabeledImages`.
        problems: What is wrong with images that could not be used, in whose place others stand.
    """

    crops: Tensor
    labels: np.ndarray
    rows: np.ndarray
    problems: tuple[str, ...] = ()


class ImageDataset(BatchDataset[LabeledBatch]):
    """Images, asked for as (epoch, row, copy), so that their augmentation depends on nothing else.

    Args:
        images: The images that it has.
        settings: ``data`` and ``augmentation`` are used.
        train: Vary them by the augmentation, and let the next image take the place of a broken one.
    """

    def __init__(self, images: LabeledImages, settings: ClassifierSettings, train: bool) -> None:
        data = settings.data
        self.images = images
        self.input_size = (data.input_size, data.input_size)
        self.broken_share = data.broken_share if train else 0.0
        self.seed = settings.train.seed
        augmentation = settings.augmentation if train else None
        self.part = RandomPart(augmentation) if augmentation is not None else None
        self.middle = MiddlePart(data.resize, data.input_size)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, keys: Sequence[tuple[int, ...]]) -> LabeledBatch:
        """The images by (epoch, row, copy).

        Raises:
            DataError: An image cannot be used, and no other may take its place.
        """
        rows = [key[1] for key in keys]
        pixels = self.new_crops(len(keys))
        problems: list[str] = []
        variations = self.part.draw(self.seed, keys) if self.part else []
        for place, (read, out) in enumerate(zip(self._read(rows), pixels, strict=True)):
            while isinstance(image := self._decoded(read), DataError):
                rows[place] = (rows[place] + 1) % len(self)  # the next image instead
                if not self.broken_share or rows[place] == keys[place][1]:
                    raise image
                problems.append(str(image))
                (read,) = self._read([rows[place]])
            if self.part:
                self.part(image, variations[place], out)
            else:
                out[...] = self.middle(image)
        labels = self.images.labels[rows].astype(np.int64)
        return LabeledBatch(torch.from_numpy(pixels), labels, np.array(rows), tuple(problems))

    def _read(self, rows: Sequence[int]) -> Iterator[tuple[str, bytes] | DataError]:
        """Names and contents of files, some read at a time: between two decodings a file takes twice as long."""
        for first in range(0, len(rows), READ_TOGETHER):
            yield from [self._file(row) for row in rows[first : first + READ_TOGETHER]]

    def _file(self, row: int) -> tuple[str, bytes] | DataError:
        path = self.images.path(row)
        try:
            return path, read_bytes(path)
        except DataError as error:
            return error

    @staticmethod
    def _decoded(read: tuple[str, bytes] | DataError) -> np.ndarray | DataError:
        if isinstance(read, DataError):
            return read
        path, data = read
        try:
            return decode_checked(data, path)
        except DataError as error:
            return error


class MiddlePart:
    """The transform of an image to be tested, (H, W, 3) uint8: the shorter side resized, the middle taken."""

    def __init__(self, resize: int, size: int) -> None:
        self.steps = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(size)])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.steps(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
