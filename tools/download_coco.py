"""Fetch COCO 2017 for keypoints and unpack it in the layout that the configurations expect.

    python tools/download_coco.py --val        # annotations and val2017, 1.1 GB
    python tools/download_coco.py              # train2017 too, 20.4 GB (and as much again unpacked)
    python tools/download_coco.py --check      # only say what is there and what is missing

An interrupted download goes on where it stopped; sizes and hashes are checked. The detector boxes
that the published figures use cannot be fetched by a program: data/README.md says where they are.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
from pathlib import Path

from pose.command_line import CommandParser
from pose.config import DataSettings
from pose.datasets.download import COCO_2017, fetch, missing, unpack
from pose.errors import command


@command
def main() -> int:
    parser = CommandParser(__doc__)
    parser.add_argument("--root", type=Path, default=Path(DataSettings.root), help="default: %(default)s")
    parser.add_argument("--val", action="store_true", help="leave the training pictures out")
    parser.add_argument("--check", action="store_true", help="fetch nothing")
    parser.add_argument("--keep-archives", action="store_true", help="keep the zip files after unpacking")
    arguments = parser.parse_args()
    archives = [archive for archive in COCO_2017 if not (arguments.val and archive.name == "train2017.zip")]
    if not arguments.check:
        for archive in archives:
            if not missing([archive], arguments.root):
                continue
            path, downloaded = fetch(archive, arguments.root)
            unpack(archive, path, arguments.root)
            if downloaded and not arguments.keep_archives:
                path.unlink()
    absent = missing(archives, arguments.root)
    boxes = DataSettings.val.boxes
    if not Path(arguments.root, boxes).exists():
        absent.append(f"{boxes} (the published detector boxes; data/README.md says where they are)")
    for name in absent:
        print(f"missing: {arguments.root}/{name}")
    print(f"{arguments.root}: {'complete' if not absent else f'{len(absent)} missing'}")
    return 1 if absent else 0


if __name__ == "__main__":
    main()
