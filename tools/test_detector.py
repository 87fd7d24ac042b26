"""Measure a person detector on annotated pictures: COCO's box figures, and the share of persons that are found.

    python tools/test_detector.py CHECKPOINT
    python tools/test_detector.py CHECKPOINT --annotations instances.json --images val2017
    python tools/test_detector.py --boxes detections.json --annotations instances.json

Without --annotations the test set of the checkpoint's configuration is measured. Every person counts, with labelled
keypoints or without; crowds do not. The last lines are what the detector does at the score from which it shows boxes.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from pose.command_line import CommandParser, add_device_argument, share
from pose.detection.annotated import BoxTruth, read_boxes, read_truth
from pose.detection.detector import PersonDetector
from pose.detection.letterbox import FIGURES_THRESHOLD, TestSettings
from pose.detection.results import detect_data_set
from pose.detection.score import FIGURES, evaluate_boxes, precision_recall
from pose.detection.settings import load_network
from pose.device import choose_device
from pose.errors import command
from pose.files import check_kind, check_outputs, write_json
from pose.options import OptionError
from pose.wording import counted


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("checkpoint", nargs="?", type=Path, help="of tools/train_detector.py")
    parser.add_argument("--boxes", type=Path, help="measure this COCO results file instead of a checkpoint")
    parser.add_argument("--annotations", type=Path, help="a COCO file with boxes")
    parser.add_argument("--images", type=Path, help="the folder of its pictures")
    parser.add_argument("--category", help="the persons' there, name or id (default: the one with keypoints)")
    parser.add_argument("--threshold", type=share, help="the score of the last lines; default: the checkpoint's")
    parser.add_argument("--out", type=Path, help="write the boxes, all from a score of .01 on, as a COCO results file")
    add_device_argument(parser)
    arguments = parser.parse_args()
    if (arguments.checkpoint is None) == (arguments.boxes is None):
        raise OptionError("give a checkpoint or --boxes, one of them")
    test, annotations = TestSettings(), arguments.annotations
    given = [arguments.checkpoint, arguments.boxes, arguments.annotations, arguments.images]
    check_outputs([arguments.out], given)
    check_kind(arguments.out, ".json")
    if arguments.boxes is not None:
        if annotations is None:
            raise OptionError("--boxes needs --annotations, the COCO file that they are measured on")
        truth = read_truth(annotations, arguments.category)
        results, left_out = read_boxes(arguments.boxes, annotations, truth.category)
        for line in left_out:
            print(line)
    else:
        _, settings = load_network(arguments.checkpoint)
        test, root = settings.test, Path(settings.data.root)
        annotations = annotations or root / settings.data.test_annotations
        images = arguments.images or root / settings.data.test_images
        check_outputs([arguments.out], [annotations, images])
        category = settings.data.category if arguments.category is None else arguments.category
        truth = read_truth(annotations, category)  # what is wrong with it is told before the network runs
        device = choose_device(arguments.device)
        detector = PersonDetector.from_checkpoint(arguments.checkpoint, device, FIGURES_THRESHOLD)
        results = detect_data_set(detector, annotations, images, category)
    if arguments.out:
        write_json(arguments.out, results)
    for notice in truth.notices:
        print(notice)
    threshold = test.threshold if arguments.threshold is None else arguments.threshold
    report(truth, results, threshold)
    return 0


def report(truth: BoxTruth, results: list[dict], threshold: float) -> None:
    """Prints everything."""
    figures = evaluate_boxes(truth.file, results, truth.category)
    print("  ".join(f"{name} {figures[name]:.3f}" for name in FIGURES))
    print("share of persons found at IoU .5, at any score (with keypoints; of these small, medium and large ones):")
    _print_recalls(figures)
    shown = [result for result in results if result["score"] >= threshold]
    at_threshold = evaluate_boxes(truth.file, shown, truth.category)
    print(f"from a score of {threshold:.2f} on, {counted(len(shown), 'box')}:")
    _print_recalls(at_threshold)
    scores = [threshold, *np.arange(0.1, 0.75, 0.1)]
    for score, precision, recall in precision_recall(truth.file, results, scores, truth.category):
        print(f"  from {score:.2f} on: precision {precision:.3f}, recall {recall:.3f}")


def _print_recalls(figures: Mapping[str, float]) -> None:
    """A line for each share that there is; COCO's -1 says that there is nobody to find."""
    for name, value in figures.items():
        if name not in FIGURES:
            print(f"  {name} {f'{value:.3f}' if value >= 0 else 'nobody is such'}")


if __name__ == "__main__":
    main()
