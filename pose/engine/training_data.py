"""The data of a training run: both splits' loaders, and a look at the pictures before it starts."""

from __future__ import annotations

from torch.utils.data import DataLoader

from pose.config import Settings
from pose.datasets.coco import read_annotations
from pose.datasets.loading.loader import Batch, CropDataset, make_loader
from pose.datasets.pictures import BrokenPictures, broken_pictures
from pose.engine import distributed
from pose.engine.evaluate import make_test_loader, read_test_persons
from pose.errors import DataError

Loader = DataLoader[Batch | DataError]


def prepare_data(settings: Settings, check: bool = False) -> tuple[Loader, Loader, BrokenPictures]:
    """Opens both splits and says what they hold.

    Args:
        settings: ``data``, ``augmentation``, ``train`` and ``test`` are used.
        check: Decode every picture now and tell which are broken.

    Returns:
        Loaders of the training and of the validation persons, and the count of broken training pictures.

    Raises:
        DataError: A file is missing or wrong, or too many pictures are broken; one of validation is too many.
    """
    schedule = settings.train
    dataset = make_train_dataset(settings)
    boxes = schedule.validation_boxes if schedule.validation_boxes != "detected" else settings.data.boxes
    persons, left_out = read_test_persons(settings, boxes)
    train_loader = make_loader(
        dataset,
        schedule.batch_size,
        settings.data.workers,
        train=True,
        seed=schedule.seed,
        shard=distributed.shard(),
        accumulate=schedule.accumulate,
    )
    test_loader = make_test_loader(settings, persons)
    distributed.say(
        f"training on {len(dataset)} persons, validating on {len(persons)} ({schedule.validation_boxes} boxes)"
    )
    if left_out:
        distributed.say(f"{left_out} boxes are on pictures that the validation annotations do not name: left out")
    broken = BrokenPictures(settings.data.broken_share, len(dataset.image_indices))
    broken.add(dataset.problems, distributed.say)
    if check:
        broken.add(_check("training", dataset, settings.data.workers), distributed.say)
        in_test = _check("validation", test_loader.dataset, settings.data.workers)
        if in_test:
            raise DataError(f"{in_test[0]} ({len(in_test)} validation pictures are broken, none may be)")
    return train_loader, test_loader, broken


def make_train_dataset(settings: Settings) -> CropDataset:
    """The training persons' crops.

    Raises:
        DataError: A file is missing or wrong, or too many pictures are missing.
    """
    data, skeleton = settings.data, settings.skeleton()
    return CropDataset(
        read_annotations(data.path("train_annotations"), skeleton),
        data.path("train_images"),
        skeleton,
        tuple(data.input_size),
        settings.augmentation,
        settings.train.seed,
        broken_share=data.broken_share,
        reduce=data.reduced_decode,
        cache=data.path("crop_cache") if data.crop_cache is not None else None,
        workers=data.workers,
        tell=distributed.say,
    )


def _check(split: str, dataset: CropDataset, workers: int) -> list[str]:
    """Tells every broken picture of a split; the first process looks for all."""
    problems: list[str] = []
    if distributed.is_main():
        problems = broken_pictures(dataset.pictures, workers, dataset.image_indices)
    problems = distributed.from_main(problems)
    distributed.say(f"checked {len(dataset.image_indices)} {split} pictures: {len(problems)} are broken")
    for problem in problems:
        distributed.say(f"  {problem}")
    return problems
