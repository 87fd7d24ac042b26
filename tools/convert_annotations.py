"""Write annotations of one skeleton as another's, by the names of the keypoints.

    python tools/convert_annotations.py data/coco/annotations/person_keypoints_val2017.json \\
        --source coco --target configs/lsp/skeleton.json --out coco_as_lsp.json

So a network trained on one data set can be tested on another, or trained on both. Keypoints that only one has are
unlabelled in the result and do not count. The same name need not mean the same place: look at both before you mix them.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
from pathlib import Path

from pose.datasets.convert import as_skeleton
from pose.errors import DataError, command
from pose.files import check_outputs, read_json, write_json
from pose.skeleton import choose_skeleton


@command
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("annotations", type=Path, help="annotation file in COCO's format")
    parser.add_argument(
        "--source", default="coco", help="its skeleton: coco, crowdpose or a skeleton file (default: coco)"
    )
    parser.add_argument("--target", required=True, help="the skeleton to write")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    arguments = parser.parse_args()
    check_outputs([arguments.out], [arguments.annotations, arguments.source, arguments.target])
    source, target = (choose_skeleton(name) for name in (arguments.source, arguments.target))
    try:
        converted = as_skeleton(read_json(arguments.annotations, "annotation file"), source, target)
    except DataError as error:
        raise DataError(f"{arguments.annotations}: {error}") from error
    write_json(arguments.out, converted)
    shared = [name for name in target.keypoints if name in source.keypoints]
    people = sum(person.get("num_keypoints", 0) > 0 for person in converted["annotations"])
    print(f"{arguments.out}: {people:,} persons with some of {len(shared)} keypoints: {', '.join(shared)}")


if __name__ == "__main__":
    main()
