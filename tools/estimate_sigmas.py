"""Estimate a skeleton's OKS sigmas from the same persons annotated several times over.

    python tools/estimate_sigmas.py SKELETON first.json second.json [...] --out skeleton.json

The files are in COCO's format, one an annotator, and share image ids; persons go together by their boxes.
SKELETON is a skeleton file or a built-in name. What is written is that skeleton with the sigmas.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from dataclasses import asdict
from pathlib import Path

from pose.command_line import CommandParser
from pose.errors import DataError, command
from pose.evaluation.coco_eval import annotation_notices, load_annotations
from pose.evaluation.matching import read_truth
from pose.evaluation.sigmas import FEW, estimate_sigmas, gather_repeats
from pose.files import check_kind, check_outputs, write_json
from pose.skeleton import choose_skeleton


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("skeleton", help="skeleton file, or a built-in skeleton's name")
    parser.add_argument("annotations", type=Path, nargs="+", help="annotation files, two or more")
    parser.add_argument("--category", help="the persons' category, name or id (default: the one with keypoints)")
    parser.add_argument("--out", type=Path, help="skeleton file to write")
    arguments = parser.parse_args()
    if len(arguments.annotations) < 2:
        raise DataError("one annotation file tells nothing of how annotators differ; give two or more")
    check_outputs([arguments.out], [arguments.skeleton, *arguments.annotations])
    check_kind(arguments.out, ".json")
    skeleton = choose_skeleton(arguments.skeleton)
    files = [load_annotations(path, skeleton, arguments.category, somebody=True) for path in arguments.annotations]
    truths = [read_truth(file, skeleton) for file in files]
    sigmas, counts = estimate_sigmas(*gather_repeats(truths))
    for file in files:
        for notice in annotation_notices(file):
            print(notice)
    for name, sigma, count in zip(skeleton.keypoints, sigmas, counts, strict=True):
        print(f"{name:<16} {sigma:.4f}  from {count:,} persons{'  (few)' if count < FEW else ''}")
    if arguments.out:
        fields = {name: value for name, value in asdict(skeleton).items() if name != "sigmas_estimated"}
        write_json(arguments.out, {**fields, "sigmas": [round(float(sigma), 5) for sigma in sigmas]})
        print(f"skeleton: {arguments.out}")


if __name__ == "__main__":
    main()
