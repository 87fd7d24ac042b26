"""Write annotations in another format, or of one skeleton as another's by the names of the keypoints.

    python tools/convert_annotations.py yolo_folder coco.json
    python tools/convert_annotations.py coco.json yolo_folder --to yolo --images val2017
    python tools/convert_annotations.py poses/keypoints.json drafts.zip --images pictures
    python tools/convert_annotations.py data/coco/annotations/person_keypoints_val2017.json coco_as_lsp.json \\
        --source coco --target configs/lsp/skeleton.json

The format of IN is told by what is there, that of OUT by its suffix; --from and --to name them:

%s

Places are kept to a millionth of a pixel, or what the format has digits for. What a format cannot hold is counted. With
--target, keypoints that only one skeleton has are unlabelled and do not count; the same name need not mean the same
place: look at both before you mix them. --write-skeleton makes the skeleton file of a data set, and a picture to check
its sides and limbs by.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
from collections import Counter
from pathlib import Path

from pose.command_line import CommandParser, share
from pose.datasets.convert import as_skeleton
from pose.errors import OutputError, command
from pose.files import check_folder, check_kind, check_outputs, read_json, write_json
from pose.formats.dataset import PoseDataset, with_skeleton
from pose.formats.names import write_skeleton
from pose.formats.options import ReadOptions, WriteOptions
from pose.formats.skeleton_sheet import draw_skeleton_sheet
from pose.formats.table import FORMATS, READABLE, WRITABLE, Format, input_format, output_format, read_dataset
from pose.inference.images import write_image
from pose.options import OptionError
from pose.skeleton import choose_skeleton
from pose.visualization import DRAWN_SCORE


def parse() -> argparse.Namespace:
    ways = {(True, True): "in and out", (True, False): "in", (False, True): "out"}
    rows = [f"    {each.name:16}{ways[bool(each.read), bool(each.write)]:12}{each.about}" for each in FORMATS.values()]
    parser = CommandParser((__doc__ or "") % "\n".join(rows))
    parser.add_argument("annotations", type=Path, metavar="IN", help="file or folder to read")
    parser.add_argument("place", type=Path, nargs="?", metavar="OUT", help="file or folder to write")
    parser.add_argument("--out", type=Path, metavar="OUT", help="the same, as an option")
    parser.add_argument("--from", dest="read_as", choices=READABLE, metavar="FORMAT", help="of IN")
    parser.add_argument("--to", dest="write_as", choices=WRITABLE, metavar="FORMAT", help="of OUT")
    parser.add_argument(
        "--source", help="the skeleton of IN: coco, crowdpose or a skeleton file (default: as IN names its keypoints)"
    )
    parser.add_argument("--target", help="the skeleton to write (default: that of IN)")
    parser.add_argument("--images", type=Path, help="folder of the images, where a format needs their sizes or files")
    parser.add_argument("--category", help="name or number of the class that the persons are, where IN has several")
    parser.add_argument(
        "--split", choices=("train", "val", "test"), help="of a YOLO-pose folder (default: all to read, train to write)"
    )
    parser.add_argument("--url-prefix", default=WriteOptions.url_prefix, help="of images in Label Studio (%(default)s)")
    parser.add_argument(
        "--joint-threshold", type=share, default=DRAWN_SCORE, help="found joints below are unlabelled (%(default)s)"
    )
    parser.add_argument(
        "--write-skeleton", type=Path, metavar="FILE", help="write the skeleton file too, and FILE.png to check it by"
    )
    arguments = parser.parse_args()
    if arguments.out is not None and arguments.place is not None:
        raise OptionError(f"OUT and --out: give one of them, not {arguments.place} and {arguments.out}")
    arguments.out = arguments.out or arguments.place
    if arguments.out is None:
        raise OptionError("OUT: say what to write")
    return arguments


@command
def main() -> None:
    arguments = parse()
    source = None if arguments.source is None else choose_skeleton(arguments.source, "--source")
    target = None if arguments.target is None else choose_skeleton(arguments.target, "--target")
    read_as = input_format(arguments.annotations, arguments.read_as)
    write_as = output_format(arguments.out, arguments.write_as)
    sheet = arguments.write_skeleton and arguments.write_skeleton.with_suffix(".png")
    check_folder(arguments.images, "--images")
    inputs = [arguments.annotations, arguments.source, arguments.target, arguments.images]
    files = [arguments.write_skeleton, sheet]
    check_outputs(files if write_as.folder else [arguments.out, *files], inputs)
    check_kind(None if write_as.folder else arguments.out, *(write_as.suffixes or (".json",)))
    check_kind(arguments.write_skeleton, ".json")
    check_kind(sheet, ".png")
    refuse_folder(arguments.out, arguments.annotations, write_as)
    if target is not None and read_as.name == write_as.name == "coco" and arguments.annotations.suffix == ".json":
        rename_keypoints(arguments.annotations, source or choose_skeleton("coco"), target, arguments.out)
        return
    options = ReadOptions(source, arguments.images, arguments.category, arguments.joint_threshold, arguments.split)
    assert write_as.write is not None  # as WRITABLE says
    dataset = read_dataset(arguments.annotations, read_as.name, options)
    dataset = dataset if target is None else with_skeleton(dataset, target)
    lost = write_as.write(
        dataset,
        arguments.out,
        WriteOptions(arguments.images, arguments.split or WriteOptions.split, arguments.url_prefix),
    )
    report(dataset, lost, arguments.out, write_as)
    if arguments.write_skeleton is not None:
        write_skeleton(arguments.write_skeleton, dataset.skeleton)
        write_image(sheet, draw_skeleton_sheet(dataset, arguments.images))
        print(f"{arguments.write_skeleton}: look at {sheet} before you train")


def rename_keypoints(path: Path, source, target, out: Path) -> None:
    """COCO to COCO: every other field of the file stays as it is."""
    converted, notices = as_skeleton(read_json(path, "annotation file"), source, target, path)
    write_json(out, converted)
    for notice in notices:
        print(notice)
    shared = [name for name in target.keypoints if name in source.keypoints]
    people = sum(person.get("num_keypoints", 0) > 0 for person in converted["annotations"])
    print(f"{out}: {people:,} persons with some of {len(shared)} keypoints: {', '.join(shared)}")


def refuse_folder(out: Path, source: Path, write_as: Format) -> None:
    """An output folder is no file, and neither IN nor around it."""
    if not write_as.folder:
        return
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: is a file; {write_as.name} needs the name of a folder")
    if source.resolve().is_relative_to(out.resolve()):
        raise OutputError(f"{out}: the input is in this folder; choose another one for what is written")


def report(dataset: PoseDataset, lost: Counter[str], out: Path, write_as: Format) -> None:
    """What was written and what is not in it."""
    persons, joints = int(dataset.persons.sum()), int(dataset.labeled.sum())
    print(
        f"{out}: {persons:,} persons with {joints:,} labelled keypoints on {len(dataset.images):,} images, "
        f"skeleton {dataset.skeleton.name} ({dataset.skeleton.num_keypoints} keypoints), as {write_as.name}"
    )
    for title, counts in (("not read as it was", dataset.left_out), ("not written as it was", lost)):
        told = [f"{count:,} {what}" for what, count in counts.items() if count]
        if told:
            print(f"  {title}: {'; '.join(told)}")


if __name__ == "__main__":
    main()
