"""Hold pictures of training sets out, to choose by.

    python tools/split_dataset.py data/lsp/person_keypoints_train.json --hold-out 500
    python tools/split_dataset.py configs/people/mobilenet_v2_x1.0_type_b_static.py

The first writes person_keypoints_train_fit.json and person_keypoints_train_held_out.json beside it: train on the first,
choose epochs and options by the second, and leave the test pictures for the end. The same seed chooses the same
pictures; with --images, those that look the same stay on one side. The second is for configurations whose training sets
say `hold_out` themselves: training leaves those pictures out, and here they become one file of the configuration's
skeleton, its `data.val.annotations`.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path
from typing import Any

from pose.command_line import CommandParser, count, parse_options
from pose.config import load_settings
from pose.datasets.coco import read_tables
from pose.datasets.image_names import find_image
from pose.datasets.split import hold_out
from pose.datasets.train_sets import held_out
from pose.errors import DataError, command
from pose.files import check_outputs, write_json
from pose.inspection.duplicates import ImageFile, find_duplicates, hash_images
from pose.options import OptionError
from pose.wording import counted


@command
def main() -> None:
    parser = CommandParser(__doc__)
    parser.add_argument("source", type=Path, help="annotation file in COCO's format, or a configuration")
    parser.add_argument("--hold-out", type=count(), metavar="N", help="pictures of an annotation file to hold out")
    parser.add_argument("--category", help="the persons' in it, name or id (default: the one with keypoints)")
    parser.add_argument("--seed", type=count(0), help="of the choice in an annotation file (default: 0)")
    parser.add_argument("--images", type=Path, help="folder of the pictures: those that look the same, by whatever "
                        "names, stay on one side")  # fmt: skip
    parser.add_argument("--out-dir", type=Path, help="default: beside the annotation file")
    parser.add_argument(
        "--cfg-options", nargs="+", action="extend", default=[], metavar="KEY=VALUE", help="data.root=FOLDER"
    )
    arguments = parser.parse_args()
    if arguments.source.suffix == ".py":
        for name in ("hold_out", "category", "seed", "images", "out_dir"):
            if getattr(arguments, name) is not None:
                option = "--" + name.replace("_", "-")
                raise OptionError(f"{option}: is for annotation files; of {arguments.source} its own values are taken")
        settings = load_settings(arguments.source, parse_options(arguments.cfg_options))
        data = settings.data
        check_outputs([data.path(data.val.annotations)], [data.path(each.annotations) for each in data.train])
        held, told = held_out(data.train, data.root, settings.skeleton(), data.category)
        for line in told:
            print(line)
        write(data.path(data.val.annotations), held)
        return
    if arguments.hold_out is None:
        raise OptionError("--hold-out: say how many pictures of the annotation file")
    folder = arguments.out_dir or arguments.source.parent
    targets = [folder / f"{arguments.source.stem}_{name}.json" for name in ("fit", "held_out")]
    check_outputs(targets, [arguments.source])
    whole = read_tables(arguments.source)
    alike = like_pictures(whole, arguments.images) if arguments.images else []
    parts = hold_out(
        whole, arguments.hold_out, arguments.seed or 0, arguments.source, arguments.category, alike=alike, tell=print
    )
    for path, part in zip(targets, parts, strict=True):
        write(path, part)


def like_pictures(annotations: dict[str, Any], folder: Path) -> list[tuple[int, int]]:
    """Pairs of rows of ``images`` that look the same, mirrored or not, and a line about how many there are."""
    if not folder.is_dir():
        raise DataError(f"{folder}: is no folder; --images needs that of the pictures")
    names = [str(image.get("file_name", "")) for image in annotations["images"]]
    hashes, mirrored, broken = hash_images([ImageFile(Path(find_image(str(folder), name))) for name in names])
    pairs = [(each.first, each.second) for each in find_duplicates(hashes, mirrored)]
    print(f"{len(pairs):,} pairs of pictures look the same and stay on one side; {len(broken):,} cannot be read")
    return pairs


def write(path: Path, annotations: dict[str, Any]) -> None:
    write_json(path, annotations)
    pictures, persons = len(annotations["images"]), len(annotations["annotations"])
    print(f"{path}: {counted(pictures, 'picture')}, {counted(persons, 'person')}")


if __name__ == "__main__":
    main()
