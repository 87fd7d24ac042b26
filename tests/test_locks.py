"""Locks: one holder at a time, named to the others, gone with its process though its workers live on."""

import multiprocessing
import os
import signal
import socket
import time

import pytest

from pose.errors import OutputError
from pose.locks import HeldError, lock_file


def hold_and_fork(path, held):
    """Holds the lock and has a child, as a training has workers."""
    with lock_file(path, wait=False):
        worker = os.fork()
        if worker == 0:
            time.sleep(60)
        held.send(worker)
        time.sleep(60)


@pytest.fixture
def holder(tmp_path):
    """A process that holds ``tmp_path / "lock"``, and the number of its worker."""
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=hold_and_fork, args=(tmp_path / "lock", theirs))
    process.start()
    assert ours.poll(60)
    worker = ours.recv()
    yield process
    process.kill()
    process.join()
    os.kill(worker, signal.SIGKILL)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_held_lock_names_its_holder_and_is_free_once_that_is_gone(tmp_path, holder):
    with (
        pytest.raises(HeldError, match=f"lock: is held by process {holder.pid} on {socket.gethostname()}"),
        lock_file(tmp_path / "lock", wait=False),
    ):
        pass
    holder.kill()
    holder.join()
    with lock_file(tmp_path / "lock", wait=False):  # though the worker that it forked still runs
        pass


def test_a_lock_can_be_taken_again_and_leaves_nothing_but_its_file(tmp_path):
    for _ in range(2):
        with lock_file(tmp_path / "lock", wait=True):
            assert f"process {os.getpid()}" in (tmp_path / "lock.holder").read_text()
    assert not (tmp_path / "lock.holder").exists()


def test_a_failure_inside_lets_the_lock_go(tmp_path):
    with pytest.raises(ZeroDivisionError), lock_file(tmp_path / "lock", wait=False):
        _ = 1 / 0
    with lock_file(tmp_path / "lock", wait=False):
        pass


@pytest.mark.parametrize("place", ["file/lock", "folder"])
def test_a_place_that_cannot_be_locked_is_told(tmp_path, place):
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    with (
        pytest.raises(OutputError, match="cannot be locked .*choose another place"),
        lock_file(tmp_path / place, wait=True),
    ):
        pass
