"""The order of persons: by epoch and seed, cut into batches, shared out to processes."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler

from pose.errors import DataError


class EpochBatches(Sampler):
    """Yields the batches of one process as lists of (epoch, row).

    In training, one shuffle by seed and epoch is cut into batches that the processes take in turn, so
    N processes with batches of B see the same persons together as one process with N batches of B.
    In testing, every batch holds the same persons whatever the number of processes.

    Args:
        length: Number of persons.
        batch_size: Persons per batch.
        train: Shuffle, and leave out what does not fill a whole optimiser step of all processes.
        seed: Of the shuffle.
        shard: Which process this is, from 0, and how many there are.
        accumulate: Batches per process and optimiser step.

    Attributes:
        epoch: The epoch of the next iteration, counted from 0; set it before iterating.
        first_batch: How many batches of that epoch are left out because they have been seen.

    Raises:
        DataError: Training has fewer persons than one optimiser step needs.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        train: bool,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        accumulate: int = 1,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.train = train
        self.seed = seed
        self.shard = shard
        self.accumulate = accumulate
        self.epoch = 0
        self.first_batch = 0
        if train and len(self) == 0:
            wanted = batch_size * shard[1] * accumulate
            more = f" ({batch_size} x {shard[1]} processes x {accumulate} accumulated)" if wanted > batch_size else ""
            raise DataError(
                f"the training set has {length} persons, fewer than the batch size {wanted}{more}; "
                "lower train.batch_size"
            )

    def __len__(self) -> int:
        """The batches of a whole epoch."""
        index, count = self.shard
        if self.train:
            return self.length // (self.batch_size * count * self.accumulate) * self.accumulate
        return len(range(index, -(-self.length // self.batch_size), count))

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        order = np.arange(self.length)
        if self.train:
            order = np.random.default_rng((self.seed, self.epoch)).permutation(self.length)
        index, count = self.shard
        for number in range(self.first_batch, len(self)):
            start = (number * count + index) * self.batch_size
            yield [(self.epoch, row) for row in order[start : start + self.batch_size].tolist()]
