"""The data of a training run: both splits' loaders, and a look at the pictures before it starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

from torch.utils.data import DataLoader

from pose.config import Settings
from pose.datasets.broken_images import BrokenImages, still_broken
from pose.datasets.crops import Batch, CropDataset
from pose.datasets.image_folder import broken_images
from pose.datasets.image_names import linked
from pose.datasets.loading.loader import dataset_of, make_loader
from pose.datasets.train_sets import TrainPersons, read_train_sets
from pose.engine import distributed
from pose.engine.evaluate import TestSet, open_test_set, read_truth
from pose.errors import DataError
from pose.evaluation.coco_eval import annotation_notices

Loader = DataLoader[Batch | DataError]


class RunData(NamedTuple):
    """The data of a run.

    Attributes:
        train_loader: Loads the training persons.
        test_set: The validation persons.
        broken: Counts training pictures that cannot be used.
        told: What was said of each split, who was left out and why among it: ``training`` and ``validation`` to lines.
    """

    train_loader: Loader
    test_set: TestSet
    broken: BrokenImages
    told: dict[str, list[str]]

    def told_so_far(self) -> dict[str, list[str]]:
        """``told``, and what is to be said of the pictures that were read so far, by this process."""
        trained = dataset_of(self.train_loader, CropDataset).notices.lines
        return {
            "training": [*self.told["training"], *trained],
            "validation": [*self.told["validation"], *self.test_set.image_notices],
        }


def prepare_data(settings: Settings, check: bool = False) -> RunData:
    """Opens both splits and says what they hold. What scoring will refuse is refused now.

    Args:
        settings: ``data``, ``augmentation``, ``train`` and ``test`` are used.
        check: Decode every picture now and tell which are broken.

    Raises:
        DataError: A file is missing or wrong, or too many pictures are broken; one of validation is too many.
    """
    schedule = settings.train
    read = _read(settings)
    dataset = _make_dataset(settings, read)
    boxes = schedule.validation_boxes if schedule.validation_boxes != "detected" else settings.data.val.boxes
    test_set = open_test_set(settings, settings.data.val, boxes)
    train_loader = make_loader(
        dataset,
        schedule.batch_size,
        settings.data.workers,
        train=True,
        seed=schedule.seed,
        shard=distributed.shard(),
        accumulate=schedule.accumulate,
        draws=read.draws,
    )
    for line in read.told:
        distributed.say(f"training set {line}")
    distributed.say(
        f"training on {len(dataset)} persons, validating on {len(test_set.persons)} ({schedule.validation_boxes} boxes)"
    )
    truth = read_truth(settings, test_set.split) if distributed.is_main() else None
    validated = [] if truth is None else [*annotation_notices(truth), *test_set.notices]
    validated += _also_trained_on(settings, dataset, dataset_of(test_set.loader, CropDataset))
    for line in validated:
        distributed.say(f"validation set {line}")
    indices = dataset.image_indices.tolist()

    def again(messages: Sequence[str]) -> list[str]:
        images = dataset.images
        return still_broken(map(images.path, indices), lambda place: images.read(indices[place]), messages)

    broken = BrokenImages(settings.data.broken_share, len(indices), again)
    broken.add(dataset.problems, distributed.say)
    if check:
        broken.add(_check("training", dataset, settings.data.workers), distributed.say)
        in_test = _check("validation", dataset_of(test_set.loader, CropDataset), settings.data.workers)
        if in_test:
            raise DataError(f"{in_test[0]} ({len(in_test)} validation pictures are broken, none may be)")
    return RunData(train_loader, test_set, broken, {"training": list(read.told), "validation": validated})


def make_train_dataset(settings: Settings, tell: Callable[[str], None] | None = None) -> CropDataset:
    """The training persons' crops.

    Args:
        settings: ``data`` and ``augmentation`` are used.
        tell: Takes the lines about who is left out and why.

    Raises:
        DataError: A file is missing or wrong, or too many pictures are missing.
    """
    read = _read(settings)
    if tell is not None:
        for line in read.told:
            tell(line)
    return _make_dataset(settings, read)


def _read(settings: Settings) -> TrainPersons:
    data = settings.data
    return read_train_sets(data.train, data.root, settings.skeleton(), data.category)


def _make_dataset(settings: Settings, read: TrainPersons) -> CropDataset:
    data = settings.data
    return CropDataset(
        read.persons,
        read.image_root,
        settings.skeleton(),
        data.input_size,
        settings.augmentation,
        settings.train.seed,
        broken_share=data.broken_share,
        reduced_decode=data.reduced_decode,
        crop_cache=data.path(data.crop_cache) if data.crop_cache is not None else None,
        workers=data.workers,
        tell=distributed.say,
    )


def _also_trained_on(settings: Settings, trained: CropDataset, validated: CropDataset) -> list[str]:
    """A line where validation pictures are trained on, too.

    Raises:
        DataError: They are, although sets hold pictures out to validate on.
    """
    pictures, learned = (
        {linked(each.images.path(index)) for index in each.image_indices.tolist()} for each in (validated, trained)
    )
    both = len(pictures & learned)
    if not both:
        return []
    what = f"{settings.data.path(settings.data.val.annotations)}: {both:,} of {len(pictures):,} pictures are trained on"
    if any(each.hold_out for each in settings.data.train):
        raise DataError(
            f"{what}, although training sets hold pictures out; `python tools/split_dataset.py CONFIG` writes those "
            "that they hold out now"
        )
    return [f"{what}, too: its figures say nothing of other pictures"]


def _check(split: str, dataset: CropDataset, workers: int) -> list[str]:
    """Tells every broken picture of a split; the first process looks for all."""
    problems: list[str] = []
    if distributed.is_main():
        problems = broken_images(dataset.images, workers, dataset.image_indices)
    problems = distributed.from_main(problems)
    distributed.say(f"checked {len(dataset.image_indices)} {split} pictures: {len(problems)} are broken")
    for problem in problems:
        distributed.say(f"  {problem}")
    return problems
