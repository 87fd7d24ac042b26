"""A plug that gets pulled: whatever ends a run, going on gives what a run without a stop would have given."""

import csv
import errno
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import same, start, tiny_settings, write_config, write_tiny_set

from pose import checkpoint as checkpoints
from pose.checkpoint import load_checkpoint
from pose.engine import evaluate
from pose.engine.progress import TrainingError
from pose.engine.random_state import random_state, restore_random_state, seed_everything
from pose.engine.reporting import Report
from pose.engine.train import train
from pose.engine.trainer import Trainer
from pose.engine.work_dir import locked
from pose.errors import CheckpointError, OutputError

EPOCHS = 6
SETTINGS = dict(
    train=dict(
        epochs=EPOCHS,
        validate_every=2,
        checkpoint_minutes=0.0,  # after every step
        average_decay=0.9,
        temperature_start=30.0,
        temperature_epochs=4,
        milestones=(3,),
    )
)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set")


@pytest.fixture(scope="module")
def straight(root, tmp_path_factory):
    """The work folder of a run that nothing stopped."""
    work_dir = tmp_path_factory.mktemp("straight")
    train(tiny_settings(root, **SETTINGS), work_dir, "cpu")
    return work_dir


def assert_same_run(one: Path, other: Path) -> None:
    """Everything but times is the same: weights, optimizer, averages, random numbers, figures."""
    for name in ("last.pth", "best.pth"):
        first, second = load_checkpoint(one / name), load_checkpoint(other / name)
        for key in first:
            assert same(first[key], second[key]), f"{key} of {name}"
    assert figures(one) == figures(other)


def figures(work_dir: Path) -> list[dict[str, str]]:
    """The file of figures without times."""
    with open(work_dir / "metrics.csv", newline="") as file:
        return [
            {name: value for name, value in row.items() if name not in ("seconds", "samples_per_second", "data_wait")}
            for row in csv.DictReader(file)
        ]


def train_in_child(root, work_dir):
    torch.set_num_threads(1)
    summary = train(tiny_settings(root, **SETTINGS), work_dir, "cpu", resume=True)
    raise SystemExit(128 + summary["stopped"] if summary["stopped"] else 0)


def wait_for(path: Path, seconds: float = 600) -> None:
    """Until the file exists."""
    end = time.monotonic() + seconds
    while not path.exists():
        assert time.monotonic() < end, f"{path} was not written"
        time.sleep(0.005)


def kill_and_resume(root: Path, work_dir: Path, kills: int, moments: random.Random) -> None:
    """Trains with ``kill -9`` at random moments, then to the end."""
    done = 0
    while done < kills:
        process = start(train_in_child, root, work_dir)
        if not (work_dir / "last.pth").exists():
            wait_for(work_dir / "last.pth")
        process.join(moments.uniform(0, 0.6))
        if process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
            done += 1
        process.join()
        finished = process.exitcode == 0
        assert process.exitcode in (0, -signal.SIGKILL)
        if finished and done < kills:  # start over: every kill must interrupt something
            for name in ("last.pth", "previous.pth", "best.pth", "metrics.csv"):
                (work_dir / name).unlink(missing_ok=True)
    train(tiny_settings(root, **SETTINGS), work_dir, "cpu", resume=True)


def test_killed_and_resumed_runs_end_with_the_very_weights_of_a_straight_one(root, straight, tmp_path):
    kill_and_resume(root, tmp_path, kills=2, moments=random.Random(0))
    assert_same_run(straight, tmp_path)
    assert not list(tmp_path.glob(".last*"))  # what the killed ones left half written


@pytest.mark.slow
def test_twenty_kills_change_nothing(root, straight, tmp_path):
    kill_and_resume(root, tmp_path, kills=20, moments=random.Random(1))
    assert_same_run(straight, tmp_path)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_saves_within_the_epoch_and_leaves(root, straight, tmp_path, monkeypatch, number):
    learn, steps = Trainer.learn, []

    def learn_and_raise(self, *batch):
        steps.append(len(steps))
        if len(steps) == 5:
            signal.raise_signal(number)
        return learn(self, *batch)

    monkeypatch.setattr(Trainer, "learn", learn_and_raise)
    handler = signal.getsignal(number)
    summary = train(tiny_settings(root, **SETTINGS), tmp_path, "cpu")
    assert summary["stopped"] == number
    assert signal.getsignal(number) == handler
    last = load_checkpoint(tmp_path / "last.pth")
    assert (last["epoch"], last["batches"], len(steps)) == (1, 2, 5)
    train(tiny_settings(root, **SETTINGS), tmp_path, "cpu", resume=True)
    assert len(steps) == 3 * EPOCHS  # no step was made twice
    assert_same_run(straight, tmp_path)


def test_a_signal_while_validating_leaves_at_once_and_only_the_validation_is_repeated(
    root, straight, tmp_path, monkeypatch
):
    test = evaluate.test

    def interrupted(*arguments):
        signal.raise_signal(signal.SIGTERM)
        return test(*arguments)

    monkeypatch.setattr(evaluate, "test", interrupted)
    assert train(tiny_settings(root, **SETTINGS), tmp_path, "cpu")["stopped"] == signal.SIGTERM
    last = load_checkpoint(tmp_path / "last.pth")
    assert (last["epoch"], last["batches"]) == (1, 3)
    monkeypatch.setattr(evaluate, "test", test)
    train(tiny_settings(root, **SETTINGS), tmp_path, "cpu", resume=True)
    assert_same_run(straight, tmp_path)


