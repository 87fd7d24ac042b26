"""Labelled images as a data set: one decoding and one resampling each, in batches of uint8."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torchvision.transforms import v2

from pose.classification.folder import LabeledImages
from pose.classification.settings import ClassifierSettings, ImageAugmentation
from pose.datasets.batch_dataset import BatchDataset
from pose.datasets.images import read_image
from pose.errors import DataError

TRIES = 10
"""Parts of an image that are drawn for one that fits."""


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
        pixels = torch.empty(len(keys), *self.input_size, 3, dtype=torch.uint8)
        problems: list[str] = []
        for place, (key, out) in enumerate(zip(keys, pixels.numpy(), strict=True)):
            image = None
            while image is None:
                try:
                    image = read_image(self.images.path(rows[place]))
                except DataError as error:
                    rows[place] = (rows[place] + 1) % len(self)  # the next image instead
                    if not self.broken_share or rows[place] == key[1]:
                        raise
                    problems.append(str(error))
            if self.part:
                self.part(image, np.random.default_rng((self.seed, key[0], rows[place], *key[2:])), out)
            else:
                out[...] = self.middle(image)
        labels = self.images.labels[rows].astype(np.int64)
        return LabeledBatch(pixels, labels, np.array(rows), tuple(problems))


class RandomPart:
    """A training image's way into the network's input: a random part of it, flipped half the time, its colors varied.

    The part is drawn by the rule of torchvision's ``RandomResizedCrop``, and colors vary by its ``ColorJitter``; NumPy
    draws and OpenCV resamples, which takes a third of the time.

    Args:
        augmentation: How images vary.
    """

    def __init__(self, augmentation: ImageAugmentation) -> None:
        self.augmentation = augmentation
        colors = augmentation.brightness, augmentation.contrast, augmentation.saturation
        self.jitter = v2.ColorJitter(*colors) if any(colors) else None

    def __call__(self, image: np.ndarray, rng: np.random.Generator, out: np.ndarray) -> None:
        """Writes (H, W, 3) uint8 BGR into ``out``, (size, size, 3) uint8."""
        drawn = self.augmentation
        left, top, width, height = random_part(image.shape[1], image.shape[0], drawn.scale, drawn.ratio, rng)
        part = shrunk(image[top : top + height, left : left + width], out.shape[0])
        flip = rng.random() < drawn.flip_probability
        pixels = cv2.resize(part, out.shape[:2], None if flip else out, interpolation=cv2.INTER_LINEAR)
        if flip:
            cv2.flip(pixels, 1, out)
        if self.jitter:
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(int(rng.integers(2**63)))
                rgb = torch.from_numpy(out).permute(2, 0, 1).flip(0)
                out[...] = self.jitter(rgb).flip(0).permute(1, 2, 0).numpy()


def random_part(
    width: int, height: int, scale: tuple[float, float], ratio: tuple[float, float], rng: np.random.Generator
) -> tuple[int, int, int, int]:
    """A random part of an image, as torchvision's ``RandomResizedCrop`` draws it (Szegedy, arXiv 1409.4842).

    Args:
        width, height: The image's width and height in pixels.
        scale: The least and the largest share of its area.
        ratio: The least and the largest width over height, drawn evenly in its logarithm.
        rng: The source of all random numbers.

    Returns:
        Left, top, width and height in pixels: of the first of ten parts that the image has room for, else of the
        largest middle part within ``ratio``.
    """
    area = width * height * rng.uniform(*scale, TRIES)
    low, high = np.log(ratio).tolist()
    shape = np.exp(rng.uniform(low, high, TRIES))
    widths, heights = np.rint(np.sqrt(area * shape)).astype(int), np.rint(np.sqrt(area / shape)).astype(int)
    places = rng.random(2)
    fitting = np.flatnonzero((widths > 0) & (heights > 0) & (widths <= width) & (heights <= height))
    if not len(fitting):
        part = min(width, max(round(height * ratio[1]), 1)), min(height, max(round(width / ratio[0]), 1))
        return (width - part[0]) // 2, (height - part[1]) // 2, *part
    part = int(widths[fitting[0]]), int(heights[fitting[0]])
    return int(places[0] * (width - part[0] + 1)), int(places[1] * (height - part[1] + 1)), *part


def shrunk(image: np.ndarray, size: int) -> np.ndarray:
    """An image, (H, W, 3) uint8, in which whole pixels are averaged as far as that leaves ``size`` of them a side.

    One bilinear resampling of what is left leaves out nothing of the image; Pillow's ``reducing_gap`` does the same.
    """
    height, width = image.shape[:2]
    rows, columns = max(height // size, 1), max(width // size, 1)
    if rows == columns == 1:
        return image
    whole = image[: height // rows * rows, : width // columns * columns]
    return cv2.resize(whole, (width // columns, height // rows), interpolation=cv2.INTER_AREA)


class MiddlePart:
    """The transform of an image to be tested, (H, W, 3) uint8: the shorter side resized, the middle taken."""

    def __init__(self, resize: int, size: int) -> None:
        self.steps = v2.Compose([v2.Resize(resize, antialias=True), v2.CenterCrop(size)])

    def __call__(self, image: np.ndarray) -> np.ndarray:
        return self.steps(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0).numpy()
