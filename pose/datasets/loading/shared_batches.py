"""How batches come from workers: crops in memory that is used again and again, everything else through the pipe.

torch's own way makes new shared memory for every batch, and the system clears each of its pages, which takes
about a twentieth of the time of decoding. It also needs room in /dev/shm, which containers have little of.
"""

from __future__ import annotations

import math
import mmap
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import get_worker_info

from pose.datasets.batch_dataset import BatchDataset, Loaded
from pose.datasets.workers import start_worker
from pose.errors import DataError

AHEAD = 2
"""Batches that a worker makes before they are asked for."""


class SharedBatches:
    """Hands batches over; the collate function of a loader.

    Args:
        workers: Worker processes; with 0, batches are handed on as they are.
        batch_size: Crops per batch, at most.
        input_size: Width and height of the crops.
    """

    def __init__(self, workers: int, batch_size: int, input_size: tuple[int, int]) -> None:
        width, height = input_size
        self._crops = _shared((workers, AHEAD, batch_size, height, width, 3))
        self._busy = _shared((workers, AHEAD))
        self._place: tuple[int, int] | None = None

    def start_worker(self, number: int) -> None:
        """What a worker does first."""
        start_worker(number)
        worker = get_worker_info()
        assert worker is not None and isinstance(worker.dataset, BatchDataset)
        worker.dataset.room = partial(self._room, worker.id)

    def _free_place(self, worker: int) -> tuple[int, int] | None:
        """Where a worker's next batch goes; None where the main process is behind, or has given up an epoch."""
        free = np.flatnonzero(self._busy[worker] == 0)
        return (worker, int(free[0])) if len(free) else None

    def _room(self, worker: int, count: int) -> np.ndarray | None:
        """Memory for a worker's next batch, where there is some already."""
        self._place = self._free_place(worker)
        return self._crops[self._place][:count] if self._place else None

    def __call__(self, batch: Any) -> Any:
        """In a worker, puts a batch's crops where the main process finds them, and their place into the batch."""
        worker = get_worker_info()
        if worker is None or isinstance(batch, DataError):
            return batch
        crops, place = batch.crops.numpy(), self._place
        if place is None or crops.ctypes.data != self._crops[place].ctypes.data:
            place = self._free_place(worker.id)
            if place is None:
                return batch._replace(crops=crops)  # through the pipe
            self._crops[place][: len(crops)] = crops
        self._busy[place] = 1
        return batch._replace(crops=place)

    def take(self, batch: Loaded) -> Loaded:
        """In the main process, gives a batch its crops, in pinned memory where there is a GPU; frees their place."""
        if isinstance(batch.crops, torch.Tensor):
            return batch
        place = batch.crops if isinstance(batch.crops, tuple) else None
        source = torch.from_numpy(self._crops[place][: len(batch.rows)] if place else batch.crops)
        crops = torch.empty(source.shape, dtype=torch.uint8, pin_memory=torch.cuda.is_available()).copy_(source)
        if place:
            self._busy[place] = 0
        return batch._replace(crops=crops)


def _shared(shape: tuple[int, ...]) -> np.ndarray:
    """Zeros, uint8, that forked processes share; the system gives the memory when it is first written."""
    try:
        memory = mmap.mmap(-1, max(math.prod(shape), 1))
    except (OSError, OverflowError) as error:
        raise MemoryError(f"no {math.prod(shape):,} bytes for the batches of {shape[0]} workers") from error
    return np.frombuffer(memory, np.uint8, math.prod(shape)).reshape(shape)
