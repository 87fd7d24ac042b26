"""Hold pictures of a training set out, to choose by.

    python tools/split_dataset.py data/lsp/person_keypoints_train.json --hold-out 500

writes person_keypoints_train_fit.json and person_keypoints_train_held_out.json beside it: train on the first, choose
epochs and options by the second, and leave the test pictures for the end. The same seed chooses the same pictures.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from pose.datasets.split import hold_out
from pose.errors import DataError, command
from pose.files import check_outputs, read_json, write_json


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="annotation file in COCO's format")
    parser.add_argument("--hold-out", type=int, required=True, metavar="N", help="pictures to hold out")
    parser.add_argument("--seed", type=int, default=0, help="of the choice (default: 0)")
    parser.add_argument("--out-dir", type=Path, help="default: beside the annotation file")
    arguments = parser.parse_args()
    folder = arguments.out_dir or arguments.annotations.parent
    targets = [folder / f"{arguments.annotations.stem}_{name}.json" for name in ("fit", "held_out")]
    check_outputs(targets, [arguments.annotations])
    try:
        parts = hold_out(read_json(arguments.annotations, "annotation file"), arguments.hold_out, arguments.seed)
    except DataError as error:
        raise DataError(f"{arguments.annotations}: {error}") from error
    for path, part in zip(targets, parts, strict=True):
        write_json(path, part)
        print(f"{path}: {len(part['images']):,} pictures, {len(part['annotations']):,} persons")


if __name__ == "__main__":
    main()
