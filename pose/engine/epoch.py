"""One epoch of training."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor
from tqdm import tqdm

from pose.datasets.broken_images import BrokenImages
from pose.engine import distributed
from pose.engine.divergence import Diverged
from pose.engine.progress import Progress
from pose.engine.signals import StopSignals
from pose.engine.task import Task

BATCHES_PER_CHECK = 16
"""On a GPU the losses are checked this often, since a check makes the host wait; on a CPU at every batch."""


@dataclass
class CheckpointTimer:
    """What happens between two optimizer steps: checkpoints by the clock, and the end that a signal asks for.

    Args:
        signals: Say whether training is to stop.
        checkpoint_minutes: The longest time between two checkpoints.
        save: Writes a checkpoint.
    """

    signals: StopSignals
    checkpoint_minutes: float
    save: Callable[[], None]
    saved: float = field(default_factory=time.perf_counter)

    def requests(self) -> tuple[bool, bool]:
        """Whether this process wants a checkpoint, and whether it wants to stop; the first one keeps the clock."""
        due = time.perf_counter() - self.saved >= 60 * self.checkpoint_minutes
        return due and distributed.is_main(), self.signals.received is not None

    def handle(self, due: bool, stop: bool) -> bool:
        """Does what any process requested; whether to stop."""
        if due or stop:
            self.save()
            self.saved = time.perf_counter()
        return stop


def train_one_epoch(task: Task, progress: Progress, timer: CheckpointTimer, title: str = "") -> bool:
    """One pass over the training data, or the rest of one.

    Args:
        task: What is trained, and what on.
        progress: Says which epoch and from which batch on; what is done is added to it.
        timer: What happens between two steps.
        title: What the progress bar is called.

    Returns:
        Whether to go on: False where the run was asked to stop.

    Raises:
        Diverged: The loss is not finite, or a checkpoint was due and the network is not.
        DataError: Too many pictures cannot be used.
    """
    order, trainer = task.order, task.trainer
    order.epoch, order.first_batch = progress.epoch, progress.batches
    check_every = trainer.accumulate * (BATCHES_PER_CHECK if trainer.device.type == "cuda" else 1)
    losses: list[Tensor] = []
    trainer.train()
    hidden = None if distributed.is_main() else True
    with tqdm(total=len(order), initial=progress.batches, desc=title, unit="batch", disable=hidden, leave=False) as bar:
        started = ready = time.perf_counter()
        for batch in task.batches(task.loader):
            progress.waited += time.perf_counter() - ready
            if task.broken:
                task.broken.add(batch.problems, partial(tqdm.write, file=sys.stderr))
            done = progress.batches + len(losses)
            trainer.set_learning_rate(task.rate_at(progress.epoch, done, len(order)))
            losses.append(task.learn(trainer, batch))
            if (done + 1) % check_every == 0 or done + 1 == len(order):
                due, stop = _check(losses, order.batch_size, progress, timer, task.broken)
                losses.clear()
                progress.seconds += time.perf_counter() - started
                bar.update(progress.batches - bar.n)
                bar.set_postfix(loss=f"{progress.loss / progress.persons:.5f}", refresh=False)
                if timer.handle(due, stop):
                    return False
                started = time.perf_counter()
            ready = time.perf_counter()
    return True


def _check(
    losses: list[Tensor], size: int, progress: Progress, timer: CheckpointTimer, broken: BrokenImages | None
) -> tuple[bool, bool]:
    """Adds batches of ``size`` each to the progress; whether any process wants a checkpoint or to stop.

    What one process found broken counts for all.
    """
    values = torch.stack(losses).tolist()
    found = broken.take_new() if broken else []
    *sums, news, due, stop = distributed.total([*values, len(found), *map(float, timer.requests())]).tolist()
    if broken and news and distributed.shard()[1] > 1:
        for messages in distributed.gathered(found):
            broken.count_in(messages)
    for number, value in enumerate(sums, progress.batches + 1):
        if not math.isfinite(value):
            raise Diverged(f"the loss became {value} at batch {number} of epoch {progress.epoch + 1}")
    progress.batches += len(values)
    progress.persons += len(values) * size * distributed.shard()[1]
    progress.loss += size * sum(sums)
    return due > 0, stop > 0
