"""Loading: persons become batches on the device, some of it in workers and some on the device.

A worker decodes a picture and warps it once; uint8 crops and keypoints travel. Normalising and
drawing targets happen on the device for the whole batch.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeVar

import cv2
import torch
from torch.utils.data import DataLoader
from tqdm import tqdm

from pose.datasets.batch_dataset import BatchDataset, Loaded
from pose.datasets.loading.order import EpochBatches
from pose.datasets.loading.shared_batches import AHEAD, SharedBatches
from pose.datasets.workers import forking, start_worker, usable_workers
from pose.errors import DataError

Plain = TypeVar("Plain")
Kind = TypeVar("Kind", bound=BatchDataset[Any])


def make_loader(
    dataset: BatchDataset[Loaded],
    batch_size: int,
    workers: int,
    train: bool,
    seed: int = 0,
    shard: tuple[int, int] = (0, 1),
    accumulate: int = 1,
    draws: Sequence[tuple[int, float]] | None = None,
) -> DataLoader[Loaded | DataError]:
    """Batches of crops; ``loader.batch_sampler`` is an :class:`~pose.datasets.loading.order.EpochBatches`.

    Args:
        dataset: What to load.
        batch_size, train, seed, shard, accumulate, draws: As for ``EpochBatches``.
        workers: Worker processes; 0 loads in this one, as where a system cannot fork. With workers, OpenCV uses one
            thread from here on, in this process too.

    Raises:
        DataError: Training has fewer persons than one optimizer step needs.
    """
    options = worker_options(workers, train)
    shared = SharedBatches(options["num_workers"], batch_size, dataset.input_size)
    options["worker_init_fn"] = shared.start_worker
    return DataLoader(
        dataset,
        batch_sampler=EpochBatches(len(dataset), batch_size, train, seed, shard, accumulate, draws),
        collate_fn=shared,
        **options,
    )


def worker_options(workers: int, train: bool) -> dict[str, Any]:
    """What torch's ``DataLoader`` is told of processes, whatever it loads.

    With workers, OpenCV uses one thread from here on, in this process too.

    Args:
        workers: Processes, no more than there are processors; 0 loads in this one, as where a system cannot fork.
        train: Whether they stay from epoch to epoch.
    """
    workers = usable_workers(workers)
    if workers:
        cv2.setNumThreads(1)  # here, not in the workers: a forked copy of a thread pool that was in use waits forever
    return {
        "num_workers": workers,
        "multiprocessing_context": forking() if workers else None,
        "prefetch_factor": AHEAD if workers else None,
        "generator": torch.Generator(),  # else every iteration takes a number from the global one, the model's
        "persistent_workers": workers > 0 and train,
        "worker_init_fn": start_worker,
    }


def batches(loader: DataLoader[Loaded | DataError]) -> Iterator[Loaded]:
    """The batches of :func:`make_loader`'s loader; pictures that were turned are told and counted on standard error.

    Raises:
        DataError: A worker sent it instead of a batch, or the system ended a worker.
    """
    shared = loader.collate_fn
    assert isinstance(shared, SharedBatches)
    notices, tell = getattr(loader.dataset, "notices", None), partial(tqdm.write, file=sys.stderr)
    with _ended_workers_told():
        waiting = iter(loader)
        try:
            while (batch := next(waiting, None)) is not None:
                if isinstance(batch, DataError):
                    raise batch
                taken = shared.take(batch)
                if notices is not None:
                    notices.add(getattr(taken, "notices", ()), tell)
                yield taken
            if notices is not None:
                notices.tell_counts(tell)
        finally:
            del waiting  # ends its workers now, not when the last traceback that leads here is forgotten


def dataset_of(loader: DataLoader[Any], kind: type[Kind]) -> Kind:
    """What :func:`make_loader` was given, a data set of this kind."""
    dataset = loader.dataset
    assert isinstance(dataset, kind)
    return dataset


def plain_batches(loader: DataLoader[Plain]) -> Iterator[Plain]:
    """The batches of any loader with :func:`worker_options`, as they are.

    Raises:
        DataError: The system ended a worker.
    """
    with _ended_workers_told():
        yield from loader


@contextmanager
def _ended_workers_told() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise DataError(
            "the system ended a process that loads data, as it does when memory runs out; lower data.workers"
        ) from error
