"""Look at what a network finds on pictures that chance picked: many small drawn pictures on one sheet.

    python tools/contact_sheet.py data/people/val2017
    python tools/contact_sheet.py CONFIG CHECKPOINT FOLDER --count 40 --seed 0 --out contact_sheet.jpg

Network, boxes and detector are named as for tools/demo.py. The same seed picks the same pictures of a folder.
Pictures that cannot be read are named and left out; the exit status is then 1.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import sys
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from pose.command_line import CommandParser, count
from pose.errors import DataError, command
from pose.files import check_outputs
from pose.inference.command_line import add_predictor_arguments, make_predictor, network_files, take_network
from pose.inference.images import check_image_suffix, list_images, write_image
from pose.inference.inputs import ImageFiles
from pose.visualization import draw_poses, tile
from pose.wording import counted

BACKGROUND = 32
"""The gray of what a cell's picture leaves free."""


def in_cell(image: np.ndarray, side: int) -> np.ndarray:
    """(H, W, 3) uint8 shrunk or enlarged into the middle of (side, side, 3)."""
    height, width = image.shape[:2]
    factor = side / max(height, width)
    size = max(1, round(width * factor)), max(1, round(height * factor))
    cell = np.full((side, side, 3), BACKGROUND, np.uint8)
    left, top = (side - size[0]) // 2, (side - size[1]) // 2
    cell[top : top + size[1], left : left + size[0]] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return cell


@command
def main() -> int:
    parser = CommandParser(__doc__)
    add_predictor_arguments(parser, reads_input=True)
    parser.add_argument("--count", type=count(), default=40, help="pictures on the sheet (default: %(default)s)")
    parser.add_argument("--columns", type=count(), default=8, help="pictures a row (default: %(default)s)")
    parser.add_argument("--side", type=count(16), default=320, help="pixels of a picture's cell (default: %(default)s)")
    parser.add_argument("--seed", type=count(0), default=0, help="picks the pictures (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("contact_sheet.jpg"), help="the sheet (default: %(default)s)")
    arguments = parser.parse_intermixed_args()
    take_network(parser, arguments, reads_input=True)
    check_image_suffix(arguments.out)
    files = list_images(arguments.input)
    check_outputs([arguments.out], [*network_files(arguments), *files])
    picked = np.random.default_rng(arguments.seed).permutation(len(files))[: arguments.count]
    files = [files[row] for row in sorted(picked.tolist())]
    predictor = make_predictor(arguments)
    cells, persons = [], 0
    frames = ImageFiles(files, upright=True, warn=lambda message: tqdm.write(f"warning: {message}", file=sys.stderr))
    for frame in tqdm(frames, unit="picture", disable=None, leave=False):
        poses = predictor(frame.image)
        persons += len(poses)
        cells.append(in_cell(draw_poses(frame.image, poses), arguments.side))
    if not cells:
        raise DataError(f"{arguments.input}: none of {counted(len(files), 'picture')} can be read")
    write_image(arguments.out, tile(cells, arguments.columns))
    print(f"{arguments.out}: {counted(len(cells), 'picture')}, {counted(persons, 'person')}")
    return int(frames.skipped > 0)


if __name__ == "__main__":
    main()
