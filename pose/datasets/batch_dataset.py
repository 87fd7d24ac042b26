"""What the loader loads: a data set that makes whole batches and sends an error instead of raising it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from pose.errors import DataError


class AnyBatch(Protocol):
    """What is common to batches of crops and of labelled images; a named tuple."""

    @property
    def crops(self) -> Tensor:
        """(N, H, W, 3) uint8 BGR."""

    @property
    def rows(self) -> np.ndarray:
        """(N,) int64, each crop's row in its data set."""


Loaded = TypeVar("Loaded", bound=AnyBatch)


class BatchDataset(Dataset[Loaded | DataError]):
    """Crops, asked for as (epoch, row) or (epoch, row, copy), so that their augmentation depends on nothing else.

    Attributes:
        input_size: Width and height of the crops.
        room: In a worker what gives shared memory for so many crops, where there is some.
    """

    input_size: tuple[int, int]
    room: Callable[[int], np.ndarray | None] | None = None

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitem__(self, key: tuple[int, ...]) -> Loaded | DataError:
        return self.__getitems__([key])

    def __getitems__(self, keys: Sequence[tuple[int, ...]]) -> Loaded | DataError:
        """A batch of (epoch, row) or (epoch, row, copy).

        An image that cannot be used comes back as the error itself: raised in a worker it would
        reach the main process wrapped in a traceback.
        """
        try:
            return self.batch(keys)
        except DataError as error:
            return error

    def new_crops(self, count: int) -> np.ndarray:
        """(count, height, width, 3) uint8 for a batch's pixels: in a worker where the loader takes them."""
        width, height = self.input_size
        shared = self.room(count) if self.room else None
        return np.empty((count, height, width, 3), np.uint8) if shared is None else shared

    def batch(self, keys: Sequence[tuple[int, ...]]) -> Loaded:
        """The batch of :meth:`__getitems__`, where an error is raised.

        Raises:
            DataError: An image cannot be used.
        """
        raise NotImplementedError