@pytest.mark.parametrize("workers", [0, 2])
def test_the_tool_ends_with_the_signals_status_and_says_how_to_go_on(root, tmp_path, workers):
    """The signal goes to workers too, as schedulers and ``timeout`` send it."""
    import subprocess
    import sys

    train_settings = {**SETTINGS["train"], "epochs": 500}
    config = write_config(tmp_path / "config.py", root, train=train_settings, data=dict(workers=workers))
    project = Path(__file__).resolve().parents[1]
    process = subprocess.Popen(
        [sys.executable, "tools/train.py", config, "--work-dir", tmp_path / "run", "--resume", "--device", "cpu"],
        cwd=project,
        env={**os.environ, "PYTHONPATH": str(project), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_for(tmp_path / "run" / "last.pth")
    os.killpg(process.pid, signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM, err
    assert "stopped by SIGTERM, everything is saved; the same command with --resume goes on" in out
    assert "Traceback" not in err
    assert load_checkpoint(tmp_path / "run" / "last.pth")["settings"]["train"]["epochs"] == 500


@pytest.fixture
def stopped(root, straight, tmp_path):
    """A copy of the straight run as it was one checkpoint before its end."""
    for name in ("last.pth", "previous.pth", "best.pth", "metrics.csv"):
        (tmp_path / name).write_bytes((straight / name).read_bytes())
    return tmp_path


def test_a_torn_checkpoint_is_passed_over_for_the_one_before(root, straight, stopped, capsys):
    whole = (stopped / "last.pth").read_bytes()
    (stopped / "last.pth").write_bytes(whole[: len(whole) // 2])
    train(tiny_settings(root, **SETTINGS), stopped, "cpu", resume=True)
    said = capsys.readouterr().out
    assert "last.pth: not a whole checkpoint" in said
    assert f"taking the one before, {stopped / 'previous.pth'}" in said
    assert_same_run(straight, stopped)


def test_two_torn_checkpoints_stop_the_run_and_stay(root, stopped):
    for name in ("last.pth", "previous.pth"):
        (stopped / name).write_bytes(b"PK torn")
    with pytest.raises(CheckpointError, match="last.pth: not a whole checkpoint"):
        train(tiny_settings(root, **SETTINGS), stopped, "cpu", resume=True)
    assert (stopped / "last.pth").read_bytes() == b"PK torn"


def test_a_folder_with_nothing_but_the_checkpoint_before_holds_a_run(root, stopped):
    (stopped / "last.pth").unlink()
    with pytest.raises(TrainingError, match="holds a training run"):
        train(tiny_settings(root, **SETTINGS), stopped, "cpu")


def test_within_an_epoch_the_order_of_data_must_stay(root, tmp_path, monkeypatch):
    learn = Trainer.learn

    def learn_and_stop(self, *batch):
        signal.raise_signal(signal.SIGTERM)
        return learn(self, *batch)

    monkeypatch.setattr(Trainer, "learn", learn_and_stop)
    train(tiny_settings(root, **SETTINGS), tmp_path, "cpu")
    with pytest.raises(TrainingError, match="saved within an epoch, with persons 12, batch_size 4.*not with .*size 3"):
        train(tiny_settings(root, train={**SETTINGS["train"], "batch_size": 3}), tmp_path, "cpu", resume=True)


def test_other_settings_are_told_when_resuming(root, stopped, capsys):
    changed = {**SETTINGS["train"], "epochs": EPOCHS + 1, "gamma": 0.5}
    train(tiny_settings(root, train=changed), stopped, "cpu", resume=True)
    assert "other settings: train.epochs 6 -> 7, train.gamma 0.1 -> 0.5" in capsys.readouterr().out


def test_a_full_disk_stops_the_run_and_leaves_the_last_checkpoint(root, straight, tmp_path, monkeypatch):
    save, written = torch.save, []

    def save_until_full(contents, file):
        if len(written) == 4:
            file.write(b"half")
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(1)
        save(contents, file)

    monkeypatch.setattr(checkpoints.torch, "save", save_until_full)
    with pytest.raises(OutputError, match=r"last\.pth: cannot be written \(No space left on device\)"):
        train(tiny_settings(root, **SETTINGS), tmp_path, "cpu")
    monkeypatch.setattr(checkpoints.torch, "save", save)
    assert load_checkpoint(tmp_path / "last.pth")["epoch"] == 1  # each epoch of 3 steps saves 4 times or more
    train(tiny_settings(root, **SETTINGS), tmp_path, "cpu", resume=True)
    assert_same_run(straight, tmp_path)


def test_figures_that_cannot_be_written_are_told(tmp_path):
    report = Report(tmp_path / "metrics.csv", 0, ("AP",))
    (tmp_path / "metrics.csv").unlink()
    (tmp_path / "metrics.csv").symlink_to("/dev/full")
    with pytest.raises(OutputError, match="cannot be written .No space left on device."):
        report.add({"epoch": 1, "loss": 0.5})
    report.close()


def hold(work_dir, ready):
    with locked(work_dir):
        ready.set()
        time.sleep(60)


def test_a_work_folder_in_use_is_refused_until_its_process_is_gone(root, tmp_path):
    ready = multiprocessing.get_context("forkserver").Event()
    process = start(hold, tmp_path, ready)
    try:
        assert ready.wait(60)
        with pytest.raises(OutputError, match=rf"a training is running in it \(process {process.pid} on "):
            train(tiny_settings(root), tmp_path, "cpu")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    with locked(tmp_path):
        pass


def test_random_states_come_back():
    def draw():
        return random.random(), np.random.standard_normal(), torch.rand(()).item()  # noqa: NPY002

    seed_everything(7)
    np.random.standard_normal()  # noqa: NPY002  leaves a second Gaussian in store
    state = random_state()
    drawn = draw()
    assert draw() != drawn
    restore_random_state(state)
    assert draw() == drawn
    seed_everything(7)
    assert random_state()["python"] != state["python"] or not same(random_state()["numpy"], state["numpy"])
