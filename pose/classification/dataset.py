"""Labelled images as a data set: one decoding and one resampling each, in batches of uint8."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms import v2

from pose.classification.folder import LabeledImages
from pose.classification.settings import ClassifierSettings, ImageAugmentation
from pose.datasets.images import read_image
from pose.errors import DataError


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


class ImageDataset(Dataset):
    """Images, asked for as (epoch, row, copy), so that their augmentation depends on nothing else.

    Args:
        images: Which ones.
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
        self.random = augmentation is not None
        self.transform = varied(augmentation, data.input_size) if augmentation else plain(data.resize, data.input_size)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: tuple[int, ...]) -> LabeledBatch | DataError:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, ...]]) -> LabeledBatch | DataError:
        """A batch of (epoch, row, copy); an image that cannot be used comes back as the error itself.

        Raised in a worker it would reach the main process wrapped in a traceback. torch's random numbers, which the
        transforms draw from, are left as they were.
        """
        generator = torch.random.default_generator
        before = generator.get_state()
        try:
            return self._batch(keys)
        except DataError as error:
            return error
        finally:
            generator.set_state(before)

    def _batch(self, keys: Sequence[tuple[int, ...]]) -> LabeledBatch:
        rows = [key[1] for key in keys]
        pixels = torch.empty(len(keys), *self.input_size, 3, dtype=torch.uint8)
        problems: list[str] = []
        for place, (key, out) in enumerate(zip(keys, pixels, strict=True)):
            image = None
            while image is None:
                try:
                    image = read_image(self.images.path(rows[place]))
                except DataError as error:
                    rows[place] = (rows[place] + 1) % len(self)  # the next image instead
                    if not self.broken_share or rows[place] == key[1]:
                        raise
                    problems.append(str(error))
            if self.random:
                numbers = np.random.SeedSequence((self.seed, key[0], rows[place], *key[2:]))
                torch.random.default_generator.manual_seed(int(numbers.generate_state(1)[0]))
            out.copy_(self.transform(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0))
        labels = self.images.labels[rows].astype(np.int64)
        return LabeledBatch(pixels, labels, np.array(rows), tuple(problems))


def varied(augmentation: ImageAugmentation, size: int) -> Callable[[Tensor], Tensor]:
    """The transform of a training image, (3, H, W) uint8 BGR, into one with sides of ``size``."""
    steps: list[Callable] = [
        v2.RandomResizedCrop(size, augmentation.scale, augmentation.ratio, antialias=True),
        v2.RandomHorizontalFlip(augmentation.flip_probability),
    ]
    colors = augmentation.brightness, augmentation.contrast, augmentation.saturation
    if any(colors):
        swap = v2.Lambda(lambda image: image.flip(0))  # color transforms take RGB
        steps += [swap, v2.ColorJitter(*colors), swap]
    return v2.Compose(steps)


def plain(resize: int, size: int) -> Callable[[Tensor], Tensor]:
    """The transform of an image to be tested: the shorter side resized, the middle taken."""
    return v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(size)])
