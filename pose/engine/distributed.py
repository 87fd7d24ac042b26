"""Several processes as one: what `torchrun` starts, and what the processes tell each other.

    torchrun --nproc-per-node 4 tools/train.py CONFIG
    torchrun --nnodes 2 --nproc-per-node 8 --rdzv-backend c10d --rdzv-endpoint HOST:29500 tools/train.py CONFIG

Every function works in a single process too, where there is nothing to tell.
"""

from __future__ import annotations

import gc
import os
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, TypeVar

import numpy as np
import torch
from torch import distributed, nn

from pose.errors import PoseError
from pose.options import OptionError

Value = TypeVar("Value")

TIMEOUT = timedelta(hours=2)
"""How long a process waits for another: building a crop cache takes its time. A process that ends is seen at once."""

_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "remote process")


class RankError(PoseError, RuntimeError):
    """Another process of the run ended."""


@contextmanager
def process_group(device: torch.device) -> Iterator[torch.device]:
    """Joins the processes that `torchrun` started: NCCL on GPUs, gloo on CPUs; does nothing without it.

    Args:
        device: What was asked for; ``cuda`` becomes the GPU of this process.

    Yields:
        The device of this process.

    Raises:
        OptionError: There are more processes than GPUs.
        RankError: Another process ended; its own message says why.
    """
    if "LOCAL_RANK" not in os.environ:
        yield device
        return
    if device.type == "cuda":
        local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= gpus:
            raise OptionError(f"--nproc-per-node is above the {gpus} GPUs of this machine; lower it")
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
    try:
        yield device
    except RuntimeError as error:
        traceback.clear_frames(error.__traceback__)
        if any(words in str(error) for words in _LOST):
            raise RankError("another process of this run ended; what it said stands above") from error
        raise
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
    finally:
        gc.collect()  # a DistributedDataParallel that outlives the group makes the process abort at its end
        distributed.destroy_process_group()


def is_joined() -> bool:
    """Whether there is a process group."""
    return distributed.is_available() and distributed.is_initialized()


def shard() -> tuple[int, int]:
    """Which process this is, from 0, and how many there are."""
    return (distributed.get_rank(), distributed.get_world_size()) if is_joined() else (0, 1)


def is_main() -> bool:
    """Whether this process writes files and speaks."""
    return shard()[0] == 0


def say(text: str) -> None:
    """Prints a line, once for all processes."""
    if is_main():
        print(text, flush=True)


def total(values: np.ndarray | Sequence[float]) -> np.ndarray:
    """The sum over processes, float64; where only one process has a value other than 0, exactly that value."""
    values = np.asarray(values, dtype=np.float64)
    if not is_joined():
        return values
    device = "cuda" if distributed.get_backend() == "nccl" else "cpu"
    tensor = torch.from_numpy(np.array(values)).to(device)
    distributed.all_reduce(tensor)
    return tensor.cpu().numpy()


def from_main(value: Value) -> Value:
    """The first process's value, for all."""
    if not is_joined():
        return value
    box = [value]
    distributed.broadcast_object_list(box)
    return box[0]


def gathered(value: Value) -> list[Value]:
    """Every process's value, by rank, for all."""
    if not is_joined():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def share_buffers(model: nn.Module) -> None:
    """Gives all processes the first one's buffers, i.e. its batch statistics: they are the ones that are saved."""
    if is_joined():
        for buffer in model.buffers():
            distributed.broadcast(buffer, 0)
