"""Canvases as a data set, in an order that a stopped training takes up where it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from pose.datasets.loading.loader import worker_options
from pose.datasets.loading.order import EpochBatches
from pose.detection.canvas import CanvasSettings, compose
from pose.detection.image_cache import ImageCache
from pose.detection.labels import LabeledImages
from pose.detection.targets import NOTHING


class CanvasBatch(NamedTuple):
    """B canvases.

    Attributes:
        images: (B, H, W, 3) uint8 BGR; or (B, C, h, w) float32, features that the network goes on from.
        boxes: (B, M, 4) float32 x1, y1, x2, y2 in canvas pixels.
        kinds: (B, M) int64, see :mod:`pose.detection.targets`.
    """

    images: Tensor
    boxes: Tensor
    kinds: Tensor


class Canvases(Dataset[tuple[Any, np.ndarray, np.ndarray]]):
    """What :func:`canvas_loader` loads, by (epoch, row) or (epoch, row, copy): a canvas or its features, boxes, kinds.

    Attributes:
        seed: The seed of the order.
    """

    seed: int

    def __len__(self) -> int:
        raise NotImplementedError


class CanvasDataset(Canvases):
    """Endless canvases: each of an epoch's rows is drawn anew every epoch, from the seed alone.

    Args:
        images: The images' boxes and weights.
        cache: The images' pixels, row by row the same pictures.
        rows: Which of them to draw from.
        length: The number of canvases in an epoch.
        size: Width and height of a canvas.
        settings: How a canvas is put together.
        seed: The seed of all random numbers.
    """

    def __init__(
        self,
        images: LabeledImages,
        cache: ImageCache,
        rows: np.ndarray,
        length: int,
        size: tuple[int, int],
        settings: CanvasSettings,
        seed: int = 0,
    ) -> None:
        self.images, self.cache, self.rows = images, cache, rows[cache.usable[rows]]
        width, height = size
        self.length, self.size, self.settings, self.seed = length, (width, height), settings, seed
        self._until = np.cumsum(images.weights[self.rows])

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """A canvas by epoch and row: see :func:`pose.detection.canvas.compose`."""
        rng = np.random.default_rng((self.seed, *place))
        return compose(self._take, self.size, self.settings, rng)

    def _take(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        drawn = np.searchsorted(self._until, rng.uniform() * self._until[-1], side="right")
        row = self.rows[min(drawn, len(self.rows) - 1)]
        image, scale = self.cache[row]
        return image, self.images.boxes[row] * np.tile(scale, 2), self.images.kinds[row]


def collate(canvases: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]]) -> CanvasBatch:
    """Canvases of one size as a batch, boxes padded."""
    images, boxes, kinds = zip(*canvases, strict=True)
    most = max(1, *map(len, kinds))
    padded = np.zeros((len(boxes), most, 4), np.float32)
    padded_kinds = np.full((len(boxes), most), NOTHING, np.int64)
    for row, (box, kind) in enumerate(zip(boxes, kinds, strict=True)):
        padded[row, : len(box)], padded_kinds[row, : len(kind)] = box, kind
    pixels = torch.stack([torch.as_tensor(image) for image in images])
    return CanvasBatch(pixels, torch.from_numpy(padded), torch.from_numpy(padded_kinds))


def canvas_loader(dataset: Canvases, batch_size: int, workers: int = 0, accumulate: int = 1) -> DataLoader[CanvasBatch]:
    """Batches in an order by the dataset's seed; ``loader.batch_sampler`` is an ``EpochBatches``.

    :func:`pose.datasets.loading.loader.plain_batches` takes them. With workers, OpenCV uses one thread from here on.

    Args:
        dataset: What to load.
        batch_size: Canvases per batch.
        workers: Worker processes; 0 loads in this one.
        accumulate: Batches per optimizer step: no epoch ends amid one, whose gradients a checkpoint would not hold.
    """
    loader: DataLoader[Any] = DataLoader(
        dataset,
        batch_sampler=EpochBatches(len(dataset), batch_size, True, dataset.seed, accumulate=accumulate),
        collate_fn=collate,
        **worker_options(workers, train=True),
    )
    return loader
