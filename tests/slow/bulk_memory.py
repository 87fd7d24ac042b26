"""Memory of tools/predict.py over 100,000 pictures: half of them files, half in archives, with a tiny network.

    python tests/slow/bulk_memory.py [--pictures 100000] [--format parquet]

Prints the process's memory as parts are done and fails if it grows by more than 64 MiB after the first tenth. It takes
about 2 minutes of a CPU core.
"""

from __future__ import annotations

import argparse
import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import psutil
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))
import tiny  # noqa: F401 - makes its network known

from pose.checkpoint import save_checkpoint
from pose.commands import predict
from pose.config import load_settings
from pose.files import read_json

RUN, PART, MOST = "run", 1000, 64 * 2**20
CONFIG = """
model = dict(backbone=dict(type="tiny"), head=dict(type="tiny"))
data = dict(root="", input_size=(32, 64))
test = dict(flip=False, decode="none")
"""


def write_network(folder: Path) -> None:
    """A configuration and untrained weights of the tests' smallest network."""
    (folder / "tiny.py").write_text(CONFIG)
    torch.manual_seed(0)
    save_checkpoint(folder / "tiny.pth", {"model": load_settings(folder / "tiny.py").build_model().state_dict()})


def write_pictures(folder: Path, count: int) -> None:
    """Half of them as links to one file, half in archives of 5,000; every 1,000th of the files is no picture."""
    pixels = np.random.default_rng(0).integers(0, 255, (6, 8, 3), np.uint8)
    content = cv2.imencode(".jpg", cv2.resize(pixels, (80, 60)))[1].tobytes()
    for number in range(count // 2):
        place = folder / f"{number // PART:03}"
        place.mkdir(exist_ok=True)
        if number % PART in (0, 1):  # file systems limit the links of a file
            first = place / f"{number:06}.jpg"
            first.write_bytes(content if number % PART else b"no picture")
        else:
            os.link(first, place / f"{number:06}.jpg")
    for start in range(count // 2, count, 5000):
        with tarfile.open(folder / f"{start:06}.tar", "w") as archive:
            for number in range(start, min(start + 5000, count)):
                member = tarfile.TarInfo(f"{number:06}.jpg")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))


def watch(process: subprocess.Popen, out: Path) -> list[tuple[int, int]]:
    """(parts done, bytes of memory) of a process until it ends, one for each part."""
    found: list[tuple[int, int]] = []
    known = psutil.Process(process.pid)
    while process.poll() is None:
        done = len(list(out.glob("part-*.done.json")))
        if done and (not found or done > found[-1][0]):
            try:
                found.append((done, known.memory_info().rss))
            except psutil.Error:
                break
            print(f"{done} parts done: {found[-1][1] / 2**20:.0f} MiB", flush=True)
        time.sleep(0.2)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--format", choices=("parquet", "jsonl"), default="parquet")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "pictures").mkdir()
        write_network(folder)
        write_pictures(folder / "pictures", arguments.pictures)
        options = ["--boxes", "whole", "--format", arguments.format, "--part", PART, "--batch", 64, "--device", "cpu"]
        network = ["--network", folder / "tiny.py", folder / "tiny.pth"]
        command = [sys.executable, __file__, RUN, folder / "pictures", "--out", folder / "out", *options, *network]
        errors = folder / "errors.txt"
        with open(errors, "w") as file:
            process = subprocess.Popen(list(map(str, command)), stderr=file)
            found = watch(process, folder / "out")
        assert process.wait() == 0, errors.read_text()
        total = read_json(folder / "out" / "summary.json", "summary")
        bad = arguments.pictures // 2 // PART
        assert (total["pictures"], total["persons"]) == (arguments.pictures, arguments.pictures - bad), total
        assert len(total["bad"]) == bad
    early = [rss for done, rss in found if done <= max(1, found[-1][0] // 10)]
    late = max(rss for _, rss in found)
    print(f"after the first tenth {max(early) / 2**20:.0f} MiB, most {late / 2**20:.0f} MiB")
    assert late - max(early) < MOST, "memory grows"


if __name__ == "__main__":
    if sys.argv[1:2] == [RUN]:  # the tool, where the tests' network is known
        del sys.argv[1]
        predict.main()
    main()
