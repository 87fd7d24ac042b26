"""Several processes as one: the same steps, the same figures, one end."""

import csv
import os
import pickle
import signal
import socket
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny import same, start, tiny_settings, write_config, write_tiny_set

from pose.checkpoint import load_checkpoint, load_weights
from pose.engine import distributed, evaluate
from pose.engine.train import train
from pose.engine.trainer import Trainer
from pose.options import OptionError

ROOT = Path(__file__).resolve().parents[1]
PATIENCE = 60
PLAIN = dict(backbone=dict(type="tiny", dropout=0.0))  # processes draw different random numbers


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return write_tiny_set(tmp_path_factory.mktemp("data") / "set", val=5)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def as_rank(rank, world, port, said, target, arguments):
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(world), MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port)
    )
    with open(f"{said}.{rank}", "w") as out, redirect_stdout(out):
        try:
            with distributed.process_group(torch.device("cpu")) as device:
                target(device, *arguments)
        except Exception as error:
            print(f"{type(error).__name__}: {error}")
            raise SystemExit(1) from error


def in_two(tmp_path, target, *arguments):
    """Runs target(device, *arguments) in two processes; their exit codes and what each printed."""
    port, said = free_port(), tmp_path / "said"
    processes = [start(as_rank, rank, 2, port, said, target, arguments) for rank in range(2)]
    for process in processes:
        process.join(PATIENCE)
    hung = [process for process in processes if process.is_alive()]
    for process in hung:
        process.kill()
    assert not hung, "a process waits for ever"
    return [process.exitcode for process in processes], [Path(f"{said}.{rank}").read_text() for rank in range(2)]


def run(device, root, work_dir, options, resume=False):
    train(tiny_settings(root, model=PLAIN, train=options), work_dir, device, resume)


OPTIONS = dict(batch_size=2, average_decay=0.5, validate_every=2, temperature_start=30.0, temperature_epochs=2)


def losses(work_dir):
    with open(work_dir / "metrics.csv", newline="") as file:
        return [float(row["loss"]) for row in csv.DictReader(file)]


