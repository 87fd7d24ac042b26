"""Compare two results files in COCO's keypoint format, of this or any other program, on the same annotations.

    python tools/compare_results.py a.json b.json person_keypoints_val2017.json
    python tools/compare_results.py a.json b.json person_keypoints_val2017.json --images val2017 --out DIR

Prints AP and every keypoint with paired intervals over the pictures, error classes side by side, and the pictures where
the two differ most; with --images and --out these are drawn: annotation, first, second. docs/evaluation.md reads it.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from dataclasses import asdict
from pathlib import Path

import cv2
import numpy as np
from pycocotools.coco import COCO

from pose.command_line import CommandParser
from pose.datasets.image_names import find_image
from pose.datasets.orientation import read_named, size_of
from pose.errors import command
from pose.evaluation.analysis.two_results import TwoResults, compare_results, format_comparison
from pose.evaluation.coco_eval import annotation_notices, load_annotations
from pose.evaluation.matching import Truth, read_truth
from pose.evaluation.results import Results, check_results, read_results
from pose.files import check_folder, check_outputs, make_folder, write_json
from pose.inference.images import write_image
from pose.options import OptionError
from pose.skeleton import Skeleton, choose_skeleton
from pose.visualization import draw_skeletons

HEIGHT = 480
"""Pixels of a drawn picture."""


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("first", type=Path, help="results file")
    parser.add_argument("second", type=Path, help="results file that is compared with it")
    parser.add_argument("annotations", type=Path, help="annotation file")
    parser.add_argument("--skeleton", default="coco", help="built-in skeleton or skeleton file (default: coco)")
    parser.add_argument("--category", help="the persons' category, name or id (default: the one with keypoints)")
    parser.add_argument("--resamples", type=int, default=1000, help="draws of pictures for the intervals")
    parser.add_argument("--show", type=int, default=5, help="pictures to name where each is the better one")
    parser.add_argument("--images", type=Path, help="folder of the pictures, to draw those")
    parser.add_argument("--out", type=Path, help="folder for comparison.json and the drawn pictures")
    arguments = parser.parse_args()
    if arguments.resamples < 100 or arguments.show < 0:
        raise OptionError("--resamples must be at least 100 and --show at least 0")
    if arguments.images and not arguments.out:
        raise OptionError("--images needs --out, the folder for the drawn pictures")
    check_folder(arguments.images, "--images")
    out = arguments.out and make_folder(arguments.out)
    report = out and out / "comparison.json"
    read = [arguments.first, arguments.second, arguments.annotations, arguments.skeleton]
    check_outputs([report], read)
    skeleton = choose_skeleton(arguments.skeleton, "--skeleton")
    truth = load_annotations(arguments.annotations, skeleton, arguments.category, somebody=True)
    notices = annotation_notices(truth)
    for notice in notices:
        print(notice)
    sides = [_read(path, truth, skeleton) for path in (arguments.first, arguments.second)]
    names = _names(arguments.first, arguments.second)
    found = compare_results(*sides, truth, skeleton, arguments.resamples)
    print(format_comparison(found, names))
    shown = _most_different(found, arguments.show)
    for title, images in zip(names, shown, strict=True):
        print(f"\npictures where {title} is better by most, in mean OKS of their persons:")
        for image_id, gain in images:
            print(f"  {truth.imgs[image_id]['file_name']} (image {image_id}): {abs(gain):.2f}")
    if report:
        write_json(
            report,
            {"first": str(arguments.first), "second": str(arguments.second), "notices": notices, **_plain(found)},
        )
        print(f"\ncomparison: {report}")
    if arguments.images:
        annotated = read_truth(truth, skeleton)
        drawings = {
            out / f"{side}_better_{place}_{image_id}.jpg": image_id
            for side, images in zip(("first", "second"), shown, strict=True)
            for place, (image_id, _) in enumerate(images, 1)
        }
        drawn_on = [find_image(str(arguments.images), truth.imgs[each]["file_name"]) for each in drawings.values()]
        check_outputs(drawings, [*read, *drawn_on])
        for path, image_id in drawings.items():
            drawn = _draw(image_id, annotated, sides, truth, arguments.images, skeleton)
            write_image(path, drawn)
        print(f"pictures: {out}, from left to right annotation, {names[0]}, {names[1]}")


def _read(path: Path, truth: COCO, skeleton: Skeleton) -> Results:
    number = truth.person_category
    records = read_results(path, skeleton.num_keypoints, truth.imgs.keys(), number)
    return Results(*check_results(records, skeleton.num_keypoints, category_id=number))


def _names(first: Path, second: Path) -> tuple[str, str]:
    """Short names that differ."""
    if first.stem != second.stem:
        return first.stem, second.stem
    return (str(first), str(second)) if str(first) != str(second) else ("first", "second")


def _most_different(found: TwoResults, count: int) -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
    """Pictures and gains: where the first is better, and where the second is."""
    images = list(zip(found.image_ids.tolist(), found.gains.tolist(), strict=True))
    worse = [each for each in images[:count] if each[1] < 0]
    return worse, [each for each in images[::-1][:count] if each[1] > 0]


def _draw(
    image_id: int, annotated: Truth, sides: list[Results], truth: COCO, images: Path, skeleton: Skeleton
) -> np.ndarray:
    """The annotation, the first and the second side by side."""
    record = truth.imgs[image_id]
    image = read_named(images, record["file_name"], size_of(record)).image
    own = annotated.counts & (annotated.image_ids == image_id)
    points = [np.concatenate([annotated.keypoints[own, :, :2], annotated.labeled[own][..., None]], axis=2)]
    for side in sides:
        kept = side.keypoints[side.image_ids == image_id]
        best = np.argsort(-side.scores[side.image_ids == image_id], kind="stable")[: max(own.sum(), 1)]
        points.append(kept[best])
    scale = HEIGHT / image.shape[0]
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    views = []
    for persons in points:
        scaled = persons * np.array([scale, scale, 1])
        low, high = scaled[..., :2].min(axis=1), scaled[..., :2].max(axis=1)
        views.append(draw_skeletons(image, scaled, np.concatenate([low, high - low], axis=1), skeleton))
    return np.concatenate(views, axis=1)


def _plain(found: TwoResults) -> dict:
    """A value as JSON has it, where None stands for NaN."""

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    def interval(gain: tuple[float, ...]) -> list[float | None]:
        return [known(value) for value in gain]

    return {
        "AP": [side.ap for side in found.sides],
        "AP difference, low, high": interval(found.ap),
        "keypoints": {
            name: {
                "correct": [known(side.shares[index]) for side in found.sides],
                "difference, low, high": interval(found.shares[index]),
            }
            for index, name in enumerate(found.keypoints)
        },
        "errors": [dict(asdict(side)["counts"]) for side in found.sides],
        "pictures": dict(zip(map(str, found.image_ids.tolist()), found.gains.tolist(), strict=True)),
    }


if __name__ == "__main__":
    main()
