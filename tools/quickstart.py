"""Data, training, test and pictures in one go, on the CPU, with nothing to download.

    bash tools/quickstart.sh

Draws people with exact keypoints, trains a small dynamic-convolution network on them, tests it on
drawn people that it has not seen, and draws what it found; then the weights that come with the
project, which were trained on photos, find the people on a photo. Each step is the very tool that does the
same for COCO; its command is printed. Run it again and it goes on where it stopped.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose.command_line import CommandParser
from pose.config import Settings, load_settings
from pose.datasets.images import read_image
from pose.datasets.synthetic.dataset import write_dataset
from pose.datasets.workers import usable_processors
from pose.engine.work_dir import BEST, LAST
from pose.errors import OutputError, command
from pose.files import make_folder
from pose.inference.images import write_image
from pose.resources import SAMPLE

CONFIG = "configs/quickstart.py"
WORK = Path("work_dirs/quickstart")
TRAIN_IMAGES, VAL_IMAGES = 3000, 200
SHEET_COLUMNS, SHEET_ROWS = 6, 3
PROCESSES = min(usable_processors(), 2)


def say(step: int, text: str) -> None:
    print(f"\n[{step}/5] {text}", flush=True)


def run(*arguments: str | Path) -> None:
    """Runs a tool in its own process, as a person would; stops the quickstart where the tool stopped."""
    print("$ python " + " ".join(map(str, arguments)), flush=True)
    environment = {"OMP_NUM_THREADS": "1", **os.environ} if PROCESSES > 1 else None
    status = subprocess.run([sys.executable, *map(str, arguments)], env=environment, check=False).returncode
    if status:
        sys.exit(status)


def training_command() -> list[str]:
    """One process a core: steps this small gain little from a second thread, and lose much where cores are busy."""
    if PROCESSES == 1:
        return ["tools/train.py"]
    return ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(PROCESSES), "tools/train.py"]


def batch_option(settings: Settings) -> list[str]:
    """The configuration's batch, shared between the processes."""
    return ["--cfg-options", f"train.batch_size={settings.train.batch_size // PROCESSES}"] if PROCESSES > 1 else []


def draw_data(root: Path) -> None:
    with tqdm(total=TRAIN_IMAGES + VAL_IMAGES, unit="picture", disable=None, leave=False) as bar:
        try:
            write_dataset(root, TRAIN_IMAGES, VAL_IMAGES, progress=lambda done, _: bar.update(done - bar.n))
        except FileExistsError as error:
            raise OutputError(f"{error} (delete {WORK} to start over)") from error


def make_sheet(images: Path, target: Path) -> None:
    """One picture of the first drawn pictures, side by side."""
    names = sorted(images.glob("*.jpg"))[: SHEET_COLUMNS * SHEET_ROWS]
    tiles = [read_image(name) for name in names]
    rows = [np.hstack(tiles[start : start + SHEET_COLUMNS]) for start in range(0, len(tiles), SHEET_COLUMNS)]
    write_image(target, np.vstack(rows))


@command
def main() -> None:
    CommandParser(__doc__).parse_args()
    started = time.perf_counter()
    settings = load_settings(CONFIG)
    data = settings.data
    root, checkpoint = Path(data.root), WORK / BEST
    make_folder(WORK)
    print("A small dynamic-convolution pose network on drawn people: about 9 minutes on two CPU cores.")
    say(1, f"drawing {TRAIN_IMAGES} pictures to train on and {VAL_IMAGES} to test on: {root} (half a minute)")
    draw_data(root)
    say(2, "training (7 to 8 minutes; each line says how long is left)")
    begun = ["--resume"] if (WORK / LAST).exists() else []
    run(*training_command(), CONFIG, "--work-dir", WORK, *begun, "--device", "cpu", *batch_option(settings))
    say(3, "testing with COCO's metric, pycocotools (seconds)")
    run("tools/test.py", CONFIG, checkpoint, "--device", "cpu")
    say(4, "drawing the skeletons it finds (seconds)")
    boxes, images = data.path(data.val.annotations), WORK / "pictures"
    run(
        "tools/demo.py",
        CONFIG,
        checkpoint,
        data.path(data.val.images),
        "--boxes",
        boxes,
        "--out",
        images,
        "--device",
        "cpu",
    )
    make_sheet(images, WORK / "skeletons.jpg")
    say(5, "the weights that come with the project, trained on photos, on a photo (seconds)")
    run("tools/demo.py", os.path.relpath(SAMPLE), "--out", WORK / "photo", "--device", "cpu")
    minutes = (time.perf_counter() - started) / 60
    print(f"\ndone in {minutes:.1f} minutes. Look at {WORK}/skeletons.jpg, {images}/ and {WORK}/photo/")
    print(f"curves: .venv/bin/tensorboard --logdir {WORK}")


if __name__ == "__main__":
    main()
