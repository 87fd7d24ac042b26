"""How fast training data come: one worker's way beside the plain ceiling of decoding and warping.

    python tools/benchmark_data.py CONFIG --cfg-options data.root=/data/coco
    python tools/benchmark_data.py configs/imagenet/resnet18_static.py --cfg-options data.root=/data/imagenet

The ceiling is cv2.imread and one cv2.warpAffine for the same persons and crops; of a classifier's images, cv2.imread
and one cv2.resize. The ways are measured
in turn, in CPU seconds of the process that does the work, so that a busy machine slows all alike; the
figures are persons per second of one core, medians over the rounds. --write docs/tables/data.md writes them as a page.
"""

from __future__ import annotations

import pose.missing_libraries  # noqa: F401 - first: it tells which extra a missing library is of

# isort: split
import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader

from pose.benchmark import machine
from pose.classification.dataset import ImageDataset
from pose.classification.folder import list_images
from pose.classification.settings import ClassifierSettings, load_classifier_settings
from pose.command_line import CommandParser, add_config_arguments, count, parse_options, settings_from
from pose.config import Settings, read_sections
from pose.datasets.crops import CropDataset
from pose.datasets.loading.loader import batches, make_loader
from pose.datasets.loading.order import EpochBatches
from pose.engine.training_data import make_train_dataset
from pose.errors import command
from pose.geometry import crop_affine
from pose.tables import Page, check_page, table_lines

BATCH = 32
CEILING = "decode and warp"
"""The name of the plain way: reading and warping, nothing else."""
WAYS = {
    "training way": dict(cache=False, reduced_decode=False),
    "reduced decoding": dict(cache=False, reduced_decode=True),
    "crop cache": dict(cache=True, reduced_decode=False),
    "crop cache, reduced decoding": dict(cache=True, reduced_decode=True),
}


@command
def main() -> None:
    parser = CommandParser(__doc__)
    add_config_arguments(parser)
    parser.add_argument("--rounds", type=count(), default=10, help="measurements of each way (default: %(default)s)")
    parser.add_argument("--write", type=Path, help="a Markdown file for the table; it is replaced")
    arguments = parser.parse_args()
    check_page(arguments.write, arguments.config)
    if "head" not in read_sections(arguments.config)[1].get("model", {}):
        options = {**parse_options(arguments.cfg_options), "data.workers": 1}
        return classifier(load_classifier_settings(arguments.config, options), arguments)
    settings = settings_from(arguments, data__workers=1)
    page = Page("Loading training data", f"{machine()}, OpenCV {cv2.__version__}, batches of {BATCH}, one worker")
    with tempfile.TemporaryDirectory() as folder:
        datasets = {name: _dataset(settings, folder, **options) for name, options in WAYS.items()}
        rates = measure(datasets, arguments.rounds)
    ceiling = np.array(rates[CEILING])
    rows = [
        [name, f"{np.median(rate):.0f}", f"{np.median(np.array(rate) / ceiling):.2f}"] for name, rate in rates.items()
    ]
    page.add(*table_lines(["way", "persons/s of a core", "of the ceiling"], rows, 1))
    page.write(arguments.write)
    return None


def classifier(settings: ClassifierSettings, arguments: argparse.Namespace) -> None:
    """The table of a classifier's input: its training images and the plain ceiling, in turn."""
    dataset = ImageDataset(list_images(settings.data.folder("train")), settings, train=True)
    loader = make_loader(dataset, BATCH, workers=1, train=True)
    for _ in batches(loader):  # starts the worker, and brings the files into memory
        pass
    rates = np.empty((arguments.rounds, 2))
    for epoch in range(1, arguments.rounds + 1):
        order = EpochBatches(len(dataset), BATCH, train=True)
        order.epoch = epoch
        paths = [dataset.images.path(row) for batch in order for _, row, _ in batch]
        started = time.process_time()
        for path in paths:
            cv2.resize(cv2.imread(path), dataset.input_size, interpolation=cv2.INTER_LINEAR)
        rates[epoch - 1] = len(paths) / (time.process_time() - started), load(loader, epoch)
    page = Page("Loading training images", f"{machine()}, OpenCV {cv2.__version__}, batches of {BATCH}, one worker")
    ceiling, own = np.median(rates, axis=0)
    share = np.median(rates[:, 1] / rates[:, 0])
    rows = [["decode and resize", f"{ceiling:.0f}", ""], ["training way", f"{own:.0f}", f"{share:.2f}"]]
    page.add(*table_lines(["way", "images/s of a core", "of the ceiling"], rows, 1))
    page.write(arguments.write)


def _dataset(settings: Settings, folder: str, cache: bool, reduced_decode: bool) -> CropDataset:
    """The training data set, read in one of the ways."""
    data = replace(
        settings.data, crop_cache=str(Path(folder).absolute()) if cache else None, reduced_decode=reduced_decode
    )
    return make_train_dataset(replace(settings, data=data))


def measure(ways: dict[str, CropDataset], rounds: int) -> dict[str, list[float]]:
    """Persons per CPU second of the ceiling and of each way, in turn, ``rounds`` times."""
    first, *_ = ways.values()
    loaders = {name: make_loader(dataset, BATCH, workers=1, train=True) for name, dataset in ways.items()}
    rates: dict[str, list[float]] = {CEILING: [], **{name: [] for name in ways}}
    for loader in loaders.values():
        for _ in batches(loader):  # starts the worker, and brings the files into memory
            pass
    for epoch in range(1, rounds + 1):
        rates[CEILING].append(decode_and_warp(first, epoch))
        for name, loader in loaders.items():
            rates[name].append(load(loader, epoch))
    return rates


def decode_and_warp(dataset: CropDataset, epoch: int) -> float:
    """Persons per CPU second of this process; paths and crops are made before the clock starts."""
    order = EpochBatches(len(dataset), BATCH, train=True)
    order.epoch = epoch
    keys = [key for batch in order for key in batch]
    paths = [str(dataset.images.path(dataset.persons.image_index[row])) for _, row, _ in keys]
    crops = [dataset.crop_of(*key) for key in keys]
    affines = [crop_affine(crop.center, crop.scale, dataset.input_size, crop.rotation, crop.flip) for crop in crops]
    started = time.process_time()
    for path, affine in zip(paths, affines, strict=True):
        cv2.warpAffine(cv2.imread(path), affine, dataset.input_size, flags=cv2.INTER_LINEAR)
    return len(keys) / (time.process_time() - started)


def load(loader: DataLoader, epoch: int) -> float:
    """Persons per CPU second of the loader's worker, which lives on between epochs and has nothing to do there."""
    loader.batch_sampler.epoch = epoch
    (worker,) = loader._iterator._workers
    clock = (~worker.pid << 3) | 2  # Linux: the clock of a process's CPU time
    started = time.clock_gettime(clock)
    count = sum(len(batch.rows) for batch in batches(loader))
    return count / (time.clock_gettime(clock) - started)


if __name__ == "__main__":
    main()
