"""The plug is pulled twenty times while the real command trains with workers; the end is that of a quiet run."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny import same, write_config, write_tiny_set

from pose.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
KILLS = 20


def command(config, work_dir):
    """Starts tools/train.py."""
    return subprocess.Popen(
        [sys.executable, "tools/train.py", config, "--work-dir", work_dir, "--resume", "--device", "cpu"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_twenty_kills_of_the_command_change_no_bit(tmp_path):
    root = write_tiny_set(tmp_path / "set", train=12)
    options = dict(epochs=6, checkpoint_minutes=0.0, average_decay=0.9, temperature_start=30.0, validate_every=2)
    config = write_config(tmp_path / "config.py", root, train=options, data=dict(workers=2))
    straight = command(config, tmp_path / "straight")
    started = time.monotonic()
    assert straight.wait() == 0, straight.stderr.read()
    length = time.monotonic() - started
    moments, kills, within = random.Random(0), 0, 0
    last = tmp_path / "killed" / "last.pth"
    while kills < KILLS:
        process = command(config, tmp_path / "killed")
        if kills % 2:  # every other kill may hit the start
            while process.poll() is None and not (last.exists() and last.stat().st_mtime > time.time() - 0.5):
                time.sleep(0.01)
        try:
            process.wait(moments.uniform(0, 1 if kills % 2 else length / 2))
        except subprocess.TimeoutExpired:
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            kills += 1
            within += last.exists()
            continue
        assert process.returncode == 0, process.stderr.read()
        for file in (tmp_path / "killed").glob("*.*"):  # it was done before it could be killed
            file.unlink()
    assert within > KILLS / 2
    process = command(config, tmp_path / "killed")
    assert process.wait() == 0, process.stderr.read()
    for name in ("last.pth", "best.pth"):
        one, other = (load_checkpoint(tmp_path / run / name) for run in ("straight", "killed"))
        for key in one:
            if key not in ("seconds", "waited", "settings"):
                assert same(one[key], other[key]), f"{key} of {name}"
