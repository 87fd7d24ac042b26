"""Let the demo work through a very long video and see that it holds no more in the end than after its first minutes.

    python tools/soak_demo.py --write docs/tables/soak_demo.md
    python tools/soak_demo.py --frames 2000

Makes a video of drawn discs, boxes of two persons that come and go, and a tiny network of chance, and starts
tools/demo.py with all that it can write of a video: the drawn one, JSON, CSV and a page. Its memory, open files and
threads are read meanwhile. Exit status 1 where one of them grows, or where a file has not what the video has, frame by
frame. Needs the extras train, video and test.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import csv
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from pose.benchmark import machine
from pose.checkpoint import save_checkpoint
from pose.command_line import CommandParser, count
from pose.config import load_settings
from pose.errors import PoseError, command
from pose.files import write_json
from pose.inference.video.files import count_frames, writing_video
from pose.process_watch import FEWEST_SAMPLES, ProcessWatch, growth_words, is_flat, watch_table
from pose.tables import Page, check_page

WIDTH, HEIGHT = 128, 96
MODEL = dict(backbone=dict(type="mobilenet_v2", width=0.1), head=dict(type="bottleneck", stages=((16, 16, 1),) * 3))
SAMPLES = 200


class SoakError(PoseError):
    """The demo did what it must not."""


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("--frames", type=count(), default=100_000, help="of the video (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a Markdown file for the figures; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write)
    page = Page("The demo through a long video", machine())
    with tempfile.TemporaryDirectory(prefix="soak.") as place:
        folder = Path(place)
        places = make_input(folder, arguments.frames)
        started = time.monotonic()
        watch = run_demo(folder, arguments.frames)
        seconds = time.monotonic() - started
        wrong = check_outputs_of(folder / "out", places, arguments.frames)
    if len(watch.samples) < FEWEST_SAMPLES:
        told = f"wrong files: {', '.join(wrong) or 'none'}"
        raise SoakError(f"{arguments.frames} frames are too few to see what grows ({told}); take more with --frames")
    page.add(f"{arguments.frames} frames of {WIDTH} x {HEIGHT} pixels in {seconds / 60:.1f} minutes, "
             f"{arguments.frames / seconds:.0f} a second:", "")  # fmt: skip
    page.add(*watch_table(watch.samples, "frames"), "")
    page.add(f"From the middle third to the last: {growth_words(watch.samples)}; "
             f"wrong files: {', '.join(wrong) or 'none'}.")  # fmt: skip
    page.write(arguments.write)
    return int(bool(wrong) or not is_flat(watch.samples))


def make_input(folder: Path, frames: int) -> list[int]:
    """Writes ``video.mp4``, ``boxes.json``, ``tiny.py`` and ``tiny.pth``; the frame of every box."""
    rng = np.random.default_rng(0)
    boxes, places = [], []
    with writing_video(folder / "video.mp4", 25) as write:
        for frame in tqdm(range(frames), "making the video", disable=None, leave=False):
            image = np.full((HEIGHT, WIDTH, 3), 30 + frame % 40, np.uint8)
            for person, speed in enumerate((1.3, -0.7)):
                if (frame // 50 + 3 * person) % 7 == 0:
                    continue  # out of view for two seconds
                x = 24 + round(speed * frame) % (WIDTH - 48)
                cv2.circle(image, (x, 30 + 36 * person), 10, (200, 220, 255), -1)
                box = [x - 14, 14 + 36 * person, 28, 34]
                boxes.append({"image_id": frame, "category_id": 1, "bbox": box, "score": round(rng.uniform(0.6, 1), 3)})
                places.append(frame)
            write(image)
    write_json(folder / "boxes.json", boxes)
    text = f"model = {MODEL!r}\ndata = dict(input_size=(32, 64))\ntest = dict(native=True)\n"
    (folder / "tiny.py").write_text(text, encoding="utf-8")
    torch.manual_seed(0)
    save_checkpoint(folder / "tiny.pth", {"model": load_settings(folder / "tiny.py").build_model().state_dict()})
    return places


def run_demo(folder: Path, frames: int) -> ProcessWatch:
    """Runs tools/demo.py on what :func:`make_input` wrote and watches it.

    Raises:
        SoakError: It fails.
    """
    options = ["--boxes", "boxes.json", "--smooth", "light", "--csv", "--html", "--out", "out", "--device", "cpu"]
    own = [sys.executable, str(Path(__file__).resolve().with_name("demo.py")), "tiny.py", "tiny.pth", "video.mp4"]
    with open(folder / "errors", "w", encoding="utf-8") as errors:
        process = subprocess.Popen([*own, *options], cwd=folder, stdout=subprocess.DEVNULL, stderr=errors)
    watch = ProcessWatch(process.pid)
    try:
        with tqdm(total=frames, desc="frames", disable=None, leave=False) as bar:
            for frame in progress(process, folder / "out" / f".keypoints.{process.pid}.csv", frames // SAMPLES):
                watch.sample(frame)
                bar.update(frame - bar.n)
    finally:
        if process.poll() is None and sys.exc_info()[0] is not None:
            process.terminate()
        status = process.wait()
    if status:
        lines = (folder / "errors").read_text(encoding="utf-8").strip().splitlines() or ["no message"]
        raise SoakError(f"tools/demo.py ended with status {status}: {lines[-1]}")
    return watch


def progress(process: subprocess.Popen, table: Path, step: int) -> Iterator[int]:
    """The frame that a demo is at, every ``step`` frames at most, from the table that it writes; ends with it."""
    last = 0
    while process.poll() is None and not table.exists():
        time.sleep(0.1)
    while process.poll() is None and table.exists():
        frame = last_frame(table)
        if frame >= last + step:
            last = frame
            yield frame
        time.sleep(0.1)


def last_frame(table: Path) -> int:
    """The number in the first column of the last whole line of a table; 0 where there is none yet."""
    with open(table, "rb") as file:
        file.seek(max(0, file.seek(0, 2) - 8192))
        lines = file.read().split(b"\n")[1:-1]
    return int(lines[-1].partition(b",")[0]) if lines else 0


def check_outputs_of(out: Path, places: list[int], frames: int) -> list[str]:
    """The files of a demo's output folder that have not what the video has.

    Args:
        out: The folder.
        places: The frame of every box.
        frames: The number of the video's frames.
    """
    with open(out / "keypoints.csv", newline="", encoding="utf-8") as file:
        rows = [int(row["image_id"]) for row in csv.DictReader(file)]
    records = [record["frame"] for record in json.loads((out / "keypoints.json").read_text(encoding="utf-8"))]
    with open(out / "video.html", encoding="utf-8") as file:
        pages = sum(line.startswith("<script>add(") for line in file)
    found = {
        "keypoints.csv": rows == places,
        "keypoints.json": records == places,
        "video.html": pages == frames,
        "video.mp4": count_frames(out / "video.mp4") == frames,
    }
    return [name for name, right in found.items() if not right]


if __name__ == "__main__":
    main()