def test_two_processes_learn_what_one_does_that_accumulates_two_batches(root, tmp_path):
    codes, said = in_two(tmp_path, run, root, tmp_path / "two", {**OPTIONS, "base_batch_size": 8})
    assert codes == [0, 0]
    assert "effective batch 4 = 2 x 2 processes x 1 accumulated; learning rate 0.0005 (scaled from a batch" in said[0]
    assert "seed of initialisation, order and augmentation 0; of each process 0, 1" in said[0]
    assert said[1] == ""
    run("cpu", root, tmp_path / "one", {**OPTIONS, "base_batch_size": 8, "accumulate": 2})
    two, one = (load_checkpoint(tmp_path / name / "last.pth") for name in ("two", "one"))
    for key in ("model", "average"):
        for name, tensor in one[key].items():
            if "norm" not in name or name.endswith(
                ("weight", "bias")
            ):  # each process keeps the statistics of its own batches
                torch.testing.assert_close(two[key][name], tensor, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(losses(tmp_path / "two"), losses(tmp_path / "one"), rtol=1e-5)


def test_the_processes_draw_different_random_numbers_and_start_from_the_same_weights(root, tmp_path):
    assert in_two(tmp_path, run, root, tmp_path / "run", {**OPTIONS, "epochs": 1})[0] == [0, 0]
    states = load_checkpoint(tmp_path / "run" / "last.pth")["random"]
    assert len(states) == 2
    assert not torch.equal(states[0]["torch"], states[1]["torch"])


def stop_second(device, root, work_dir, options):
    learn, steps = Trainer.learn, []

    def learn_and_raise(self, *batch):
        steps.append(1)
        if len(steps) == 4 and distributed.shard()[0] == 1:
            signal.raise_signal(signal.SIGTERM)
        return learn(self, *batch)

    Trainer.learn = learn_and_raise
    summary = train(tiny_settings(root, train=options), work_dir, device)
    assert (summary["stopped"] is not None) == (distributed.shard()[0] == 1)


def resume_with_dropout(device, root, work_dir, options, resume=True):
    train(tiny_settings(root, train=options), work_dir, device, resume)


def test_a_signal_to_one_process_stops_all_and_both_go_on_exactly(root, tmp_path):
    assert in_two(tmp_path, resume_with_dropout, root, tmp_path / "straight", OPTIONS)[0] == [0, 0]
    assert in_two(tmp_path, stop_second, root, tmp_path / "run", OPTIONS)[0] == [0, 0]
    last = load_checkpoint(tmp_path / "run" / "last.pth")
    assert (last["epoch"], last["batches"]) == (1, 1)
    assert in_two(tmp_path, resume_with_dropout, root, tmp_path / "run", OPTIONS)[0] == [0, 0]
    straight, resumed = (load_checkpoint(tmp_path / name / "last.pth") for name in ("straight", "run"))
    for key in ("model", "average", "optimizer", "random", "best"):
        assert same(straight[key], resumed[key]), key


def compare_validated(device, root, work_dir):
    test = evaluate.test

    def compared(model, *arguments):
        states = distributed.gathered(model.state_dict())
        assert same(states[0], states[1])
        print("compared")
        return test(model, *arguments)

    evaluate.test = compared
    train(tiny_settings(root, train={**OPTIONS, "epochs": 2, "validate_every": 1}), work_dir, device)


def test_all_processes_validate_the_network_that_is_saved(root, tmp_path):
    codes, said = in_two(tmp_path, compare_validated, root, tmp_path / "run")
    assert codes == [0, 0], said
    assert [text.count("compared") for text in said] == [2, 2]


def score(device, root, weights, out):
    settings = tiny_settings(root, test=dict(batch_size=3))
    model = settings.build_model()
    load_weights(model, weights)
    test_set = evaluate.open_test_set(settings, settings.data.val, "annotated")
    run = evaluate.test(model, test_set, settings, device)
    with open(f"{out}.{distributed.shard()[0]}", "wb") as file:
        pickle.dump((run.figures, run.results, run.predictions), file)


def test_shared_out_testing_gives_the_figures_of_one_process_to_the_last_digit(root, tmp_path):
    settings = tiny_settings(root)
    torch.manual_seed(5)
    weights = tmp_path / "weights.pth"
    torch.save(settings.build_model().state_dict(), weights)
    score("cpu", root, weights, tmp_path / "one")
    assert in_two(tmp_path, score, root, weights, tmp_path / "two")[0] == [0, 0]
    figures, results, predictions = pickle.loads((tmp_path / "one.0").read_bytes())
    assert len(predictions.keypoints) == 10  # four batches, the last one of a single person
    assert predictions.keypoints.any(axis=(1, 2)).all()
    for rank in range(2):
        also = pickle.loads((tmp_path / f"two.{rank}").read_bytes())
        assert also[0] == figures
        assert also[2].keypoints.tobytes() == predictions.keypoints.tobytes()
        np.testing.assert_equal(vars(also[1]) if hasattr(also[1], "__dict__") else also[1], vars(results))


def fail_second(device, root, work_dir):
    learn = Trainer.learn

    def learn_or_fail(self, *batch):
        if distributed.shard()[0] == 1:
            raise MemoryError("the second process cannot go on")
        return learn(self, *batch)

    Trainer.learn = learn_or_fail
    train(tiny_settings(root, train=dict(batch_size=2)), work_dir, device)


def test_a_process_that_ends_does_not_leave_the_other_waiting(root, tmp_path):
    codes, said = in_two(tmp_path, fail_second, root, tmp_path / "run")
    assert codes == [1, 1]
    assert "RankError: another process of this run ended; what it said stands above" in said[0]
    assert "MemoryError: the second process cannot go on" in said[1]


def torchrun(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
        + ["tools/train.py", *map(str, arguments), "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )


def test_torchrun_trains_and_ends_with_the_message_of_what_went_wrong(root, tmp_path):
    config = write_config(tmp_path / "config.py", root, train=dict(epochs=1, batch_size=2))
    ended = torchrun(config, "--work-dir", tmp_path / "run")
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.count("test it: python tools/test.py") == 1
    ended = torchrun(config, "--work-dir", tmp_path / "run")
    assert ended.returncode != 0
    assert "holds a training run; go on with --resume" in ended.stderr


def test_without_torchrun_there_is_one_process():
    assert distributed.shard() == (0, 1)
    assert distributed.total([1.5, 2.0]).tolist() == [1.5, 2.0]
    assert distributed.gathered("value") == ["value"]
    with distributed.process_group(torch.device("cpu")) as device:
        assert device == torch.device("cpu")
        assert not distributed.is_joined()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "3")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(OptionError, match="above the 2 GPUs"), distributed.process_group(torch.device("cuda")):
        pass
