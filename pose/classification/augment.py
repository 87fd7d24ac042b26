"""How training images vary: what chance says for a whole batch at once, and one image resampled by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import cv2
import numpy as np
import torch
from torchvision.transforms import v2

from pose.classification.settings import ImageAugmentation

TRIES = 10
"""Parts of an image that are drawn for one that fits."""

SHARP = 1.5
"""How many times smaller bilinear resampling makes an image without much aliasing."""


class Variation(NamedTuple):
    """What chance says of one image.

    Attributes:
        sides: Width and height of :data:`TRIES` parts, each of an image whose area is 1.
        place: Where the part lies in what room it has, from 0 (left, top) to 1.
        flip: Whether left and right change places.
        seed: The seed of how the colors vary.
    """

    sides: list[list[float]]
    place: list[float]
    flip: bool
    seed: int


class RandomPart:
    """A training image's way into the network's input: a random part of it, flipped half the time, its colors varied.

    The part is drawn by the rule of torchvision's ``RandomResizedCrop``, and colors vary by its ``ColorJitter``. NumPy
    draws, for a whole batch at once: between two images, whose pixels fill the caches, the same lines take ten times
    as long. OpenCV resamples.

    Args:
        augmentation: How images vary.
    """

    def __init__(self, augmentation: ImageAugmentation) -> None:
        self.augmentation = augmentation
        colors = augmentation.brightness, augmentation.contrast, augmentation.saturation
        self.jitter = v2.ColorJitter(*colors) if any(colors) else None

    def draw(self, seed: int, keys: Sequence[tuple[int, ...]]) -> list[Variation]:
        """What chance says of images, (epoch, row, copy): it depends on nothing else."""
        augmentation = self.augmentation
        drawn = chances(seed, keys, 2 * TRIES + 4)
        areas, ratios, places, others = np.split(drawn, [TRIES, 2 * TRIES, 2 * TRIES + 2], axis=1)
        first, last = augmentation.scale
        low, high = np.log(augmentation.ratio)
        areas, ratios = first + (last - first) * areas, np.exp(low + (high - low) * ratios)
        sides = np.sqrt([areas * ratios, areas / ratios]).transpose(1, 2, 0)
        flips, seeds = others[:, 0] < augmentation.flip_probability, (others[:, 1] * 2**53).astype(np.int64)
        return list(map(Variation, sides.tolist(), places.tolist(), flips.tolist(), seeds.tolist()))

    def __call__(self, image: np.ndarray, variation: Variation, out: np.ndarray) -> None:
        """Writes (H, W, 3) uint8 BGR into ``out``, (size, size, 3) uint8."""
        left, top, width, height = part_of(image.shape[1], image.shape[0], variation, self.augmentation.ratio)
        resample(image[top : top + height, left : left + width], out)
        if variation.flip:
            cv2.flip(out, 1, out)
        if self.jitter:
            with torch.random.fork_rng(devices=[]):
                torch.random.default_generator.manual_seed(variation.seed)
                rgb = torch.from_numpy(out).permute(2, 0, 1).flip(0)
                out[...] = self.jitter(rgb).flip(0).permute(1, 2, 0).numpy()


def chances(seed: int, keys: Sequence[tuple[int, ...]], count: int) -> np.ndarray:
    """Evenly distributed numbers from 0 to 1 for images by (epoch, row, copy), (N, ``count``).

    Philox counts on from any number as if it had come there (Salmon, 2011), so an image costs 9 us where a generator
    of its own costs 50: seed and epoch are its key, row and copy are where it counts from.
    """
    philox = np.random.Philox(key=0)
    rng, state = np.random.Generator(philox), philox.state
    drawn = np.empty((len(keys), count))
    for (epoch, *image), out in zip(keys, drawn, strict=True):
        state["state"]["key"][:] = seed, epoch
        state["state"]["counter"][1 : 1 + len(image)] = image
        philox.state = state
        rng.random(out=out)
    return drawn


def part_of(width: int, height: int, variation: Variation, ratio: tuple[float, float]) -> tuple[int, int, int, int]:
    """A random part of an image, as torchvision's ``RandomResizedCrop`` takes it (Szegedy, arXiv 1409.4842).

    Args:
        width, height: The image's width and height in pixels.
        variation: What chance says.
        ratio: The least and the largest width over height.

    Returns:
        Left, top, width and height in pixels: of the first of the drawn parts that the image has room for, else of the
        largest middle part within ``ratio``.
    """
    side = math.sqrt(width * height)
    for wide, tall in variation.sides:
        part = round(side * wide), round(side * tall)
        if 0 < part[0] <= width and 0 < part[1] <= height:
            left, top = variation.place
            return int(left * (width - part[0] + 1)), int(top * (height - part[1] + 1)), *part
    part = min(width, max(round(height * ratio[1]), 1)), min(height, max(round(width / ratio[0]), 1))
    return (width - part[0]) // 2, (height - part[1]) // 2, *part


def resample(image: np.ndarray, out: np.ndarray) -> None:
    """Writes an image, (H, W, 3) uint8, into ``out``, (h, w, 3) uint8, much as antialiased bilinear resampling does.

    A side that is much larger is resampled to twice its size there, of which pairs are averaged, so that no pixel is
    left out. torchvision's own resampling takes twice the time; a test holds how far this is from it.
    """
    size_y, size_x = out.shape[:2]
    height, width = image.shape[:2]
    while height >= 2 * SHARP * size_y or width >= 2 * SHARP * size_x:
        image = _averaged(image, 2 if height >= 2 * SHARP * size_y else 1, 2 if width >= 2 * SHARP * size_x else 1)
        height, width = image.shape[:2]
    rows, columns = 2 if height >= SHARP * size_y else 1, 2 if width >= SHARP * size_x else 1
    if rows == columns == 1:
        cv2.resize(image, (size_x, size_y), out, interpolation=cv2.INTER_LINEAR)
    else:
        fine = cv2.resize(image, (columns * size_x, rows * size_y), interpolation=cv2.INTER_LINEAR)
        cv2.resize(fine, (size_x, size_y), out, interpolation=cv2.INTER_LINEAR)


def _averaged(image: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Averages of 1 or 2 rows by 1 or 2 columns of pixels, which is what bilinear resampling by whole factors takes."""
    height, width = image.shape[0] // rows, image.shape[1] // columns
    whole = image[: height * rows, : width * columns]
    return cv2.resize(whole, (width, height), interpolation=cv2.INTER_LINEAR)
