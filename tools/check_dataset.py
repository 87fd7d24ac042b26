"""See what is in a data set before anyone trains on it.

    python tools/check_dataset.py data/coco/annotations/person_keypoints_val2017.json --images data/coco/val2017
    python tools/check_dataset.py train.json --images images --against val.json test.json --out check
    python tools/check_dataset.py yolo_folder --no-hashes

Writes a page: who trains and who is left out by which rule, with examples; sizes; labelled joints and persons cut off;
joints outside their boxes; whether the flip pairs are a mirror of the data, and persons whose left and right seem
exchanged; images that are there twice, within the data set and across splits. Takes every format that
tools/convert_annotations.py reads.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from pose.command_line import CommandParser, count
from pose.datasets.image_names import find_image
from pose.errors import DataError, command
from pose.files import check_folder, check_outputs, make_folder
from pose.formats.dataset import PoseDataset
from pose.formats.options import ReadOptions
from pose.formats.table import READABLE, read_dataset
from pose.inspection.duplicates import NEAR, ImageFile, find_duplicates, hash_images, split_duplicates
from pose.inspection.page import PAGE, duplicate_section, write_page
from pose.inspection.persons import PersonCheck, check_persons
from pose.inspection.sides import ExchangeCheck, PairCheck, check_exchanged, check_pairs
from pose.options import OptionError
from pose.skeleton import choose_skeleton


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("annotations", type=Path, help="file or folder of annotations")
    parser.add_argument("--from", dest="read_as", choices=READABLE, metavar="FORMAT", help="default: as it looks")
    parser.add_argument("--skeleton", help="coco, crowdpose or a skeleton file (default: as the file names it)")
    parser.add_argument("--category", help="name or number of the class that the persons are, where there are several")
    parser.add_argument("--split", choices=("train", "val", "test"), help="of a YOLO-pose folder (default: all)")
    parser.add_argument("--images", type=Path, help="folder of the images: draws examples, and finds duplicates")
    parser.add_argument("--against", type=Path, nargs="+", default=[], metavar="FILE", help="other splits' annotations")
    parser.add_argument("--against-images", type=Path, help="folder of their images (default: --images)")
    parser.add_argument(
        "--near", type=count(0, 64), default=NEAR, help="bits of 64 that like images differ in (%(default)s)"
    )
    parser.add_argument("--no-hashes", action="store_true", help="look for no duplicates")
    parser.add_argument("--out", type=Path, default=Path("check"), help="folder for the page (default: %(default)s)")
    arguments = parser.parse_args()
    if arguments.against and arguments.images is None:
        raise OptionError("--against: needs --images, the folder of the images")
    check_folder(arguments.images, "--images")
    check_folder(arguments.against_images, "--against-images")
    check_outputs([arguments.out / PAGE], [arguments.annotations, *arguments.against])
    make_folder(arguments.out)
    skeleton = None if arguments.skeleton is None else choose_skeleton(arguments.skeleton, "--skeleton")
    options = ReadOptions(skeleton, arguments.images, arguments.category, split=arguments.split)
    dataset = read_dataset(arguments.annotations, arguments.read_as, options)
    persons = check_persons(dataset)
    if not persons.trained.any():
        raise DataError(f"{arguments.annotations}: nobody in it trains; see the rules of docs/custom_dataset.md")
    keypoints = np.where(persons.trained[:, None, None], dataset.keypoints, 0)
    pairs = check_pairs(keypoints[persons.trained], dataset.skeleton.flip_index)
    exchanged = check_exchanged(keypoints, dataset.skeleton.flip_index)
    tell(dataset, persons, pairs, exchanged)
    duplicates = duplicate_section([], [], [], [])
    if arguments.images is not None and not arguments.no_hashes:
        of_others = replace(options, images=arguments.against_images or arguments.images, split=None)
        others = [read_dataset(path, options=of_others) for path in arguments.against]
        duplicates = compare_images(dataset, others, arguments)
    page = write_page(
        arguments.out, arguments.annotations.name, dataset, arguments.images, persons, pairs, exchanged, duplicates
    )
    print(page)


def tell(dataset: PoseDataset, persons: PersonCheck, pairs: PairCheck, exchanged: ExchangeCheck) -> None:
    """The findings in a few lines."""
    names = dataset.skeleton.keypoints
    print(f"{persons.trained.sum():,} of {len(dataset):,} annotations train, on {len(dataset.images):,} images")
    for rule, rows in persons.left_out.items():
        if len(rows):
            print(f"  left out: {len(rows):,} {rule}")
    for what, number in dataset.left_out.items():
        if number:
            print(f"  not read as it was: {number:,} {what}")
    if persons.boxed:
        print(f"  areas from boxes: {persons.boxed:,} persons have no outline's area, and AP reads higher")
    print("  sizes: " + ", ".join(f"{number:,} {name}" for name, number in persons.sizes.items()))
    print(f"  {len(persons.cut):,} touch the image's edge; {len(persons.outside):,} have joints outside their box")
    for word, found in (("wrong", pairs.wrong), ("missing", pairs.missing)):
        for one, other in found:
            print(f"  flip pair {word}: {names[one]} and {names[other]}")
    print(f"  {len(exchanged.exchanged):,} persons whose left and right seem exchanged ({exchanged.accuracy:.0%} told)")


def image_files(dataset: PoseDataset, folder: Path) -> list[ImageFile]:
    """A data set's images as files."""
    return [
        ImageFile(Path(find_image(str(folder), image.file_name)), (image.width, image.height))
        for image in dataset.images
    ]


def compare_images(dataset: PoseDataset, others: list[PoseDataset], arguments: argparse.Namespace) -> str:
    """The page's part about duplicates, of this data set and of other splits."""
    folder = arguments.against_images or arguments.images
    files = image_files(dataset, arguments.images)
    splits = [0] * len(files)
    for number, other in enumerate(others, 1):
        files += image_files(other, folder)
        splits += [number] * len(other.images)
    hashes, mirrored, broken = hash_images(files)
    across, within = split_duplicates(find_duplicates(hashes, mirrored, arguments.near), np.array(splits))
    print(f"  like images: {len(across):,} pairs across splits, {len(within):,} within one; {len(broken):,} unreadable")
    return duplicate_section(across, within, files, broken)


if __name__ == "__main__":
    main()
