"""Processes that load data: forked, so that they share the arrays of persons, and ended with the process they serve.

Where processes cannot be forked (Windows) or not safely (macOS, whose own libraries may break in the copy), everything
is loaded by the one process that there is.
"""

from __future__ import annotations

import atexit
import multiprocessing
import multiprocessing.util
import os
import signal
import sys
import warnings
from multiprocessing.context import BaseContext

from pose import glibc

FORKS = "fork" in multiprocessing.get_all_start_methods() and sys.platform != "darwin"
"""Whether this system can have workers."""


def usable_workers(workers: int) -> int:
    """``workers``, but no more than this process has processors; 0 with a warning where this system cannot fork."""
    if workers and not FORKS:
        warnings.warn("processes cannot be forked here: pictures are loaded by one process", stacklevel=3)
        return 0
    return min(workers, usable_processors())


def usable_processors() -> int:
    """How many processors this process may run on: more workers than these only take turns, and PyTorch warns of it."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def forking() -> BaseContext:
    """Starts processes as forks of this one; :func:`_end_workers` ends them with it."""
    from multiprocessing.context import ForkContext, ForkProcess  # Windows has none

    class Worker(ForkProcess):
        loads_data = True

    class Fork(ForkContext):
        Process = Worker

    return Fork()


@atexit.register  # after that of multiprocessing.util, which is then called later
def _end_workers() -> None:
    """Ends the workers of a loader that is still referred to: multiprocessing would send SIGTERM and wait forever."""
    for process in multiprocessing.active_children():
        if getattr(process, "loads_data", False):
            process.kill()


def start_worker(worker: int) -> None:
    """What a worker does first."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # a scheduler signals all processes: the main one ends the others
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    multiprocessing.util.Finalize(None, _leave_orphaned, (os.getppid(),), exitpriority=100)
    _keep_memory()


def _leave_orphaned(parent: int) -> None:
    """Ends a worker whose main process was killed: its queue would wait forever for somebody to read what is left."""
    if os.getppid() != parent:
        os._exit(1)


def _keep_memory() -> None:
    """Lets the C library keep what decoders free: getting it back from the system costs a fault for each 4 KiB."""
    for option in (glibc.TRIM_THRESHOLD, glibc.MMAP_THRESHOLD):
        glibc.set_option(option, 64 << 20)
