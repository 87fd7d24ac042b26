"""From persons to batches on the device: what runs in workers, and what runs on the device.

A worker decodes a picture and warps it once; uint8 crops and keypoints travel. Normalising and
drawing targets happen on the device for the whole batch.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from multiprocessing.context import ForkContext, ForkProcess

import cv2
import torch
from torch.utils.data import DataLoader

from pose.datasets.crops import Batch as Batch
from pose.datasets.crops import CropDataset as CropDataset
from pose.datasets.loading.order import EpochBatches
from pose.datasets.loading.shared_batches import AHEAD, SharedBatches
from pose.errors import DataError

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of glibc's mallopt


def make_loader(
    dataset: CropDataset,
    batch_size: int,
    workers: int,
    train: bool,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    accumulate: int = 1,
    draws: Sequence[tuple[int, float]] | None = None,
) -> DataLoader[Batch | DataError]:
    """Batches of crops; ``loader.batch_sampler`` is an :class:`~pose.datasets.loading.order.EpochBatches`.

    Args:
        dataset: What to load.
        batch_size, train, seed, shard, accumulate, draws: As for ``EpochBatches``.
        workers: Worker processes; 0 loads in this one. With workers, OpenCV uses one thread from
            here on, in this process too.

    Raises:
        DataError: Training has fewer persons than one optimizer step needs.
    """
    if workers:
        cv2.setNumThreads(1)  # here, not in the workers: a forked copy of a thread pool that was in use waits forever
    return DataLoader(
        dataset,
        batch_sampler=EpochBatches(len(dataset), batch_size, train, seed, shard, accumulate, draws),
        num_workers=workers,
        multiprocessing_context=_Fork() if workers else None,
        prefetch_factor=AHEAD if workers else None,
        collate_fn=SharedBatches(workers, batch_size, dataset.input_size),
        generator=torch.Generator(),  # else every iteration takes a number from the global one, which is the model's
        persistent_workers=workers > 0 and train,
        worker_init_fn=_start_worker,
    )


class _Worker(ForkProcess):
    """A process that loads data; named so that :func:`_end_workers` knows it."""


class _Fork(ForkContext):
    """Starts workers by fork, which shares the arrays of persons."""

    Process = _Worker


@atexit.register  # after multiprocessing's own, which is then called later
def _end_workers() -> None:
    """Ends the workers of a loader that is still referred to: multiprocessing would send SIGTERM and wait forever."""
    for process in multiprocessing.active_children():
        if isinstance(process, _Worker):
            process.kill()


def _start_worker(worker: int) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler signals all processes: the main one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_memory()


def _keep_memory() -> None:
    """Lets the C library keep what decoders free: getting it back from the system costs a fault for each 4 KiB."""
    with contextlib.suppress(OSError, AttributeError):  # another C library
        library = ctypes.CDLL(None)
        for option in (_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD):
            library.mallopt(option, 64 << 20)


def batches(loader: DataLoader[Batch | DataError]) -> Iterator[Batch]:
    """The batches of :func:`make_loader`'s loader.

    Raises:
        DataError: A worker sent it instead of a batch, or the system ended a worker.
    """
    waiting = iter(loader)
    try:
        while (batch := next(waiting, None)) is not None:
            if isinstance(batch, DataError):
                raise batch
            yield loader.collate_fn.take(batch)
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "the system ended a process that loads data, as it does when memory runs out; lower data.workers"
        ) from error
    finally:
        del waiting  # ends its workers now, not when the last traceback that leads here is forgotten
