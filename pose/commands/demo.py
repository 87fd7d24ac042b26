"""Draw the poses of pictures or a video, and write them as numbers.

    python tools/demo.py street.jpg
    python tools/demo.py CONFIG CHECKPOINT street.jpg
    python tools/demo.py CONFIG CHECKPOINT data/coco/val2017 --boxes data/coco/annotations/person_keypoints_val2017.json
    python tools/demo.py CONFIG CHECKPOINT match.mp4 --detector fasterrcnn_mobilenet_v3_large_320_fpn --smooth light
    python tools/demo.py CONFIG CHECKPOINT 0 --show --detector yolo.onnx --detect-every 5
    python tools/demo.py pose.onnx street.jpg

INPUT is a picture, a folder (without its subfolders), a quoted pattern ("a/*.jpg"), a video, a camera's number or
a stream's address. Without CONFIG and CHECKPOINT the weights in data/weights are used, and their detector, if one
comes with them. Without a detector or boxes, and with --boxes whole, the whole picture is taken as one person's
box. A detector is one of torchvision's, by name, or an ONNX file as torchvision or YOLO export it. A boxes file is
an annotation file, matched by file name, or a results list, whose image_id is the number that a picture's name ends
with, or a video's frame counted from 0. Pictures that cannot be read are named and left out; the exit status is
then 1. Of a file with several pictures the first is taken.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from tqdm import tqdm

from pose.command_line import CommandParser, count, share
from pose.errors import OutputError, command
from pose.files import check_outputs, make_folder
from pose.inference import outputs
from pose.inference.boxes import DEFAULT_THRESHOLD, CocoBoxes, whole_image
from pose.inference.command_line import (
    MANY_IMAGES,
    WHOLE,
    add_predictor_arguments,
    make_predictor,
    network_files,
    take_network,
)
from pose.inference.inputs import Frame, ImageFiles, open_input
from pose.inference.process import poses_of_images, poses_of_video, write_all
from pose.inference.video.files import BROWSER_SUFFIXES, CODECS, VideoSource, quiet_opencv
from pose.inference.video.smoothing import STRENGTHS
from pose.inference.video.stream import StreamPredictor
from pose.inference.web.viewer import html_file
from pose.options import OptionError
from pose.poses import Poses
from pose.visualization import DRAWN_SCORE, draw_poses
from pose.wording import counted


def parse() -> argparse.Namespace:
    parser = CommandParser(__doc__)
    add_predictor_arguments(parser, reads_input=True)
    parser.add_argument(
        "--detect-every", type=count(), default=1, metavar="N", help="frames from detection to detection"
    )
    parser.add_argument("--smooth", choices=STRENGTHS, default="off", help="steadier keypoints in videos")
    parser.add_argument("--out", type=Path, default=Path("poses"), help="folder for what is written (default: poses)")
    parser.add_argument("--threshold", type=share, help="least score of a drawn joint (default: that of the network's "
                        f"calibration, else {DRAWN_SCORE:g})")  # fmt: skip
    parser.add_argument("--video-format", choices=[suffix[1:] for suffix in CODECS], default="mp4",
                        help="browsers play webm alone, which takes longer to write (default: mp4)")  # fmt: skip
    parser.add_argument("--csv", action="store_true", help="write keypoints.csv too")
    parser.add_argument("--coco", action="store_true", help="write annotations.json too, which other tools read")
    parser.add_argument("--html", action="store_true", help="write a page to look through a video, for any browser")
    parser.add_argument("--show", action="store_true", help="show a window; q or Escape stops")
    parser.add_argument("--profile", action="store_true", help="print where the time went")
    arguments = parser.parse_intermixed_args()
    take_network(parser, arguments, reads_input=True)
    return arguments


@command
def main() -> int:
    arguments = parse()
    quiet_opencv()
    file = None if arguments.boxes == WHOLE else arguments.boxes
    if file is not None and not Path(file).exists():
        raise OptionError(f"--boxes: {file}: file not found; {WHOLE}: one person fills the picture")
    least = DEFAULT_THRESHOLD if arguments.box_threshold is None else arguments.box_threshold
    boxes = None if file is None else CocoBoxes(file, least)
    for notice in boxes.notices if boxes else ():
        warn(notice)
    source = open_input(arguments.input, boxes is None, warn, boxes.size_of if boxes else None)
    video = source if isinstance(source, VideoSource) else None
    if arguments.html and not video:
        raise OptionError("--html: only for videos; pictures can be looked at as they are")
    out = make_folder(arguments.out)
    drawn = out / f"{video.title}.{arguments.video_format}" if video else out
    refuse_overwriting(source, drawn)
    check_outputs(outputs_of(arguments, source, out, drawn), inputs_of(arguments, source))
    tables = tables_of(arguments, source, out)
    replaced = [path for path in tables if path.exists()]
    many = isinstance(source, VideoSource) or len(source) >= MANY_IMAGES
    predictor = make_predictor(arguments, may_compile=many)
    predictor.profiler.exact = arguments.profile
    threshold = DRAWN_SCORE if predictor.calibration is None else predictor.calibration.threshold
    threshold = threshold if arguments.threshold is None else arguments.threshold
    skeleton = predictor.network.skeleton
    total: int | None
    if isinstance(source, VideoSource):
        stream = StreamPredictor(predictor, source.fps, arguments.detect_every, arguments.smooth)
        pairs, total = poses_of_video(stream, source, boxes, warn), source.frame_count
    else:
        pairs, total = poses_of_images(predictor, source, boxes), len(source)

    seen: Counter[str] = Counter()

    def draw(frame: Frame, poses: Poses) -> np.ndarray:
        drawn_joints = poses.keypoints[..., 2] > threshold
        seen.update(found=len(poses), persons=int(drawn_joints.any(1).sum()), joints=int(drawn_joints.sum()))
        return draw_poses(frame.image, poses, threshold)

    unit = "frame" if video else "picture"
    with ExitStack() as stack:
        writes = [stack.enter_context(outputs.json_file(out / "keypoints.json"))]
        writes.append(
            stack.enter_context(outputs.drawn_video(drawn, video.fps) if video else outputs.drawn_images(out))
        )
        if arguments.csv:
            writes.append(stack.enter_context(outputs.csv_file(out / "keypoints.csv", skeleton)))
        if arguments.coco:
            writes.append(stack.enter_context(outputs.annotation_file(out / "annotations.json", skeleton, threshold)))
        if arguments.html and video:
            page = html_file(out / f"{video.title}.html", video.title, skeleton, video.fps, total, video.size)
            writes.append(stack.enter_context(page))
        if arguments.show:
            writes.append(stack.enter_context(outputs.window(arguments.input, wait=video is None)))
        bar = tqdm(pairs, f"{unit}s", total, disable=None, leave=False)
        done, stopped = write_all(bar, writes, draw, predictor.profiler)
    if arguments.profile:
        print(predictor.profiler.table(done))
    if predictor.detector is whole_image and arguments.boxes is None:
        print("each whole picture was taken for one person: give --detector shipped to find persons, or --boxes")
    shown = counted(done, unit)
    persons = f"{seen['persons']:,} of {counted(seen['found'], 'person')}"
    hint = "" if seen["joints"] or not seen["found"] else ": lower --threshold, or train longer"
    print(f"drawn: {drawn} ({shown}, {persons}, {counted(seen['joints'], 'joint')} above {threshold:g}{hint})")
    if video and not arguments.html and drawn.suffix not in BROWSER_SUFFIXES:
        print("browsers cannot play that: --video-format webm or --html makes what they can")
    names = [f"{path} (in place of an earlier one)" if path in replaced else str(path) for path in tables]
    print(f"keypoints: {', '.join(names)}")
    if stopped:
        of = f"{total:,}" if total else "endless"
        warn(f"stopped after {done:,} of {of} {unit}s; what was done is kept")
        return 0
    if video and total and done < total:
        warn(f"{video.name}: ends {counted(total - done, 'frame')} early, perhaps cut off; what was there is done")
    return int(done < total) if total else 0


def refuse_overwriting(source: ImageFiles | VideoSource, drawn: Path) -> None:
    """Raises OutputError where drawn pictures or a drawn video would replace the input or each other."""
    taken = [source.path] if isinstance(source, VideoSource) else [path.parent for path in source.paths]
    if any(path is not None and path.resolve() == drawn.resolve() for path in taken):
        raise OutputError(f"{drawn}: the input itself is there; choose another folder with --out")
    names = Counter(path.name for path in source.paths) if isinstance(source, ImageFiles) else {}
    twice = next((name for name, count in names.items() if count > 1), None)
    if twice:
        raise OutputError(f"{drawn / twice}: two pictures of the input have this name; take one folder at a time")


def outputs_of(arguments: argparse.Namespace, source: ImageFiles | VideoSource, out: Path, drawn: Path) -> list[Path]:
    """Every file that will be written, drawn pictures among them."""
    images = [outputs.drawn_path(out, path) for path in source.paths] if isinstance(source, ImageFiles) else [drawn]
    return [*images, *tables_of(arguments, source, out)]


def tables_of(arguments: argparse.Namespace, source: ImageFiles | VideoSource, out: Path) -> list[Path]:
    """Every file that will be written beside what is drawn."""
    tables = ["keypoints.csv"] * arguments.csv + ["annotations.json"] * arguments.coco
    pages = [f"{source.title}.html"] if arguments.html and isinstance(source, VideoSource) else []
    return [out / name for name in ("keypoints.json", *tables, *pages)]


def inputs_of(arguments: argparse.Namespace, source: ImageFiles | VideoSource) -> list[str | Path | None]:
    """Every file that is read."""
    return [*network_files(arguments), *(source.paths if isinstance(source, ImageFiles) else [source.path])]


def warn(message: str) -> None:
    tqdm.write(f"warning: {' '.join(message.split())}", file=sys.stderr)
