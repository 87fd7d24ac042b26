"""The order of persons: by epoch and seed, cut into batches, shared out to processes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from pose.errors import DataError


class EpochBatches(Sampler):
    """Yields the batches of one process as lists of (epoch, row, copy).

    In training, one shuffle by seed and epoch is cut into batches that the processes take in turn, so
    N processes with batches of B see the same persons together as one process with N batches of B.
    In testing, every batch holds the same persons whatever the number of processes.

    Args:
        length: Number of persons.
        batch_size: Persons per batch.
        train: Shuffle, and leave out what does not fill a whole optimizer step of all processes.
        seed: The seed of the shuffle.
        shard: Which process this is, from 0, and how many there are.
        accumulate: Batches per process and optimizer step.
        draws: For consecutive groups of persons, how many each has, and how often each of them is drawn in an epoch of
            training. The whole part of that number draws everyone, what is left of it that share of the group (to the
            nearest person), chosen by seed and epoch: an epoch is always as long. None draws everyone once.

    Attributes:
        drawn: How many persons an epoch draws, those that are drawn twice counted twice.
        epoch: The epoch of the next iteration, counted from 0; set it before iterating.
        first_batch: How many batches of that epoch are left out because they have been seen.

    Raises:
        DataError: Training has fewer persons than one optimizer step needs.
    """

    def __init__(
        self,
        length: int,
        batch_size: int,
        train: bool,
        seed: int = 0,
        shard: tuple[int, int] = (0, 1),
        accumulate: int = 1,
        draws: Sequence[tuple[int, float]] | None = None,
    ) -> None:
        self.length = length
        self.batch_size = batch_size
        self.train = train
        self.seed = seed
        self.shard = shard
        self.accumulate = accumulate
        self.draws = tuple(draws or [(length, 1.0)])
        if sum(count for count, _ in self.draws) != length:
            raise ValueError(f"draws are of {sum(count for count, _ in self.draws)} persons, there are {length}")
        self.drawn = sum(int(times) * count + _rest(count, times) for count, times in self.draws)
        self.epoch = 0
        self.first_batch = 0
        if train and len(self) == 0:
            wanted = batch_size * shard[1] * accumulate
            more = f" ({batch_size} x {shard[1]} processes x {accumulate} accumulated)" if wanted > batch_size else ""
            raise DataError(
                f"the training set has {self.drawn} persons, fewer than the batch size {wanted}{more}; "
                "lower train.batch_size"
            )

    def __len__(self) -> int:
        """The batches of a whole epoch."""
        index, count = self.shard
        if self.train:
            return self.drawn // (self.batch_size * count * self.accumulate) * self.accumulate
        return len(range(index, -(-self.length // self.batch_size), count))

    def __iter__(self) -> Iterator[list[tuple[int, int, int]]]:
        rows, copies = np.arange(self.length), np.zeros(self.length, dtype=np.int64)
        if self.train:
            rows, copies = self._drawn_rows()
            order = np.random.default_rng((self.seed, self.epoch)).permutation(len(rows))
            rows, copies = rows[order], copies[order]
        index, count = self.shard
        for number in range(self.first_batch, len(self)):
            start = (number * count + index) * self.batch_size
            batch = slice(start, start + self.batch_size)
            yield [
                (self.epoch, row, copy)
                for row, copy in zip(*(each[batch].tolist() for each in (rows, copies)), strict=True)
            ]

    def _drawn_rows(self) -> tuple[np.ndarray, np.ndarray]:
        """(D,) rows of the persons that the epoch draws, and the number of each among its person's draws."""
        rows, copies = [], []
        first = 0
        for group, (count, times) in enumerate(self.draws):
            for copy in range(int(times)):
                rows.append(np.arange(first, first + count))
                copies.append(np.full(count, copy))
            some = _rest(count, times)
            if some:
                chosen = np.random.default_rng((self.seed, self.epoch, group, 1)).permutation(count)[:some]
                rows.append(first + chosen)
                copies.append(np.full(some, int(times)))
            first += count
        return np.concatenate(rows), np.concatenate(copies)


def _rest(count: int, times: float) -> int:
    """How many of ``count`` persons the fraction of ``times`` draws."""
    return round(count * (times - int(times)))
