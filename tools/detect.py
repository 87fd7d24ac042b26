"""Find persons on pictures, or on all pictures of a data set.

    python tools/detect.py person street.jpg --out found
    python tools/detect.py CHECKPOINT "holiday/*.jpg" --threshold 0.2
    python tools/detect.py CHECKPOINT --annotations person_keypoints_val2017.json --images val2017 --out boxes.json
    python tools/test.py CONFIG POSE_CHECKPOINT --boxes boxes.json

DETECTOR is one that comes with the project, a checkpoint of tools/train_detector.py, an exported file, another's ONNX
file or a name of torchvision's, as for tools/demo.py --detector. INPUT is a picture, a folder or a quoted pattern; the
folder --out gets each picture with its boxes drawn, and boxes.json. Of a data set, the file --out gets the boxes in
COCO's results format, all from a score of .01 on unless --threshold says otherwise. Pictures that cannot be read are
named and left out of either; the exit status is then 1.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import sys
from functools import cache
from pathlib import Path

from tqdm import tqdm

from pose.command_line import CommandParser, add_device_argument, share
from pose.detection.letterbox import FIGURES_THRESHOLD
from pose.detection.results import detect_data_set, records
from pose.errors import DataError, command
from pose.files import check_kind, check_outputs, make_folder, write_json
from pose.inference.command_line import MANY_IMAGES, add_foreign_detector_arguments, detector_choice
from pose.inference.detector import SHIPPED, Detector, detector_file, load_detector
from pose.inference.images import write_image
from pose.inference.inputs import ImageFiles, open_input
from pose.inference.outputs import drawn_path
from pose.options import OptionError
from pose.visualization import draw_boxes
from pose.wording import counted


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("detector", help=f"person, {SHIPPED}, a file (.pth, .onnx, .native) or a name of torchvision's")
    parser.add_argument("input", nargs="?", help="a picture, a folder or a quoted pattern")
    parser.add_argument("--annotations", type=Path, help="a COCO file: its pictures are looked through")
    parser.add_argument("--images", type=Path, help="the folder of that file's pictures")
    parser.add_argument("--category", help="the persons' in that file, name or id (default: the one with keypoints)")
    parser.add_argument("--out", type=Path, help="default: detections, or detections.json of a data set")
    parser.add_argument("--threshold", type=share, help="least score of a box (default: the detector's own)")
    add_foreign_detector_arguments(parser)
    add_device_argument(parser)
    arguments = parser.parse_args()
    if (arguments.input is None) == (arguments.annotations is None):
        raise OptionError("give INPUT, or --annotations and --images")
    if (arguments.annotations is None) != (arguments.images is None):
        raise OptionError("--annotations and --images belong together")
    if arguments.annotations is not None:
        return write_data_set(arguments)
    if arguments.category is not None:
        raise OptionError("--category belongs to --annotations")
    return write_pictures(arguments)


def write_data_set(arguments: argparse.Namespace) -> int:
    """Writes the boxes of a data set's pictures; the exit status."""
    out = arguments.out or Path("detections.json")
    read = [detector_file(arguments.detector), arguments.detector_weights, arguments.annotations, arguments.images]
    check_outputs([out], read)
    check_kind(out, ".json")
    threshold = FIGURES_THRESHOLD if arguments.threshold is None else arguments.threshold
    left_out: list[DataError] = []

    def skip(error: DataError) -> None:
        left_out.append(error)
        tqdm.write(f"warning: {error}: skipped", file=sys.stderr)

    @cache
    def detector() -> Detector:  # not before the data set is found to be one: torchvision's may have to be fetched
        return load_detector(*detector_choice(arguments, threshold), may_compile=True)

    results = detect_data_set(
        lambda image: detector()(image), arguments.annotations, arguments.images, arguments.category, skip
    )
    write_json(out, results)
    missed = f"; {counted(len(left_out), 'picture')} left out" if left_out else ""
    print(f"{out}: {counted(len(results), 'box')}{missed}")
    return 1 if left_out else 0


def write_pictures(arguments: argparse.Namespace) -> int:
    """Draws the boxes of pictures and writes them; the exit status."""
    name, out = arguments.input, arguments.out or Path("detections")
    frames = open_input(name, upright=True, warn=lambda message: print(f"warning: {message}", file=sys.stderr))
    if not isinstance(frames, ImageFiles):
        raise OptionError(f"{name}: not a picture, a folder or a pattern; tools/demo.py takes videos")
    read = [detector_file(arguments.detector), arguments.detector_weights, *frames.paths]
    check_outputs([*(drawn_path(out, path) for path in frames.paths), out / "boxes.json"], read)
    many = len(frames) >= MANY_IMAGES
    detector = load_detector(*detector_choice(arguments, arguments.threshold), may_compile=many)
    make_folder(out)
    results = []
    for frame in frames:
        boxes = detector(frame.image)
        results += records(frame.number, boxes)
        write_image(drawn_path(out, frame.path), draw_boxes(frame.image, boxes))
    write_json(out / "boxes.json", results)
    print(f"{out}: {counted(len(results), 'box')} on {counted(len(frames) - frames.skipped, 'picture')}")
    return 1 if frames.skipped else 0


if __name__ == "__main__":
    main()
