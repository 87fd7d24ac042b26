"""See the crops that a network would learn from, before anyone trains.

    python tools/browse_dataset.py configs/coco/mobilenet_v2_x0.5_type_b_dynamic.py
    python tools/browse_dataset.py CONFIG --split val --count 64 --out crops
    python tools/browse_dataset.py CONFIG --cfg-options augmentation.rotation_distribution=uniform

Writes sheets of crops, as augmented in an epoch, each with its keypoints (the person's left is orange,
the right is blue) and, to its right, the target heatmaps.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from pose import heatmap
from pose.command_line import CommandParser, add_config_arguments, settings_from
from pose.datasets.broken_images import BrokenImages
from pose.datasets.crops import CropDataset
from pose.datasets.train_set import TrainSet
from pose.engine.training_data import make_train_dataset
from pose.errors import command
from pose.files import check_outputs, make_folder
from pose.inference.images import write_image
from pose.models.pose_net import HEATMAP_STRIDE
from pose.visualization import draw_heatmaps, draw_truth, tile

COLUMNS, ROWS = 4, 4
"""Persons on a sheet."""


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("--split", choices=("train", "val"), default="train", help="default: %(default)s")
    parser.add_argument("--count", type=_positive, default=COLUMNS * ROWS, help="persons (default: %(default)s)")
    parser.add_argument("--epoch", type=_positive, default=1, help="whose augmentation (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path("browse"), help="folder for the sheets (default: %(default)s)")
    arguments = parser.parse_args()
    settings = settings_from(arguments)
    if arguments.split == "val":
        val = settings.data.val
        data = replace(settings.data, train=(TrainSet(val.annotations, val.images),))
        settings = replace(settings, data=data, augmentation=None)
    told: list[str] = []
    dataset = make_train_dataset(settings, told.append)
    order = np.random.default_rng((settings.train.seed, arguments.epoch)).permutation(len(dataset))
    rows = order[: arguments.count].tolist()
    folder = make_folder(arguments.out)
    sheets = -(-len(rows) // (COLUMNS * ROWS))
    check_outputs([folder / f"{arguments.split}_{number:03}.png" for number in range(1, sheets + 1)])
    broken = BrokenImages(settings.data.broken_share, len(dataset.image_indices))
    broken.add(dataset.problems)
    for number, start in enumerate(range(0, len(rows), COLUMNS * ROWS), 1):
        path = folder / f"{arguments.split}_{number:03}.png"
        write_sheet(path, dataset, arguments.epoch - 1, rows[start : start + COLUMNS * ROWS], broken, told)
        print(path)
    print("\n".join(told), file=sys.stderr)  # the sheets' names are the output


def write_sheet(
    path: Path, dataset: CropDataset, epoch: int, rows: list[int], broken: BrokenImages, told: list[str]
) -> None:
    """Writes the crops of some persons with keypoints and targets, and adds what is to be told of their pictures.

    Raises:
        DataError: Too many pictures cannot be used.
        OutputError: The file cannot be written.
    """
    batch = dataset.batch([(epoch, row) for row in rows])
    broken.add(batch.problems)
    dataset.notices.add(batch.notices, told.append)
    width, height = dataset.input_size
    targets, _ = heatmap.encode(
        torch.from_numpy(batch.keypoints),
        torch.from_numpy(batch.weights),
        (width // HEATMAP_STRIDE, height // HEATMAP_STRIDE),
        HEATMAP_STRIDE,
    )
    cells = []
    for crop, points, labeled, target in zip(batch.crops.numpy(), batch.keypoints, batch.labeled, targets, strict=True):
        pair = draw_truth(crop, points, labeled, dataset.skeleton), draw_heatmaps(crop, target.numpy())
        cells.append(np.concatenate(pair, axis=1))
    write_image(path, tile(cells, COLUMNS))


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


if __name__ == "__main__":
    main()
